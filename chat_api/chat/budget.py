"""Token budgets: set aside before a model is called, settled after, with Postgres as the ledger."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from chat_api.chat.bot import Bot
from chat_api.chat.journal import CLOSED, Hold
from chat_api.core.database import AsyncEngines, Said
from chat_api.core.prices import cost_microusd
from chat_api.core.refusals import TooManyRequests

NEAR = 0.8
"""Of a budget: once so much is spent, the cheaper model answers."""
log = structlog.get_logger(__name__)


class BudgetExhausted(TooManyRequests):
    """The budget for answers is used up. Please come back later."""

    code = "budget_exhausted"


class Step(enum.Enum):
    """What a budget allows: the bot's own model, the cheaper one, or answers that cost nothing."""

    FULL = "full"
    CHEAPER = "cheaper"
    FREE_ONLY = "free_only"


@dataclass(frozen=True, slots=True)
class Use:
    """What one turn used of a model, for a purpose of `usage_days`."""

    purpose: str
    model: str
    prompt_tokens: int
    completion_tokens: int = 0
    calls: int = 1


@dataclass(slots=True)
class Allowance:
    """What one turn may spend, and what it has set aside for that."""

    step: Step = Step.FULL
    exhausted: bool = False
    """Whether nothing at all is left, so that not even a short answer could be paid."""
    retry_after: float | None = None
    """Seconds until there is a new budget."""
    reservation_id: UUID = field(default_factory=uuid4)


# Taken in a statement of its own: the next one then sees what everybody before has set aside.
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('budget ' || CAST(:org_id AS text), 0))")
RESERVE = text("""
    WITH today AS (
        SELECT CAST(now() AT TIME ZONE 'UTC' AS date) AS day,
               CAST(date_trunc('month', now() AT TIME ZONE 'UTC') AS date) AS month
    ), spent AS MATERIALIZED (
        SELECT (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM usage_days
                WHERE org_id = :org_id AND bot_id = :bot_id AND usage_days.day = today.day
                  AND purpose IN ('chat', 'rewrite', 'query'))
             + (SELECT coalesce(sum(tokens), 0) FROM budget_reservations
                WHERE org_id = :org_id AND bot_id = :bot_id AND budget_reservations.day = today.day) AS daily,
               (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM usage_days
                WHERE org_id = :org_id AND usage_days.day >= today.month AND purpose <> 'fetch')
             + (SELECT coalesce(sum(tokens), 0) FROM budget_reservations
                WHERE org_id = :org_id AND budget_reservations.day >= today.month) AS monthly
        FROM today
    ), kept AS (
        INSERT INTO budget_reservations AS reserved (org_id, bot_id, reservation_id, day, tokens)
        SELECT :org_id, :bot_id, :reservation_id, day, :tokens FROM today, spent
        WHERE daily + :tokens <= coalesce(CAST(:daily AS bigint), daily + :tokens)
          AND monthly + :tokens <= coalesce(CAST(:monthly AS bigint), monthly + :tokens)
        ON CONFLICT (org_id, bot_id, reservation_id) DO UPDATE SET tokens = reserved.tokens + excluded.tokens
        RETURNING 1
    )
    SELECT CAST(daily AS bigint) AS daily, CAST(monthly AS bigint) AS monthly, EXISTS (SELECT FROM kept) AS kept
    FROM spent
""")
SETTLE = """
    WITH settled AS (
        DELETE FROM budget_reservations
        WHERE org_id = :org_id AND bot_id = :bot_id AND reservation_id = :reservation_id
    ), forgotten AS (
        DELETE FROM budget_reservations
        WHERE org_id = :org_id AND bot_id = :bot_id
          AND day < CAST(date_trunc('month', now() AT TIME ZONE 'UTC') AS date)
    )
    INSERT INTO usage_days AS used
        (org_id, bot_id, day, purpose, model, calls, prompt_tokens, completion_tokens, cost_microusd)
    SELECT :org_id, :bot_id, CAST(now() AT TIME ZONE 'UTC' AS date), purpose, model, sum(calls), sum(prompt_tokens),
           sum(completion_tokens), sum(cost)
    FROM unnest(CAST(:purposes AS text[]), CAST(:models AS text[]), CAST(:calls AS bigint[]),
                CAST(:prompts AS bigint[]), CAST(:completions AS bigint[]), CAST(:costs AS bigint[]))
         AS use (purpose, model, calls, prompt_tokens, completion_tokens, cost)
    WHERE {booked}
    GROUP BY purpose, model ORDER BY purpose, model
    ON CONFLICT (org_id, bot_id, day, purpose, model) DO UPDATE
    SET calls = used.calls + excluded.calls, prompt_tokens = used.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = used.completion_tokens + excluded.completion_tokens,
        cost_microusd = used.cost_microusd + excluded.cost_microusd
"""
SETTLE_NOW = text(SETTLE.format(booked="true"))
SETTLE_CLOSED = text(SETTLE.format(booked=CLOSED))


class Budgets:
    """The budgets of all bots and orgs; a bot without one costs no statement."""

    def __init__(self, engines: AsyncEngines, prices: Mapping[str, Sequence[float]]) -> None:
        """`prices`: USD per million tokens, by model."""
        self._engines, self._prices = engines, prices

    async def reserve(self, bot: Bot, tokens: int, allowance: Allowance) -> None:
        """Sets `tokens` more aside for a turn, or leaves it with what costs nothing: see `allowance` afterwards.

        Of those who ask at once, only so many get something as there is. Raises SQLAlchemyError.
        """
        daily, monthly = bot.config.daily_token_budget, bot.limits.monthly_tokens
        if daily is None and monthly is None:
            return
        values = {
            **{"org_id": bot.org_id, "bot_id": bot.bot_id, "reservation_id": allowance.reservation_id},
            **{"tokens": tokens, "daily": daily, "monthly": monthly},
        }
        _, [row] = await self._engines.trip(bot.org_id, (ONE_AT_A_TIME, {"org_id": bot.org_id}), (RESERVE, values))
        spent = [(row.daily, daily, next_day), (row.monthly, monthly, next_month)]
        limits = [(used, limit, renewed) for used, limit, renewed in spent if limit is not None]
        # A budget that still has room for this is not what the turn waits for.
        full = [renewed for used, limit, renewed in limits if used + tokens > limit]
        allowance.exhausted = any(used >= limit for used, limit, _ in limits)
        if not row.kept:
            now = datetime.now(UTC)
            allowance.step = Step.FREE_ONLY
            allowance.retry_after = max((renewed(now) - now).total_seconds() for renewed in full)
        elif any(used + tokens > NEAR * limit for used, limit, _ in limits):
            allowance.step = Step.CHEAPER

    def settling(self, bot: Bot, allowance: Allowance, uses: Sequence[Use], closed: Hold | None = None) -> Said:
        """Writes what a turn used, and gives back what it had set aside.

        With `closed` it is written behind that hold's CLOSE, where that has closed the answer.
        """
        costs = [cost_microusd(self._prices, use.model, use.prompt_tokens, use.completion_tokens) for use in uses]
        values = {
            **{"org_id": bot.org_id, "bot_id": bot.bot_id, "reservation_id": allowance.reservation_id},
            "purposes": [use.purpose for use in uses],
            "models": [use.model for use in uses],
            "calls": [use.calls for use in uses],
            "prompts": [use.prompt_tokens for use in uses],
            "completions": [use.completion_tokens for use in uses],
            "costs": [cost or 0 for cost in costs],
        }
        return (SETTLE_CLOSED, {**values, **closed.values()}) if closed else (SETTLE_NOW, values)

    async def settle(self, bot: Bot, allowance: Allowance, uses: Sequence[Use]) -> None:
        """Does what `settling` says for what has no turn of its own; a database that is away is the operator's business."""
        try:
            await self._engines.trip(bot.org_id, self.settling(bot, allowance, uses))
        except SQLAlchemyError as error:
            log.error("usage_not_recorded", error=type(error).__name__)  # noqa: TRY400  # whoever asked has the answer


def next_day(now: datetime) -> datetime:
    """The first moment of the next day (UTC), when a daily budget begins anew."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def next_month(now: datetime) -> datetime:
    """The first moment of the next month (UTC), when a monthly budget begins anew."""
    within = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)
    return within.replace(day=1)
