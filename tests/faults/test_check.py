"""The checker sees every way in which the chat database can differ from the truth."""

import random
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.local.client import DashboardClient
from tests.faults.breaks import MECHANISMS
from tests.faults.check import Chunk, Verdict, compare, judge
from tests.faults.content import Article
from tests.faults.ledger import ON_ITS_WAY_S, Bill, Ledger, identity
from tests.faults.provider import Call
from tests.faults.report import none_of, percentile
from tests.faults.scenarios.broken import MUST_NOTICE
from tests.faults.sources import Source
from workers.documents import Chunk as StoredChunk
from workers.store.rows import embedded_sha256

HERE = UUID(int=1)


def chunk(text: str, ordinal: int = 0, vector: str | None = "[1,0]") -> Chunk:
    return ("http://a/", "Heading", ordinal, None, text, text.encode(), vector)


TRUTH = {HERE: [chunk("one", 0), chunk("two", 1)]}
DIFFERENT: dict[str, tuple[list[Chunk], set[str]]] = {
    "the same": ([chunk("two", 1), chunk("one", 0)], set()),
    "one is missing": ([chunk("one", 0)], {"lost"}),
    "one is there twice": ([chunk("one", 0), chunk("two", 1), chunk("two", 1)], {"doubled"}),
    "one is of an older state": ([chunk("one", 0), chunk("two", 1), chunk("old", 2)], {"mixed"}),
    "one was replaced": ([chunk("one", 0), chunk("too", 1)], {"lost", "mixed"}),
    "one has another place": ([chunk("one", 0), chunk("two", 2)], {"lost", "mixed"}),
    "one has no vector": ([chunk("one", 0), chunk("two", 1, None)], {"lost", "mixed"}),
    "one has another vector": ([chunk("one", 0), chunk("two", 1, "[0,1]")], {"lost", "mixed"}),
    "none is there": ([], {"lost"}),
}


@pytest.mark.parametrize("how", DIFFERENT)
def test_chunks_beside_the_truth(how: str) -> None:
    chunks, wrong = DIFFERENT[how]
    verdict = Verdict()
    compare({HERE: chunks} if chunks else {}, TRUTH, verdict)
    assert {name for name in Verdict.__slots__ if getattr(verdict, name)} == wrong


def test_a_source_that_the_truth_has_not() -> None:
    verdict = Verdict()
    compare({HERE: [chunk("one")]}, {}, verdict)
    assert verdict.mixed == [HERE]


def source(client: DashboardClient, *, deleted: bool = False) -> Source:
    article = Article.new("key", random.Random(1)).edited(random.Random(2))
    return Source(HERE, client, uuid4(), "text", {"": article}, deleted=deleted)


@pytest.fixture
def client() -> DashboardClient:
    stack: Any = {}
    return DashboardClient(stack)


def words(made: Source) -> list[Chunk]:
    return [chunk(paragraph, place) for place, (_, paragraph) in enumerate(made.articles[""].sections())]


def verdict_of(made: Source, chunks: list[Chunk], *, job: str = "succeeded", told: str = "trained") -> set[str]:
    rows = [{"source_id": HERE, "status": job}], [{"id": HERE, "status": told}]
    verdict = judge({HERE: chunks} if chunks else {}, *rows, [made])
    return {name for name in Verdict.__slots__ if getattr(verdict, name)}


def test_a_source_that_says_what_it_must(client: DashboardClient) -> None:
    made = source(client)
    assert verdict_of(made, words(made)) == set()


def test_a_source_that_says_something_else(client: DashboardClient) -> None:
    made = source(client)
    old = chunk(f"Entry {made.forbidden[0]} is about the kettle.")
    for chunks in (words(made)[1:], [*words(made), words(made)[0]], [*words(made), old], []):
        assert verdict_of(made, chunks) == {"misread"}


def test_a_run_that_is_not_well(client: DashboardClient) -> None:
    made = source(client)
    expected = {"waiting": "stuck", "running": "stuck", "failed": "failed", "quarantined": "quarantined"}
    for status, name in expected.items():
        assert verdict_of(made, words(made), job=status) == {name}
    assert verdict_of(made, words(made), told="processing") == {"untold"}


def test_a_deleted_source_that_answers(client: DashboardClient) -> None:
    made = source(client, deleted=True)
    assert verdict_of(made, []) == set()
    assert verdict_of(made, words(made)) == {"resurrected"}


def test_articles_are_the_same_each_time_and_their_markers_nobody_elses() -> None:
    one, other = (Article.new(key, random.Random(7)) for key in ("one", "other"))
    assert Article.new("one", random.Random(7)) == one
    assert (one.markdown(), one.page(), one.pdf(), one.plain()) == (one.markdown(), one.page(), one.pdf(), one.plain())
    assert not set(one.markers) & set(other.markers)
    for body in (one.markdown(), one.page(), one.plain()):
        assert all(body.count(marker.encode()) == 1 for marker in one.markers)


def test_an_edit_changes_one_section_and_remembers_the_old() -> None:
    before = Article.new("one", random.Random(7))
    after = before.edited(random.Random(8))
    assert len(set(before.markers) - set(after.markers)) == 1
    assert set(after.old_markers) == set(before.markers) - set(after.markers)


def test_inputs_are_known_by_what_the_store_calls_them() -> None:
    assert identity("Öffnungszeiten\n\nBis 18 Uhr") == embedded_sha256(
        StoredChunk(0, "Bis 18 Uhr", embedded_text="Öffnungszeiten\n\nBis 18 Uhr")
    )


def test_the_bill_excuses_what_was_in_flight_and_nothing_else() -> None:
    assert Bill(embedded=110, distinct=100, in_flight=10).wasted == 0
    assert Bill(embedded=111, distinct=100, in_flight=10).wasted == 1


def test_what_was_on_its_way_at_a_strike_is_excused_and_what_comes_later_is_not() -> None:
    calls: list[Call] = []
    world: Any = SimpleNamespace(provider=SimpleNamespace(calls=calls), chat=lambda *_: [])
    now = time.monotonic()
    ledger = Ledger(world)
    calls.append(Call("worker-1", ("before",), now - 5, billed=True))
    calls.append(Call("worker-2", ("another's",), now, billed=True))
    ledger.strike({"worker-1"})
    calls.append(Call("worker-1", ("sent before", "and read after"), time.monotonic() + ON_ITS_WAY_S / 2, billed=True))
    calls.append(Call("worker-1", ("of a new process",), time.monotonic() + 2 * ON_ITS_WAY_S, billed=True))
    assert ledger.bill() == Bill(embedded=5, distinct=5, in_flight=3)


def test_figures_tell_kept_from_broken() -> None:
    assert (none_of("R1", "x", []).kept, none_of("R1", "x", [1]).kept) == (True, False)
    assert (percentile([], 0.95), percentile([1.0, 2.0, 3.0], 0.5), percentile([1.0], 0.95)) == (0.0, 2.0, 1.0)


def test_every_mechanism_has_a_scenario_that_must_notice() -> None:
    assert set(MUST_NOTICE) == set(MECHANISMS)
