"""The words that test questions are asked of: kept from one source to the next, they are what a fresh reading finds."""

from uuid import UUID, uuid4

import pytest

from chat_api.core.lexemes import terms_of
from chat_api.core.postings import Place, Postings
from chat_api.core.scores import HITS
from tests.workers.chat_rows import ChatRows
from tests.workers.store.test_store import open_build, reading, trained, write
from workers.gate.words import Words
from workers.store.rows import Build

pytestmark = pytest.mark.stack
ASKED = "Where is the red kettle kept?"
OTHER = "Who waters the garden?"
Found = dict[tuple[Place, UUID], float]


def built(rows: ChatRows, source_id: UUID, *texts: str) -> Build:
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, reading("https://a.example/", *texts))
    return build


def found(postings: Postings | None) -> Found:
    """The chunks that have words of the question, and how much of it."""
    assert postings is not None
    hits = postings.find(terms_of(ASKED)["term"], HITS)
    return {(hit.place, hit.chunk_id): round(hit.coverage, 5) for hit in hits}


def both(words: Words) -> tuple[Found, Found]:
    return found(words.before), found(words.after)


def some_sources(rows: ChatRows) -> list[UUID]:
    sources = [uuid4() for _ in range(4)]
    for number, source_id in enumerate(sources):
        trained(rows, source_id, reading("https://a.example/", f"Kettle {number}.", "The garden is red.", "No more."))
    return sources


def test_what_is_kept_is_what_a_fresh_reading_finds(rows: ChatRows) -> None:
    changed, gone, mine, _ = some_sources(rows)
    first = Words.of(built(rows, uuid4(), "The red kettle is here."), rows.engine, [ASKED])
    trained(rows, changed, reading("https://a.example/", "Red is the kettle, and the kettle is kept."))
    trained(rows, uuid4(), reading("https://a.example/", "Where are the others kept?"))
    rows.sql("UPDATE sources SET deleted_at = now() WHERE source_id = :gone", gone=gone)
    build = built(rows, mine, "The green kettle is there.", "It is kept.")
    kept, fresh = Words.of(build, rows.engine, [ASKED]), Words.of(build, rows.engine, [ASKED, OTHER])
    assert both(kept) == both(fresh) != both(first)
    assert kept.live == fresh.live == {Place(mine, 1)}
    before, after = ({place for place, _ in one} for one in both(kept))
    assert before - after == {Place(mine, 1)}
    assert after - before == {Place(mine, 2)}
    assert not {Place(gone, 1), Place(changed, 1)} & (before | after)


def test_above_so_many_chunks_there_are_no_words(rows: ChatRows) -> None:
    *_, mine = some_sources(rows)
    build = built(rows, mine, "The red kettle is here.")
    fresh = Words.of(build, rows.engine, [ASKED])
    for most in (0, 12):
        assert Words.of(build, rows.engine, [ASKED], most_chunks=most) == Words(fresh.live)
    again = Words.of(build, rows.engine, [ASKED], most_chunks=13)
    assert both(again) == both(fresh)


def test_a_generation_that_is_live_again_is_read_again(rows: ChatRows) -> None:
    gone, *_ = some_sources(rows)
    build = built(rows, uuid4(), "The red kettle is here.")
    first, left_out = Words.of(build, rows.engine, [ASKED]), []
    for deleted_at in ("now()", "NULL"):
        rows.sql(f"UPDATE sources SET deleted_at = {deleted_at} WHERE source_id = :gone", gone=gone)
        words = Words.of(build, rows.engine, [ASKED])
        left_out.append({place for place, _ in found(first.before).keys() - found(words.before).keys()})
    assert left_out == [{Place(gone, 1)}, set()]
