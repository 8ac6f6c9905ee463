"""What an org's bots used of their models, and what that cost: by bot, purpose and model."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.core.prices import cost_microusd
from chat_api.paging import cursor_at, place_of

Window = Literal["24h", "7d", "30d"]
Purpose = Literal["embed", "chat"]
LENGTHS: Mapping[Window, timedelta] = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
PLACE = TypeAdapter(tuple[UUID, Purpose, Annotated[str, Field(pattern=r"^[^\x00]*$")]])
Prices = Mapping[str, Sequence[float]]


class Spent(BaseModel):
    """Tokens and their cost in USD; null where a model that was used has no price."""

    prompt_tokens: int
    completion_tokens: int
    cost: float | None


class UsageRow(Spent):
    """What one bot used of one model. `calls` is how often; `parts` the tokens of each finer purpose.

    `embed` is the embedding model's work, on sources (`embed`) and on questions (`query`); `chat` is the chat model's,
    on answers (`chat`) and on follow-ups (`rewrite`).
    """

    bot_id: UUID
    purpose: Purpose
    model: str
    calls: int
    parts: dict[str, int]


class UsageTotal(Spent):
    """All of the window, whatever the page. `unpriced_models` are those without a price."""

    unpriced_models: list[str]


class UsagePage(BaseModel):
    """Usage of the days (UTC) that the window touches: from the beginning of its first one to now."""

    window: Window
    since: datetime
    until: datetime
    usage: list[UsageRow]
    total: UsageTotal
    next_cursor: str | None


SPENT = """
    CAST(sum(prompt_tokens) AS bigint) AS prompt_tokens, CAST(sum(completion_tokens) AS bigint) AS completion_tokens,
    CAST(sum(cost_microusd) AS bigint) AS cost_microusd,
    CAST(coalesce(sum(prompt_tokens) FILTER (WHERE cost_microusd = 0), 0) AS bigint) AS unpriced_prompt_tokens,
    CAST(coalesce(sum(completion_tokens) FILTER (WHERE cost_microusd = 0), 0) AS bigint) AS unpriced_completion_tokens
"""
LEDGER = """
    SELECT bot_id, model, purpose AS part, calls, prompt_tokens, completion_tokens, cost_microusd,
           CASE WHEN purpose IN ('embed', 'query') THEN 'embed' ELSE 'chat' END AS purpose
    FROM usage_days
    WHERE org_id = :org_id AND (CAST(:bot_id AS uuid) IS NULL OR bot_id = :bot_id)
      AND day >= CAST(:since AS date) AND purpose <> 'fetch'
"""
USED = text(f"""
    WITH ledger AS ({LEDGER}), parts AS (
        SELECT bot_id, purpose, model, jsonb_object_agg(part, tokens) AS parts FROM (
            SELECT bot_id, purpose, model, part, CAST(sum(prompt_tokens + completion_tokens) AS bigint) AS tokens
            FROM ledger GROUP BY bot_id, purpose, model, part
        ) AS part GROUP BY bot_id, purpose, model
    )
    SELECT bot_id, purpose, model, parts, CAST(sum(calls) AS bigint) AS calls, {SPENT}
    FROM ledger JOIN parts USING (bot_id, purpose, model)
    WHERE CAST(:after AS uuid) IS NULL OR (bot_id, purpose, model) > (CAST(:after AS uuid), :after_purpose, :after_model)
    GROUP BY bot_id, purpose, model, parts ORDER BY bot_id, purpose, model LIMIT :limit
""")  # noqa: S608  # parts of this module's own
BY_MODEL = text(f"WITH ledger AS ({LEDGER}) SELECT model, {SPENT} FROM ledger GROUP BY model ORDER BY model")  # noqa: S608


async def read_usage(
    connection: AsyncConnection,
    org_id: UUID,
    bot_id: UUID | None,
    window: Window,
    prices: Prices,
    *,
    cursor: str | None,
    limit: int,
) -> UsagePage:
    """A page of what an org, or one bot of it, used. `prices`: USD per million tokens, by model.

    Raises InvalidRequest for a cursor that is not ours.
    """
    until = datetime.now(UTC)
    since = (until - LENGTHS[window]).replace(hour=0, minute=0, second=0, microsecond=0)
    after, after_purpose, after_model = place_of(cursor, PLACE) if cursor else (None, None, None)
    values = {"org_id": org_id, "bot_id": bot_id, "since": since.date()}
    place = {"after": after, "after_purpose": after_purpose, "after_model": after_model, "limit": limit + 1}
    rows = (await connection.execute(USED, {**values, **place})).all()
    usage = [_row(row, prices) for row in rows[:limit]]
    last = usage[-1] if len(rows) > limit else None
    return UsagePage(
        window=window,
        since=since,
        until=until,
        usage=usage,
        total=_total((await connection.execute(BY_MODEL, values)).all(), prices),
        next_cursor=cursor_at(last.bot_id, last.purpose, last.model) if last else None,
    )


def _row(row: Row[Any], prices: Prices) -> UsageRow:
    return UsageRow(
        bot_id=row.bot_id,
        purpose=row.purpose,
        model=row.model,
        calls=row.calls,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cost=_usd(_cost(row, prices)),
        parts=row.parts,
    )


def _total(rows: Sequence[Row[Any]], prices: Prices) -> UsageTotal:
    costs = {row.model: _cost(row, prices) for row in rows}
    unpriced = [model for model, cost in costs.items() if cost is None]
    return UsageTotal(
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cost=None if unpriced else _usd(sum(cost or 0 for cost in costs.values())),
        unpriced_models=unpriced,
    )


def _cost(row: Row[Any], prices: Prices) -> int | None:
    """The cost in millionths of a dollar: as it was written, and at today's price where the ledger has none.

    The ledger writes 0 for a model without a price, so that zero is looked up again.
    """
    prompt, completion = row.unpriced_prompt_tokens, row.unpriced_completion_tokens
    if not prompt and not completion:
        return int(row.cost_microusd)
    looked_up = cost_microusd(prices, row.model, prompt, completion)
    return None if looked_up is None else int(row.cost_microusd) + looked_up


def _usd(microusd: int | None) -> float | None:
    return None if microusd is None else microusd / 1_000_000
