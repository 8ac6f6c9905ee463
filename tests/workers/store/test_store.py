"""A generation on a real database: stored exactly, written by its run's holder alone, and switched to whole."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlalchemy import Connection, event, text

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import EmbeddingUnavailable, NotFound, ServiceError, SourceDeleted
from chat_api.core.lexemes import chunk_text, pack
from chat_api.core.models.dashboard import DashboardBot
from tests.workers.chat_rows import ChatRows
from workers.documents import Block, Chunk, Document, Fetched, Reading
from workers.receipt import Receipt
from workers.store.generation import (
    copy_unchanged,
    find_build,
    open_generation,
    open_generations,
    remember_bot,
    write_readings,
)
from workers.store.known import known_vectors, live_pages
from workers.store.rows import Build, embedded_sha256
from workers.store.switch import park, switch, why_not
from workers.store.usage import add_usage
from workers.tasks.life import LeaseLostError, Task

pytestmark = pytest.mark.stack
SPACE = EmbeddingSpace("test-model", 4)
NASTY = [
    "plain",
    "tab\there, newline\nthere, \\N and \\. and \"quotes\" and 'apostrophes' and $1 %s {x}",
    "emoji 👩‍👩‍👧 and astral 𝔘, accents é e\u0301, right to left שלום עולם, 漢字, zero\u200bwidth, \u2028 and \ufeff",
    "\x01\x02\x1f\x7f\x80",
    "x" * 100_000,
    " ",
]


def reading(url: str, *texts: str, **changes: Any) -> Reading:
    chunks = tuple(
        Chunk(n, words, f"Heading › {words[:9]}", n + 1, words, n, texts[:n].count(words))
        for n, words in enumerate(texts)
    )
    document = Document(f"Title of {url}", tuple(Block("paragraph", words) for words in texts), "text/html", "en", 7)
    fetched = Fetched(url, 200, b"body", "text/html", etag='"1"', last_modified="yesterday", fetched_at=MOMENT)
    whole = Reading(url, cited_url=url + "#cited", fetched=fetched, document=document, chunks=chunks)
    return replace(whole, **changes)


MOMENT = datetime(2026, 2, 28, 12, 30, 15, 123456, tzinfo=UTC)


def vectors(count: int, seed: int = 1) -> NDArray[np.float32]:
    """Unit rows that a half-precision number holds exactly."""
    found = np.random.default_rng(seed).normal(size=(count, SPACE.dimensions)).astype(np.float16).astype(np.float32)
    return np.asarray(found, np.float32)


def open_build(rows: ChatRows, task: Task, space: EmbeddingSpace = SPACE) -> Build:
    with rows.engine.begin() as connection:
        remember_bot(connection, DashboardBot(id=task.bot_id, org_id=task.org_id, name="Bot", config=None))
        return open_generation(connection, task, space, "version")


def write(rows: ChatRows, build: Build, *readings: Reading) -> set[int]:
    with rows.engine.begin() as connection:
        count = sum(len(one.chunks) for one in readings)
        return write_readings(connection, [(build, readings, vectors(count))])


def go_live(rows: ChatRows, *builds: Build, receipt: Receipt | None = None) -> set[int]:
    with rows.engine.begin() as connection:
        return switch(connection, [(build, receipt or Receipt(tokens=7)) for build in builds])


def trained(rows: ChatRows, source_id: UUID, *readings: Reading, receipt: Receipt | None = None) -> Build:
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, *readings)
    assert go_live(rows, build, receipt=receipt) == {build.task.task_id}
    return build


ANSWERING = """
    SELECT chunks.text FROM sources JOIN chunks USING (org_id, bot_id, source_id)
    JOIN embeddings USING (org_id, bot_id, source_id, generation, chunk_id)
    WHERE chunks.generation = live_generation AND sources.deleted_at IS NULL ORDER BY chunks.text
"""


def counts(rows: ChatRows) -> dict[str, int]:
    tables = ("pages", "documents", "chunks", "embeddings", "generations")
    return {table: rows.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}


# --- exact -----------------------------------------------------------------------------------------------------------


def test_everything_comes_back_as_it_was(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    whole = reading("https://a.example/é?q=1", *NASTY)
    write(rows, build, whole)
    stored = rows.sql("SELECT * FROM chunks ORDER BY ordinal")
    assert [(row["text"], row["heading"], row["page"], row["tokens"], row["language"]) for row in stored] == [
        (chunk.text, chunk.heading, chunk.page, chunk.tokens, "en") for chunk in whole.chunks
    ]
    assert stored[1]["embedded_sha256"] == hashlib.sha256(NASTY[1].encode()).digest()
    assert [row["lexemes"] for row in stored] == [
        pack(chunk_text(f"Title of {whole.url}", chunk.heading, chunk.text)) for chunk in whole.chunks
    ]
    [page] = rows.sql("SELECT * FROM pages")
    assert (page["url"], page["outcome"], page["http_status"], page["fetched_at"], page["etag"], page["chunks"]) == (
        whole.url, "indexed", 200, MOMENT, '"1"', len(NASTY),
    )  # fmt: skip
    assert page["content_sha256"] == hashlib.sha256(b"body").digest()
    [document] = rows.sql("SELECT * FROM documents")
    assert (document["url"], document["title"], document["pages"]) == (whole.cited_url, f"Title of {whole.url}", 7)
    assert {row["document_id"] for row in stored} == {document["document_id"]} == {page["document_id"]}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=5))
def test_any_text_comes_back_as_it_was(rows: ChatRows, texts: list[str]) -> None:
    rows.clear()
    build = open_build(rows, rows.claimed())
    write(rows, build, reading("https://a.example/", *texts))
    assert [row["text"] for row in rows.sql("SELECT text FROM chunks ORDER BY ordinal")] == texts


def test_vectors_come_back_in_their_chunks_order(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    parts = [reading(f"https://a.example/{n}", *[f"{n} {m}" for m in range(5)]) for n in range(8)]
    given_vectors = vectors(40, seed=7)
    with rows.engine.begin() as connection:
        write_readings(connection, [(build, parts, given_vectors)])
    stored = rows.sql(
        "SELECT text, vector::text AS vector, space_id FROM chunks JOIN embeddings USING"
        " (org_id, bot_id, source_id, generation, chunk_id)"
    )
    by_text = {row["text"]: [float(number) for number in row["vector"].strip("[]").split(",")] for row in stored}
    texts = [chunk.text for part in parts for chunk in part.chunks]
    assert np.array_equal(np.array([by_text[words] for words in texts], np.float16), given_vectors.astype(np.float16))
    assert {row["space_id"] for row in stored} == {build.space_id}


def test_a_sources_vectors_lie_in_the_order_of_their_key(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    write(rows, build, *(reading(f"https://a.example/{n}", *[f"{n} {m}" for m in range(8)]) for n in range(6)))
    written = [row["chunk_id"] for row in rows.sql("SELECT chunk_id FROM embeddings ORDER BY ctid")]
    assert len(written) == 48
    assert written == sorted(written), "a search reads them by the key"


def test_a_failed_and_a_skipped_page_are_in_the_ledger_alone(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    failed = Reading("https://a.example/\0x\ud800", error=NotFound("No \0 page \udfff here."))
    write(rows, build, failed, Reading("https://b.example/", skipped="other_host"))
    pages = rows.sql("SELECT url, outcome, message FROM pages ORDER BY url")
    assert pages == [
        {"url": "https://a.example/x?", "outcome": "not_found", "message": "No  page ? here."},
        {"url": "https://b.example/", "outcome": "other_host", "message": None},
    ]
    assert counts(rows) == {"pages": 2, "documents": 0, "chunks": 0, "embeddings": 0, "generations": 1}


def test_the_same_page_met_twice_is_stored_once(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    write(rows, build, reading("https://a.example/", "same", "same", "other"))
    write(rows, build, reading("https://a.example/", "same", "same", "other"))
    assert counts(rows) == {"pages": 1, "documents": 1, "chunks": 3, "embeddings": 3, "generations": 1}


def test_a_page_that_waited_gets_its_outcome_and_one_with_chunks_keeps_it(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    waiting = Reading("https://a.example/", skipped="waiting", position=3, depth=1)
    write(rows, build, waiting)
    write(rows, build, reading("https://a.example/", "text", links=("https://a.example/2",)))
    write(rows, build, Reading("https://a.example/", error=NotFound()))
    columns = "outcome, chunks, position, depth, links"
    assert rows.sql(f"SELECT {columns} FROM pages") == [
        {"outcome": "indexed", "chunks": 1, "position": 3, "depth": 1, "links": ["https://a.example/2"]}
    ]


def test_a_long_documents_chunks_come_in_parts(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    whole = reading("https://a.example/", *[f"text {n // 2}" for n in range(10)])
    given_vectors = vectors(10)
    for start in range(0, 10, 4):
        part = replace(whole, chunks=whole.chunks[start : start + 4], chunks_in_all=10)
        with rows.engine.begin() as connection:
            some = given_vectors[start : start + 4]
            write_readings(connection, [(build, [part], some)], ledger=start == 0)
    assert counts(rows) == {"pages": 1, "documents": 1, "chunks": 10, "embeddings": 10, "generations": 1}
    assert rows.sql("SELECT chunks FROM pages") == [{"chunks": 10}]


# --- the holder alone ------------------------------------------------------------------------------------------------


def _expired(rows: ChatRows, task: Task) -> None:
    rows.sql("UPDATE training_tasks SET lease_expires_at = now() - interval '1 second'")


def _taken_over(rows: ChatRows, task: Task) -> None:
    rows.sql("UPDATE training_tasks SET fence = nextval('fences')")


def _cancelled(rows: ChatRows, task: Task) -> None:
    rows.sql("UPDATE training_jobs SET status = 'cancelled' WHERE status = 'running'")
    rows.sql("DELETE FROM training_tasks")


def _buried(rows: ChatRows, task: Task) -> None:
    rows.sql("UPDATE sources SET deleted_at = now() WHERE source_id = :source_id", source_id=task.source_id)


STOPPED: dict[str, tuple[Callable[[ChatRows, Task], None], type[Exception]]] = {
    "expired": (_expired, LeaseLostError),
    "taken over": (_taken_over, LeaseLostError),
    "cancelled": (_cancelled, LeaseLostError),
    "source deleted": (_buried, SourceDeleted),
}


@pytest.mark.parametrize("why", STOPPED)
def test_a_run_that_must_stop_opens_and_switches_nothing(rows: ChatRows, why: str) -> None:
    stop, error = STOPPED[why]
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "old"))
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, reading("https://a.example/", "new"))
    before = counts(rows), usage(rows), states(rows)
    stop(rows, build.task)
    with pytest.raises(error):
        open_build(rows, build.task)
    assert go_live(rows, build) == set()
    with pytest.raises(error), rows.engine.begin() as connection:
        park(connection, build, NotFound(), Receipt(), {})
    if error is LeaseLostError:
        assert write(rows, build, reading("https://a.example/2", "newer")) == set()
        with pytest.raises(error), rows.engine.begin() as connection:
            why_not(connection, build.task)
    else:
        with rows.engine.begin() as connection:
            assert isinstance(why_not(connection, build.task), SourceDeleted)
    assert (counts(rows), usage(rows), states(rows)) == before
    assert rows.sql("SELECT last_generation, live_generation FROM sources") == [
        {"last_generation": 2, "live_generation": 1}
    ]
    assert rows.job(build.task.job_id)["status"] == ("cancelled" if why == "cancelled" else "running")


def test_a_build_that_was_given_up_never_goes_live(rows: ChatRows) -> None:
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "old"))
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, reading("https://a.example/", "new"))
    rows.sql("UPDATE generations SET state = 'discarded' WHERE generation = 2")
    assert go_live(rows, build) == set()
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["old"]
    assert rows.job(build.task.job_id)["status"] == "running"


# --- a group ---------------------------------------------------------------------------------------------------------


def group(rows: ChatRows, size: int = 4) -> list[Build]:
    tasks = [rows.claimed() for _ in range(size)]
    with rows.engine.begin() as connection:
        remember_bot(connection, DashboardBot(id=rows.bot_id, org_id=rows.org_id, name="Bot", config=None))
        builds = open_generations(connection, [(task, "version") for task in tasks], SPACE)
    return [builds[task.task_id] for task in tasks]


def write_group(rows: ChatRows, builds: list[Build]) -> set[int]:
    parts = [
        (build, [reading(f"https://a.example/{n}", f"text {n}", f"more {n}")], vectors(2, seed=n))
        for n, build in enumerate(builds)
    ]
    with rows.engine.begin() as connection:
        return write_readings(connection, parts)


def test_a_group_is_written_and_switched_to_together(rows: ChatRows) -> None:
    builds = group(rows)
    ids = {build.task.task_id for build in builds}
    assert write_group(rows, builds) == ids
    assert go_live(rows, *builds) == ids
    assert [row["text"] for row in rows.sql(ANSWERING)] == sorted(
        f"{word} {n}" for n in range(4) for word in ("text", "more")
    )
    for n, build in enumerate(builds):
        [found] = rows.sql(
            "SELECT count(*) AS n, min(vector::text) AS vector FROM embeddings WHERE source_id = :source_id",
            source_id=build.task.source_id,
        )
        expected = {"[" + ",".join(f"{value:.9g}" for value in row) + "]" for row in vectors(2, seed=n)}
        assert found["n"] == 2
        assert _numbers(found["vector"]) in [_numbers(text) for text in expected]
        job = rows.job(build.task.job_id)
        assert (job["status"], job["stage"], job["receipt"]["tokens"]) == ("succeeded", "store", 7)
    assert rows.sql("SELECT * FROM training_tasks") == []


def _numbers(vector: str) -> list[float]:
    return [float(np.float16(number)) for number in vector.strip("[]").split(",")]


def _lose_fence(rows: ChatRows, build: Build) -> None:
    rows.sql("UPDATE training_tasks SET fence = nextval('fences') WHERE task_id = :id", id=build.task.task_id)


def _bury(rows: ChatRows, build: Build) -> None:
    _buried(rows, build.task)


def _discard(rows: ChatRows, build: Build) -> None:
    rows.sql("UPDATE generations SET state = 'discarded' WHERE source_id = :source_id", source_id=build.task.source_id)


@pytest.mark.parametrize("fell_out", [_lose_fence, _bury, _discard])
def test_one_of_a_group_falls_out_alone(rows: ChatRows, fell_out: Callable[[ChatRows, Build], None]) -> None:
    builds = group(rows)
    rest = {build.task.task_id for build in builds[1:]}
    write_group(rows, builds)
    fell_out(rows, builds[0])
    before = states(rows, builds[0].task.source_id)
    assert go_live(rows, *builds) == rest
    assert states(rows, builds[0].task.source_id) == before
    assert [rows.job(build.task.job_id)["status"] for build in builds] == ["running", *["succeeded"] * 3]
    assert len(rows.sql("SELECT * FROM sources WHERE live_generation IS NOT NULL")) == 3


def test_what_a_lost_run_of_a_group_has_read_is_not_written(rows: ChatRows) -> None:
    builds = group(rows)
    _lose_fence(rows, builds[0])
    assert write_group(rows, builds) == {build.task.task_id for build in builds[1:]}
    assert counts(rows) == {"pages": 3, "documents": 3, "chunks": 6, "embeddings": 6, "generations": 4}
    assert not rows.sql("SELECT * FROM chunks WHERE source_id = :id", id=builds[0].task.source_id)


# --- what is there already --------------------------------------------------------------------------------------------


def known(rows: ChatRows, build: Build, *texts: str, **changes: Any) -> dict[str, list[float]]:
    shas = {embedded_sha256(Chunk(0, words, embedded_text=words)): words for words in texts}
    key: dict[str, Any] = {
        "org_id": build.task.org_id,
        "bot_id": build.task.bot_id,
        "space_id": build.space_id,
    } | changes
    with rows.engine.begin() as connection:
        found = known_vectors(connection, key["org_id"], key["bot_id"], key["space_id"], list(shas))
    return {shas[sha]: vector.tolist() for sha, vector in found.items()}


def test_vectors_are_known_from_any_generation_of_the_bot_in_its_space_alone(rows: ChatRows) -> None:
    build = trained(rows, uuid4(), reading("https://a.example/", "one", "two", "three"))
    unfinished = open_build(rows, rows.claimed())
    write(rows, unfinished, reading("https://a.example/", "four", "one"))
    expected = {words: row.tolist() for words, row in zip(("one", "two", "three"), vectors(3), strict=True)}
    found = known(rows, build, "one", "three", "four", "five")
    assert found["three"] == expected["three"]
    assert found["four"] == vectors(2)[0].tolist()
    assert set(found) == {"one", "three", "four"}
    assert known(rows, build, "one", bot_id=uuid4()) == known(rows, build, "one", org_id=uuid4()) == {}
    assert known(rows, build, "one", space_id=build.space_id + 1) == known(rows, build) == {}


def live_page(rows: ChatRows, task: Task, url: str | None = None) -> Any:
    with rows.engine.begin() as connection:
        return live_pages(connection, [(task, url)]).get(task.task_id)


def test_an_unchanged_page_is_copied_whole_with_what_its_server_says_now(rows: ChatRows) -> None:
    source_id = uuid4()
    page = reading("https://a.example/", "one", "two", "one", position=5, links=("https://a.example/2",))
    assert page.document
    page = replace(page, document=replace(page.document, published_on=MOMENT.date(), modified_on=date(2026, 2, 28)))
    trained(rows, source_id, page, Reading("https://a.example/2", skipped="excluded"))
    task = rows.claimed(source_id)
    live = live_page(rows, task, "https://a.example/")
    assert (live.generation, live.etag, live.chunks, live.title) == (1, '"1"', 3, "Title of https://a.example/")
    build = open_build(rows, task)
    fetched = Fetched("https://a.example/", 304, b"", etag='"2"', fetched_at=MOMENT.replace(year=2027))
    write(rows, build, replace(page, fetched=fetched, document=None, chunks=(), unchanged=True, position=8, links=None))
    with rows.engine.begin() as connection:
        assert copy_unchanged(connection, build, 1, ["https://a.example/", "https://a.example/gone"], "unchanged") == 3
    [new] = rows.sql("SELECT * FROM pages WHERE generation = 2")
    [old] = rows.sql("SELECT * FROM pages WHERE generation = 1 AND url = 'https://a.example/'")
    changed = {
        "outcome": "unchanged",
        "http_status": 304,
        "etag": '"2"',
        "fetched_at": fetched.fetched_at,
        "position": 8,
    }
    assert new == old | changed | {"generation": 2}
    for table in ("documents", "chunks", "embeddings"):
        [old_rows, new_rows] = [
            rows.sql(f"SELECT * FROM {table} WHERE generation = :n ORDER BY 5, 6, 7", n=number) for number in (1, 2)
        ]
        assert len(new_rows) == {"documents": 1, "chunks": 3, "embeddings": 3}[table]
        assert all(row | {"generation": 1} in old_rows for row in new_rows)
    go_live(rows, build)
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["one", "one", "two"]
    [document] = rows.sql("SELECT published_on, modified_on FROM documents WHERE generation = 2")
    assert document == {"published_on": MOMENT.date(), "modified_on": date(2026, 2, 28)}


def test_vectors_of_the_space_that_is_built_beside_are_copied_too(rows: ChatRows) -> None:
    source_id = uuid4()
    build = trained(rows, source_id, reading("https://a.example/", "one"))
    [other] = rows.sql("INSERT INTO embedding_spaces (model, dimensions) VALUES ('next', 4) RETURNING space_id")
    rows.sql("UPDATE bots SET next_space_id = :space_id", **other)
    columns = "org_id, bot_id, source_id, generation, chunk_id, vector"
    rows.sql(f"INSERT INTO embeddings ({columns}, space_id) SELECT {columns}, :space_id FROM embeddings", **other)
    second = open_build(rows, rows.claimed(source_id))
    with rows.engine.begin() as connection:
        copy_unchanged(connection, second, 1, ["https://a.example/"], "unchanged")
    spaces = rows.sql("SELECT space_id FROM embeddings WHERE generation = 2")
    assert {row["space_id"] for row in spaces} == {build.space_id, other["space_id"]}


def test_a_page_without_its_vectors_is_neither_offered_nor_copied(rows: ChatRows) -> None:
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "one", "two"))
    rows.sql("DELETE FROM embeddings WHERE chunk_id IN (SELECT chunk_id FROM chunks WHERE text = 'one')")
    task = rows.claimed(source_id)
    assert live_page(rows, task) is None
    build = open_build(rows, task)
    with pytest.raises(EmbeddingUnavailable), rows.engine.begin() as connection:
        copy_unchanged(connection, build, 1, ["https://a.example/"], "unchanged")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE generations SET reader_version = reader_version - 1",
        "UPDATE bots SET space_id = NULL",
        "UPDATE sources SET deleted_at = now()",
        "UPDATE sources SET live_generation = NULL",
    ],
)
def test_what_is_read_otherwise_now_is_not_compared(rows: ChatRows, change: str) -> None:
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "one"))
    task = rows.claimed(source_id)
    assert live_page(rows, task).url == "https://a.example/"
    assert live_page(rows, task, "https://a.example/2") is None
    rows.sql(change)
    assert live_page(rows, task) is None


# --- spaces ----------------------------------------------------------------------------------------------------------

OTHER = EmbeddingSpace("other-model", 4)
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def test_a_build_is_of_the_space_that_its_bot_reads(rows: ChatRows) -> None:
    first = trained(rows, uuid4(), reading("https://a.example/", "one"))
    second = open_build(rows, rows.claimed(), OTHER)
    assert (second.space_id, second.space) == (first.space_id, SPACE)


def test_a_build_of_another_space_than_the_bot_reads_by_now_waits(rows: ChatRows) -> None:
    late = open_build(rows, rows.claimed(), OTHER)
    write(rows, late, reading("https://a.example/", "late"))
    early = trained(rows, uuid4(), reading("https://a.example/", "early"))
    assert early.space_id != late.space_id
    assert go_live(rows, late) == set()
    with rows.engine.begin() as connection:
        assert isinstance(why_not(connection, late.task), EmbeddingUnavailable)
    assert rows.sql("SELECT space_id FROM bots") == [{"space_id": early.space_id}]
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["early"]


def test_two_first_trainings_in_different_spaces_do_not_both_go_live(rows: ChatRows) -> None:
    builds = [open_build(rows, rows.claimed(), space) for space in (SPACE, OTHER)]
    for build in builds:
        write(rows, build, reading("https://a.example/", build.space.model))
    with rows.engine.begin() as first:
        assert switch(first, [(builds[0], Receipt())])
        with ThreadPoolExecutor(1) as threads:
            second = threads.submit(go_live, rows, builds[1])
            while not rows.sql(WAITING) and not second.done():
                pass
            first.commit()
            with pytest.raises(EmbeddingUnavailable):
                second.result(20)
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["test-model"]
    assert rows.job(builds[1].task.job_id)["status"] == "running"


def test_two_first_switches_of_a_bot_do_not_wait_for_each_other(rows: ChatRows) -> None:
    """Neither goes on from where it has read the bot's space before the other has read it too, or waits for a lock."""
    builds = [open_build(rows, rows.claimed()) for _ in range(2)]
    for number, build in enumerate(builds):
        write(rows, build, reading(f"https://a.example/{number}", f"text {number}"))
    there = [threading.Event(), threading.Event()]

    def go(number: int) -> set[int]:
        def meet(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if "FOR SHARE OF bots" in statement:
                there[number].set()
                assert any(there[1 - number].wait(0.05) or rows.sql(WAITING) for _ in range(400))

        try:
            with rows.engine.begin() as connection:
                event.listen(connection, "after_cursor_execute", meet)
                return switch(connection, [(builds[number], Receipt())])
        finally:
            there[number].set()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(go, range(2))) == [{build.task.task_id} for build in builds]
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["text 0", "text 1"]
    assert rows.sql("SELECT space_id FROM bots") == [{"space_id": builds[0].space_id}]


# --- parked and used ---------------------------------------------------------------------------------------------------


def usage(rows: ChatRows) -> list[dict[str, Any]]:
    return rows.sql("SELECT purpose, model, calls, prompt_tokens, cost_microusd FROM usage_days ORDER BY purpose")


def spent(tokens: int, cost: int | None) -> Receipt:
    receipt = Receipt()
    receipt.pages["fetched"] = 2
    receipt.embedded(chunks=5, reused=1, tokens=tokens, cost_microusd=cost)
    return receipt


def test_what_was_used_is_added_to_the_bots_day(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    for tokens, cost in ((100, 3), (50, None)):
        with rows.engine.begin() as connection:
            add_usage(connection, [(build, spent(tokens, cost))])
    assert usage(rows) == [
        {"purpose": "embed", "model": "test-model", "calls": 10, "prompt_tokens": 150, "cost_microusd": 3},
        {"purpose": "fetch", "model": "", "calls": 4, "prompt_tokens": 0, "cost_microusd": 0},
    ]


def test_a_parked_generation_waits_and_its_run_has_failed(rows: ChatRows) -> None:
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "old"))
    for number in (2, 3):
        build = open_build(rows, rows.claimed(source_id))
        write(rows, build, reading("https://a.example/", f"new {number}"))
        with rows.engine.begin() as connection:
            park(connection, build, NotFound("Much is gone."), spent(10, 1), {"removed_count": 9})
    assert states(rows) == {1: "live", 2: "discarded", 3: "parked"}
    [parked] = rows.sql("SELECT held_by, diff, receipt FROM generations WHERE state = 'parked'")
    assert (parked["held_by"], parked["diff"], parked["receipt"]["tokens"]) == ("not_found", {"removed_count": 9}, 10)
    job = rows.job(build.task.job_id)
    assert (job["status"], job["error_code"], job["receipt"]["tokens"]) == ("failed", "not_found", 10)
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["old"]
    trained(rows, source_id, reading("https://a.example/", "newest"))
    assert states(rows) == {1: "kept", 2: "discarded", 3: "discarded", 4: "live"}


def test_a_crawls_build_is_found_again_until_it_is_given_up(rows: ChatRows) -> None:
    task = rows.claimed()
    build = open_build(rows, task)
    again = replace(task, generation=build.generation)
    with rows.engine.begin() as connection:
        assert find_build(connection, again) == replace(build, task=again)
    rows.sql("UPDATE generations SET state = 'discarded'")
    with pytest.raises(LeaseLostError), rows.engine.begin() as connection:
        find_build(connection, again)


# --- generations -----------------------------------------------------------------------------------------------------


def states(rows: ChatRows, source_id: UUID | None = None) -> dict[int, str]:
    found = rows.sql(
        "SELECT generation, state FROM generations WHERE source_id = coalesce(CAST(:source_id AS uuid), source_id)",
        source_id=source_id,
    )
    return {row["generation"]: row["state"] for row in found}


def test_the_one_before_is_kept_and_older_ones_are_not(rows: ChatRows) -> None:
    source_id = uuid4()
    for number in range(3):
        trained(rows, source_id, reading("https://a.example/", f"text {number}"))
    assert states(rows) == {1: "discarded", 2: "kept", 3: "live"}
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["text 2"]
    [live] = rows.sql("SELECT receipt, switched_at FROM generations WHERE state = 'live'")
    assert live["receipt"]["tokens"] == 7
    assert live["switched_at"]


def test_another_attempt_begins_a_new_generation(rows: ChatRows) -> None:
    task = rows.claimed()
    first = open_build(rows, task)
    write(rows, first, reading("https://a.example/", "half"))
    second = open_build(rows, task)
    assert (first.generation, second.generation) == (1, 2)
    assert states(rows) == {1: "building", 2: "building"}
    assert rows.job(task.job_id)["generation"] == 2
    assert known(rows, second, "half")
    go_live(rows, second)
    assert states(rows) == {1: "discarded", 2: "live"}


def test_the_first_training_says_which_space_the_bot_reads(rows: ChatRows) -> None:
    build = trained(rows, uuid4(), reading("https://a.example/", "text"))
    [bot] = rows.sql("SELECT space_id, config FROM bots")
    assert bot == {"space_id": build.space_id, "config": {}}


def test_a_bot_whose_configuration_is_no_object_is_remembered_without(rows: ChatRows) -> None:
    bot = DashboardBot(id=rows.bot_id, org_id=rows.org_id, name="Bot", config=["no", "object"], allowed_origins=None)
    with rows.engine.begin() as connection:
        remember_bot(connection, bot)
    assert rows.sql("SELECT config, allowed_origins FROM bots") == [{"config": {}, "allowed_origins": []}]


def test_a_switch_that_fails_at_its_end_changes_nothing(rows: ChatRows) -> None:
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "old"))
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, reading("https://a.example/", "new"))

    def fail(connection: Connection) -> None:
        assert switch(connection, [(build, Receipt())])
        raise ServiceError

    with rows.engine.connect() as connection, pytest.raises(ServiceError), connection.begin():
        fail(connection)
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["old"]
    assert states(rows) == {1: "live", 2: "building"}


# --- readers ---------------------------------------------------------------------------------------------------------


def _read(rows: ChatRows, over: threading.Event) -> set[tuple[str, ...]]:
    """What a reader was ever answered with, until `over`."""
    seen = set()
    with rows.admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not over.is_set():
            seen.add(tuple(row.text for row in connection.execute(text(ANSWERING))))
    return seen


def test_readers_see_the_old_or_the_new_generation_whole(rows: ChatRows) -> None:
    source_id, over = uuid4(), threading.Event()
    texts = [tuple(f"{number:02}.{part}" for part in range(6)) for number in range(10)]
    trained(rows, source_id, *(reading(f"https://a.example/{words}", words) for words in texts[0]))
    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(_read, rows, over)
        try:
            for generation in texts[1:]:
                build = open_build(rows, rows.claimed(source_id))
                for words in generation:
                    write(rows, build, reading(f"https://a.example/{words}", words))
                go_live(rows, build)
        finally:
            over.set()
        seen = reader.result(20)
    assert len(seen) > 1
    assert seen <= set(texts)
