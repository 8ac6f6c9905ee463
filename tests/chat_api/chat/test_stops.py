"""Stops that nobody's answer is found for cost the others nothing, however many there are."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from chat_api.chat.stops import AT_ONCE, MOST_PER_VISITOR, Stops

pytestmark = pytest.mark.anyio
ORG, BOT = uuid4(), uuid4()


class SlowJournal:
    """Takes stops until it is let go, and knows how many it had at once."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.at_once = self.most = 0
        self.let_go = asyncio.Event()

    async def request_stop(self, _org: UUID, _bot: UUID, visitor: str, _ask: str, _conversation: UUID | None) -> None:
        """Waits as a database that is busy."""
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.told.append(visitor)
        await self.let_go.wait()
        self.at_once -= 1


@pytest.fixture
def anyio_backend() -> str:
    """What the application runs on."""
    return "asyncio"


async def test_a_flood_of_stops_takes_few_connections_and_keeps_nobody_elses_waiting() -> None:
    journal: Any = SlowJournal()
    stops = Stops(journal)
    flood = [asyncio.create_task(stops.pass_on(ORG, BOT, "flooder", str(number), None)) for number in range(1_000)]
    others = [asyncio.create_task(stops.pass_on(ORG, BOT, f"visitor-{number}", "1", None)) for number in range(9)]
    await asyncio.sleep(0)
    journal.let_go.set()
    await asyncio.wait([*flood, *others])
    assert journal.most == AT_ONCE
    assert journal.told.count("flooder") == MOST_PER_VISITOR
    assert sum(visitor != "flooder" for visitor in journal.told) == len(others)


async def test_who_has_stopped_may_stop_again() -> None:
    journal: Any = SlowJournal()
    journal.let_go.set()
    stops = Stops(journal)
    for number in range(3 * MOST_PER_VISITOR):
        await stops.pass_on(ORG, BOT, "visitor", str(number), None)
    assert len(journal.told) == 3 * MOST_PER_VISITOR
