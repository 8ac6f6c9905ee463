"""Questions that got no answer, for the owner: equal ones together, the most asked first."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.chat.access import View
from chat_api.core.words import EDGES
from chat_api.paging import cursor_at, place_of

LOOKED_AT = 20_000
"""Of a bot's unanswered questions, the newest that are counted."""
PLACE = TypeAdapter(
    tuple[
        Annotated[int, Field(ge=1, le=LOOKED_AT)], AwareDatetime, UUID, Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    ]
)


class UnansweredQuestion(BaseModel):
    """A question in the words in which it was last asked, and how often it was asked without an answer."""

    bot_id: UUID
    question: str
    count: int
    first_asked_at: datetime
    last_asked_at: datetime


class UnansweredPage(BaseModel):
    """Unanswered questions, the most asked first."""

    questions: list[UnansweredQuestion]
    next_cursor: str | None


# Two askings of one question are told as chat_api/core/words.py does it for the cached answers.
UNANSWERED = text("""
    WITH asked AS (
        SELECT turn.*, btrim(regexp_replace(lower(normalize(question, NFKC)), '\\s+', ' ', 'g'), :edges) AS form
        FROM bots AS bot CROSS JOIN LATERAL (
            SELECT bot_id, question, created_at FROM turns
            WHERE org_id = :org_id AND bot_id = bot.bot_id AND finish_reason = 'no_answer' AND error_code IS NULL
            ORDER BY created_at DESC LIMIT :looked_at
        ) AS turn
        WHERE bot.org_id = :org_id AND bot.deleted_at IS NULL
          AND (CAST(:bot_id AS uuid) IS NULL OR bot.bot_id = :bot_id)
    ), grouped AS (
        SELECT bot_id, md5(form) AS form, count(*) AS count, min(created_at) AS first_asked_at,
               max(created_at) AS last_asked_at, (array_agg(question ORDER BY created_at DESC))[1] AS question
        FROM asked GROUP BY bot_id, asked.form
    )
    SELECT * FROM grouped
    WHERE CAST(:count AS bigint) IS NULL
       OR (count, last_asked_at, bot_id, form) < (:count, CAST(:last AS timestamptz), CAST(:last_bot AS uuid), :form)
    ORDER BY count DESC, last_asked_at DESC, bot_id DESC, form DESC LIMIT :limit
""")


async def list_unanswered(connection: AsyncConnection, view: View, cursor: str | None, limit: int) -> UnansweredPage:
    """A page of the unanswered questions in view. Raises InvalidRequest for a cursor that is not ours.

    What is asked again between two pages may move to an earlier one.
    """
    count, last, last_bot, form = place_of(cursor, PLACE) if cursor else (None, None, None, None)
    place = {"count": count, "last": last, "last_bot": last_bot, "form": form, "limit": limit + 1}
    values = {"org_id": view.org_id, "bot_id": view.bot_id, "edges": EDGES, "looked_at": LOOKED_AT}
    rows = [row._asdict() for row in await connection.execute(UNANSWERED, {**values, **place})]
    found = [UnansweredQuestion.model_validate(row) for row in rows[:limit]]
    last_row = rows[limit - 1] if len(rows) > limit else None
    return UnansweredPage(questions=found, next_cursor=_cursor(last_row) if last_row else None)


def _cursor(row: dict[str, Any]) -> str:
    return cursor_at(row["count"], row["last_asked_at"].isoformat(), row["bot_id"], row["form"])
