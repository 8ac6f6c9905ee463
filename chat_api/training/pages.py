"""The ledger of a source: every URL that a generation met, and what came of it."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.core.errors import training_errors
from chat_api.core.keys import OF_GENERATION, OF_SOURCE
from chat_api.core.refusals import UnknownResource
from chat_api.paging import cursor_at, place_of

MAX_GENERATION = 2**31 - 1
UNPLACED = 2**31 - 1
"""Stands for the place of what was not read: after all that was."""
PLACE = TypeAdapter(
    tuple[
        Annotated[int, Field(ge=0, le=MAX_GENERATION)],
        Annotated[int, Field(ge=0, le=UNPLACED)],
        Annotated[str, Field(pattern=r"^[^\x00]*$")],
    ]
)


class UnknownGeneration(UnknownResource):
    """This source has no generation of this number."""

    code = "unknown_generation"


class LedgerPage(BaseModel):
    """What came of one URL. `chunks` above zero beside an error: the text read before goes on answering."""

    url: str
    outcome: str
    message: str | None
    http_status: int | None
    fetched_at: datetime | None
    content_sha256: str | None
    chunks: int


class Ledger(BaseModel):
    """Pages in the order in which they were read, then the addresses that were not."""

    generation: int | None
    pages: list[LedgerPage]
    next_cursor: str | None


# Of what was discarded the ledger is shown that the newest run has left, if that failed.
CHOOSE = text(f"""
    WITH newest AS (
        SELECT generation, status FROM training_jobs
        WHERE {OF_SOURCE} AND status IN ('succeeded', 'failed', 'quarantined') ORDER BY created_at DESC LIMIT 1
    ), failed AS (
        SELECT generation FROM newest JOIN generations USING (generation) JOIN sources USING (org_id, bot_id, source_id)
        WHERE {OF_SOURCE} AND status <> 'succeeded' AND state = 'discarded' AND deleted_at IS NULL
    )
    SELECT generation, state = 'discarded' AS gone,
           CASE WHEN generation = live_generation THEN (SELECT generation FROM failed) END AS failed
    FROM generations JOIN sources USING (org_id, bot_id, source_id)
    WHERE {OF_SOURCE} AND (state <> 'discarded' OR generation = (SELECT generation FROM failed))
      AND (CAST(:generation AS bigint) IS NULL OR generation = :generation)
    ORDER BY generation = live_generation DESC NULLS LAST, generation DESC LIMIT 1
""")  # noqa: S608  # the parts are our own, here and below
# Beside the live generation's own pages stand the errors of a newer run that failed. None of what it read answers.
PAGES = text(f"""
    WITH failed AS (
        SELECT * FROM pages WHERE {OF_SOURCE} AND generation = CAST(:failed AS int) AND outcome = ANY (:errors)
    ), page AS (
        SELECT * FROM pages WHERE {OF_GENERATION}
    ), shown AS (
        SELECT url, coalesce(failed.outcome, page.outcome) AS outcome,
               CASE WHEN failed.outcome IS NULL THEN page.message ELSE failed.message END AS message,
               CASE WHEN failed.outcome IS NULL THEN page.http_status ELSE failed.http_status END AS http_status,
               CASE WHEN failed.outcome IS NULL THEN page.fetched_at ELSE failed.fetched_at END AS fetched_at,
               encode(page.content_sha256, 'hex') AS content_sha256,
               CASE WHEN :gone THEN 0 ELSE coalesce(page.chunks, 0) END AS chunks,
               coalesce(page.position, {UNPLACED}) AS place
        FROM page FULL JOIN failed USING (url)
    )
    SELECT * FROM shown WHERE (place, url) > (:place, :url) ORDER BY place, url LIMIT :limit
""")  # noqa: S608
ERRORS = [error.code for error in training_errors()]


async def read_ledger(
    chat: AsyncSession, source: dict[str, UUID], generation: int | None, cursor: str | None, limit: int
) -> Ledger:
    """A page of the ledger of one generation: the one asked for, else the live one, or without one the newest.

    `source` is org_id, bot_id, source_id. The newest run's own, where that failed, can be asked for, and what could not
    be read in it stands in the live one's. A cursor stays with its generation, also when another goes live. Raises
    UnknownGeneration, also for one that is discarded otherwise; InvalidRequest.
    """
    place, url = -1, ""
    if cursor:
        generation, place, url = place_of(cursor, PLACE)
    chosen = (await chat.execute(CHOOSE, {**source, "generation": generation})).one_or_none()
    if chosen is None:
        if generation is None:
            return Ledger(generation=None, pages=[], next_cursor=None)
        raise UnknownGeneration
    values: dict[str, Any] = {**source, **chosen._mapping, "errors": ERRORS}
    values |= {"place": place, "url": url, "limit": limit + 1}
    rows = (await chat.execute(PAGES, values)).all()
    pages = [LedgerPage.model_validate(row, from_attributes=True) for row in rows[:limit]]
    more = cursor_at(chosen.generation, rows[limit - 1].place, rows[limit - 1].url) if len(rows) > limit else None
    return Ledger(generation=chosen.generation, pages=pages, next_cursor=more)
