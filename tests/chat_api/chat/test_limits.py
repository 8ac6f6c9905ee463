"""Message rates: counted in Redis for all replicas, more strictly by each alone while Redis is away."""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from chat_api.chat.bot import Bot
from chat_api.chat.limits import MessageRates, RateLimited, Rates
from chat_api.core.bot_config import BotConfig, OrgLimits
from tests.chat_api.chat_world import wait_until

pytestmark = pytest.mark.stack
MANY = 1_000
AT_ONCE = 150
RATES = Rates(visitor=MANY, address=MANY, bot=MANY, org=MANY)
NOWHERE = "redis://127.0.0.1:1/0"


def some_bot(number: int = 1, org: int = 1, **limits: int) -> Bot:
    """A bot of an org."""
    return Bot(UUID(int=org), UUID(int=number), "Robin", BotConfig(), limits=OrgLimits(**limits))  # type: ignore[arg-type]


def let_through(
    url: str, rates: Rates, *messages: tuple[Bot, str, str | None], replicas: int = 1
) -> tuple[list[int], list[float]]:
    """Which messages (by index) get through, and how long the others are told to wait."""

    async def run() -> tuple[list[int], list[float]]:
        counting = [MessageRates(rates, url) for _ in range(replicas)]
        through, waits = [], []
        for number, message in enumerate(messages):
            try:
                await counting[number % replicas].take(*message)
                through.append(number)
            except RateLimited as error:
                waits.append(error.retry_after or 0)
        for one in counting:
            await one.aclose()
        return through, waits

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("rates", "others"),
    [
        (replace(RATES, visitor=3), [(some_bot(), "b", "1"), (some_bot(2), "a", "1"), (some_bot(1, 2), "a", "1")]),
        (replace(RATES, address=3), [(some_bot(), "a", "2"), (some_bot(), "a", None)]),
        (replace(RATES, bot=3), [(some_bot(2), "a", "1"), (some_bot(1, 2), "a", "1")]),
        (replace(RATES, org=3), [(some_bot(1, 2), "a", "1")]),
    ],
)
def test_one_too_many_is_refused_and_others_are_not(
    redis_url: str, rates: Rates, others: list[tuple[Bot, str, str | None]]
) -> None:
    mine = [(some_bot(), "a", "1")] * 5
    through, waits = let_through(redis_url, rates, *mine, *others)
    assert through == [0, 1, 2, *range(5, 5 + len(others))]
    assert len(waits) == 2
    assert all(1 <= wait <= 120 for wait in waits)


def test_replicas_count_together(redis_url: str) -> None:
    through, _ = let_through(redis_url, replace(RATES, visitor=4), *[(some_bot(), "a", "1")] * 9, replicas=3)
    assert len(through) == 4


def test_the_orgs_own_limit_counts(redis_url: str) -> None:
    bots = [some_bot(number, messages_per_minute=2) for number in range(4)]
    assert let_through(redis_url, RATES, *[(bot, "a", "1") for bot in bots])[0] == [0, 1]
    assert let_through(redis_url, RATES, (some_bot(org=9, messages_per_minute=0), "a", "1")) == ([], [60])


def test_what_is_refused_to_one_visitor_does_not_use_up_the_bots_rate(redis_url: str) -> None:
    rates = replace(RATES, visitor=2, bot=4)
    through, _ = let_through(redis_url, rates, *[(some_bot(), "a", "1")] * 20, *[(some_bot(), "b", "2")] * 2)
    assert through == [0, 1, 20, 21]


def test_many_at_once_are_counted_together(redis_url: str) -> None:
    async def through(visitor: str) -> int:
        counting = MessageRates(replace(RATES, visitor=AT_ONCE), redis_url)
        taken = [counting.take(some_bot(), visitor, None) for _ in range(AT_ONCE)]
        refused = [one for one in await asyncio.gather(*taken, return_exceptions=True) if one is not None]
        await counting.aclose()
        assert all(isinstance(one, RateLimited) for one in refused)
        return AT_ONCE - len(refused)

    # A replica that believes Redis away lets a fourth through; on a busy machine it may be right.
    wait_until(lambda: asyncio.run(through(str(uuid4()))) == AT_ONCE)


def test_without_redis_each_replica_is_stricter() -> None:
    through, _ = let_through(NOWHERE, replace(RATES, visitor=8), *[(some_bot(), "a", "1")] * 9)
    assert len(through) == 2
    assert len(let_through(NOWHERE, replace(RATES, visitor=1), *[(some_bot(), "a", "1")] * 3)[0]) == 1
