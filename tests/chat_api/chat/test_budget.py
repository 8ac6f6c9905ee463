"""Token budgets: what is set aside and settled, by many at once, and what a budget that is nearly used up allows."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chat_api.chat.bot import Bot
from chat_api.chat.budget import Allowance, Budgets, Step, Use, next_day, next_month
from chat_api.core.bot_config import BotConfig, OrgLimits
from chat_api.core.database import AsyncEngines

pytestmark = pytest.mark.stack
PRICES = {"m": (1.0, 2.0)}


class Ledger:
    """The budgets of one org on a database of the module's own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.org_id, self.bot_id = uuid4(), uuid4()

    def bot(self, daily: int | None = None, monthly: int | None = None, bot_id: UUID | None = None) -> Bot:
        """A bot of the org."""
        config = BotConfig(daily_token_budget=daily)
        return Bot(self.org_id, bot_id or self.bot_id, "Robin", config, limits=OrgLimits(monthly_tokens=monthly))

    def run(self, what: Callable[[Budgets, AsyncEngine], Any]) -> Any:
        """Does something with the budgets."""

        async def run() -> Any:
            engine = create_async_engine(self._dsn.replace("postgresql:", "postgresql+psycopg:"), pool_size=20)
            try:
                return await what(Budgets(AsyncEngines(engine, engine), PRICES), engine)
            finally:
                await engine.dispose()

        return asyncio.run(run())

    def reserve(self, bot: Bot, *tokens: int) -> list[Allowance]:
        """Sets tokens aside for turns, one after the other."""

        async def what(budgets: Budgets, _: AsyncEngine) -> list[Allowance]:
            allowances = [Allowance() for _ in tokens]
            for each, allowance in zip(tokens, allowances, strict=True):
                await budgets.reserve(bot, each, allowance)
            return allowances

        return self.run(what)  # type: ignore[no-any-return]

    def settle(self, bot: Bot, allowance: Allowance, *uses: Use) -> None:
        """Writes what a turn used."""

        async def what(budgets: Budgets, engine: AsyncEngine) -> None:
            await AsyncEngines(engine, engine).trip(bot.org_id, budgets.settling(bot, allowance, uses))

        self.run(what)

    def rows(self, query: str) -> list[Any]:
        """Rows of the org."""
        with psycopg.connect(self._dsn) as connection:
            return connection.execute(query.encode(), [self.org_id]).fetchall()

    def reserved(self) -> int:
        """Tokens that are set aside."""
        return int(self.rows("SELECT coalesce(sum(tokens), 0) FROM budget_reservations WHERE org_id = %s")[0][0])


@pytest.fixture
def ledger(module_chat_db: str) -> Ledger:
    """Budgets of an org nobody else has."""
    return Ledger(module_chat_db)


def test_steps_down_to_what_is_free(ledger: Ledger) -> None:
    found = ledger.reserve(ledger.bot(daily=100), 50, 30, 15, 10, 5, 1)
    assert [one.step for one in found] == [
        Step.FULL, Step.FULL, Step.CHEAPER, Step.FREE_ONLY, Step.CHEAPER, Step.FREE_ONLY,
    ]  # fmt: skip
    assert [one.exhausted for one in found] == [False] * 5 + [True]
    assert ledger.reserved() == 100
    assert 0 < (found[3].retry_after or 0) <= 86_400


def test_a_bot_without_a_budget_sets_nothing_aside(ledger: Ledger) -> None:
    assert ledger.reserve(ledger.bot(), 10**9)[0].step is Step.FULL
    assert ledger.reserved() == 0


def test_what_was_not_used_is_there_again_and_what_was_is_written(ledger: Ledger) -> None:
    bot = ledger.bot(daily=100)
    (first,) = ledger.reserve(bot, 90)
    assert ledger.reserve(bot, 20)[0].step is Step.FREE_ONLY
    ledger.settle(bot, first, Use("chat", "m", 10, 5), Use("query", "e", 3), Use("query", "e", 2))
    assert ledger.reserved() == 0
    assert ledger.reserve(bot, 80)[0].step is Step.CHEAPER
    assert ledger.reserve(bot, 1)[0].step is Step.FREE_ONLY
    used = ledger.rows(
        "SELECT purpose, model, calls, prompt_tokens, completion_tokens, cost_microusd FROM usage_days"
        " WHERE org_id = %s ORDER BY purpose"
    )
    assert used == [("chat", "m", 1, 10, 5, 20), ("query", "e", 2, 5, 0, 0)]


def test_a_month_is_the_orgs_and_a_day_the_bots(ledger: Ledger) -> None:
    one, two = ledger.bot(daily=50, monthly=100), ledger.bot(daily=50, monthly=100, bot_id=uuid4())
    assert ledger.reserve(one, 50)[0].step is Step.CHEAPER
    assert ledger.reserve(one, 1)[0].step is Step.FREE_ONLY
    assert ledger.reserve(two, 50)[0].step is Step.CHEAPER
    third = ledger.bot(monthly=100, bot_id=uuid4())
    (refused,) = ledger.reserve(third, 1)
    assert (refused.step, refused.exhausted) == (Step.FREE_ONLY, True)


def test_training_counts_for_the_month_alone(ledger: Ledger) -> None:
    bot = ledger.bot(daily=100, monthly=100)
    ledger.settle(bot, Allowance(), Use("embed", "e", 95))
    assert ledger.reserve(ledger.bot(daily=100), 10)[0].step is Step.FULL
    assert ledger.reserve(bot, 10)[0].step is Step.FREE_ONLY


def test_one_turn_may_set_aside_twice(ledger: Ledger) -> None:
    bot, allowance = ledger.bot(daily=100), Allowance()

    async def twice(budgets: Budgets, _: AsyncEngine) -> None:
        await budgets.reserve(bot, 10, allowance)
        await budgets.reserve(bot, 30, allowance)

    ledger.run(twice)
    assert ledger.reserved() == 40
    ledger.settle(bot, allowance)
    assert ledger.reserved() == 0


def test_a_hundred_at_once_do_not_overspend(ledger: Ledger) -> None:
    bot = ledger.bot(daily=1_000, monthly=900)

    async def attack(budgets: Budgets, _: AsyncEngine) -> list[Allowance]:
        allowances = [Allowance() for _ in range(100)]
        await asyncio.gather(*(budgets.reserve(bot, 30, allowance) for allowance in allowances))
        return allowances

    allowances = ledger.run(attack)
    assert sum(one.step is not Step.FREE_ONLY for one in allowances) == 30
    assert ledger.reserved() == 900


def test_what_a_dead_process_set_aside_counts_until_its_month_is_over(ledger: Ledger) -> None:
    bot = ledger.bot(daily=100)
    ledger.reserve(bot, 100)
    assert ledger.reserve(bot, 1)[0].exhausted
    ledger.rows("UPDATE budget_reservations SET day = day - 40 WHERE org_id = %s RETURNING 1")
    assert ledger.reserve(ledger.bot(daily=100, monthly=100), 50)[0].step is Step.FULL
    ledger.settle(bot, Allowance(), Use("chat", "m", 1))
    assert ledger.reserved() == 50, "what is of an earlier month is removed by the next turn"


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        (datetime(2026, 1, 31, 23, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 12, 5, 1, tzinfo=UTC), datetime(2026, 12, 6, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2028, 2, 28, 1, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_budget_begins_anew(now: datetime, day: datetime, month: datetime) -> None:
    assert (next_day(now), next_month(now)) == (day, month)
