"""A generation on a real database: stored exactly, written by its run's holder alone, and switched to whole."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import NotFound, ServiceError, SourceDeleted
from chat_api.core.models.dashboard import DashboardBot
from tests.workers.chat_rows import ChatRows
from workers.documents import Block, Chunk, Document, Fetched, Reading
from workers.rows import Build
from workers.runs import LeaseLostError, Run, RunCancelledError, settle
from workers.store import open_generation, remember_bot, switch, write_readings

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
    chunks = tuple(Chunk(n, words, f"Heading › {words[:9]}", n + 1, words, n) for n, words in enumerate(texts))
    document = Document(f"Title of {url}", tuple(Block("paragraph", words) for words in texts), "text/html", "en", 7)
    fetched = Fetched(url, 200, b"body", "text/html", etag='"1"', last_modified="yesterday", fetched_at=MOMENT)
    whole = Reading(url, cited_url=url + "#cited", fetched=fetched, document=document, chunks=chunks)
    return replace(whole, **changes)


MOMENT = datetime(2026, 2, 28, 12, 30, 15, 123456, tzinfo=UTC)


def vectors(count: int, seed: int = 1) -> NDArray[np.float32]:
    """Unit rows that a half-precision number holds exactly."""
    found = np.random.default_rng(seed).normal(size=(count, SPACE.dimensions)).astype(np.float16).astype(np.float32)
    return np.asarray(found, np.float32)


def open_build(rows: ChatRows, run: Run) -> Build:
    with rows.engine.begin() as connection:
        remember_bot(connection, DashboardBot(id=run.bot_id, org_id=run.org_id, name="Bot", config=None))
        return open_generation(connection, run, SPACE, "version")


def write(rows: ChatRows, build: Build, *readings: Reading) -> None:
    with rows.engine.begin() as connection:
        write_readings(connection, build, readings, vectors(sum(len(one.chunks) for one in readings)))


def go_live(rows: ChatRows, build: Build) -> None:
    with rows.engine.begin() as connection:
        switch(connection, build, '{"a": 1}')
        settle(connection, build.run, "succeeded")


def trained(rows: ChatRows, source_id: UUID, *readings: Reading) -> Build:
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, *readings)
    go_live(rows, build)
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
    with rows.engine.begin() as connection:
        write_readings(connection, build, [whole], vectors(len(NASTY)))
    stored = rows.sql("SELECT * FROM chunks ORDER BY ordinal")
    assert [(row["text"], row["heading"], row["page"], row["tokens"], row["language"]) for row in stored] == [
        (chunk.text, chunk.heading, chunk.page, chunk.tokens, "en") for chunk in whole.chunks
    ]
    identity = hashlib.sha256(f"test-model\x004\x00{NASTY[1]}".encode()).digest()
    assert stored[1]["embedded_sha256"] == identity
    [page] = rows.sql("SELECT * FROM pages")
    assert (page["url"], page["outcome"], page["http_status"], page["fetched_at"], page["etag"], page["chunks"]) == (
        whole.url, "indexed", 200, MOMENT, '"1"', len(NASTY),
    )  # fmt: skip
    assert page["content_sha256"] == hashlib.sha256(b"body").digest()
    [document] = rows.sql("SELECT * FROM documents")
    assert (document["url"], document["title"], document["pages"]) == (whole.cited_url, f"Title of {whole.url}", 7)
    assert {row["document_id"] for row in stored} == {document["document_id"]} == {page["document_id"]}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        write_readings(connection, build, parts, given_vectors)
    stored = rows.sql(
        "SELECT text, vector::text AS vector, space_id FROM chunks JOIN embeddings USING"
        " (org_id, bot_id, source_id, generation, chunk_id)"
    )
    by_text = {row["text"]: [float(number) for number in row["vector"].strip("[]").split(",")] for row in stored}
    texts = [chunk.text for part in parts for chunk in part.chunks]
    assert np.array_equal(np.array([by_text[words] for words in texts], np.float16), given_vectors.astype(np.float16))
    assert {row["space_id"] for row in stored} == {build.space_id}


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


# --- the holder alone ------------------------------------------------------------------------------------------------


def _expired(rows: ChatRows, run: Run) -> Run:
    rows.change(run.job_id, lease_expires_at="(now() - interval '1 second')")
    return run


def _taken_over(rows: ChatRows, run: Run) -> Run:
    rows.change(run.job_id, fence="(nextval('fences'))")
    return run


def _cancelled(rows: ChatRows, run: Run) -> Run:
    rows.change(run.job_id, cancel_requested_at="(now())")
    return run


def _buried(rows: ChatRows, run: Run) -> Run:
    rows.sql("UPDATE sources SET deleted_at = now() WHERE source_id = :source_id", source_id=run.source_id)
    return _cancelled(rows, run)


STOPPED: dict[str, tuple[Callable[[ChatRows, Run], Run], tuple[type[Exception], ...]]] = {
    "expired": (_expired, (LeaseLostError,)),
    "taken over": (_taken_over, (LeaseLostError,)),
    "cancelled": (_cancelled, (RunCancelledError,)),
    "source deleted": (_buried, (RunCancelledError, SourceDeleted)),
}


@pytest.mark.parametrize("why", STOPPED)
def test_a_run_that_must_stop_opens_writes_and_switches_nothing(rows: ChatRows, why: str) -> None:
    stop, errors = STOPPED[why]
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "old"))
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, reading("https://a.example/", "new"))
    before = counts(rows)
    stop(rows, build.run)
    with pytest.raises(errors):
        open_build(rows, build.run)
    with pytest.raises(errors):
        write(rows, build, reading("https://a.example/2", "newer"))
    with pytest.raises(errors):
        go_live(rows, build)
    assert counts(rows) == before
    assert rows.sql("SELECT last_generation, live_generation FROM sources") == [
        {"last_generation": 2, "live_generation": 1}
    ]
    assert rows.job(build.run.job_id)["status"] == "running"


def test_a_source_under_a_tombstone_takes_nothing_even_when_its_run_was_not_cancelled(rows: ChatRows) -> None:
    build = open_build(rows, rows.claimed())
    write(rows, build, reading("https://a.example/", "new"))
    rows.sql("UPDATE sources SET deleted_at = now()")
    for attempt in (lambda: go_live(rows, build), lambda: open_build(rows, build.run)):
        with pytest.raises(SourceDeleted):
            attempt()
    assert rows.sql(ANSWERING) == []


def test_a_build_that_was_given_up_never_goes_live(rows: ChatRows) -> None:
    source_id = uuid4()
    trained(rows, source_id, reading("https://a.example/", "old"))
    build = open_build(rows, rows.claimed(source_id))
    write(rows, build, reading("https://a.example/", "new"))
    rows.sql("UPDATE generations SET state = 'discarded' WHERE generation = 2")
    with pytest.raises(LeaseLostError):
        go_live(rows, build)
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["old"]


# --- generations -----------------------------------------------------------------------------------------------------


def states(rows: ChatRows) -> dict[int, str]:
    return {row["generation"]: row["state"] for row in rows.sql("SELECT generation, state FROM generations")}


def test_the_one_before_is_kept_and_older_ones_are_not(rows: ChatRows) -> None:
    source_id = uuid4()
    for number in range(3):
        trained(rows, source_id, reading("https://a.example/", f"text {number}"))
    assert states(rows) == {1: "discarded", 2: "kept", 3: "live"}
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["text 2"]
    [live] = rows.sql("SELECT receipt, switched_at FROM generations WHERE state = 'live'")
    assert live["receipt"] == {"a": 1}
    assert live["switched_at"]


def test_another_attempt_begins_a_new_generation(rows: ChatRows) -> None:
    run = rows.claimed()
    first = open_build(rows, run)
    write(rows, first, reading("https://a.example/", "half"))
    second = open_build(rows, run)
    assert (first.generation, second.generation) == (1, 2)
    assert states(rows) == {1: "discarded", 2: "building"}
    assert rows.job(run.job_id)["generation"] == 2
    with pytest.raises(LeaseLostError):
        go_live(rows, first)


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
        switch(connection, build, "{}")
        raise ServiceError

    with rows.engine.connect() as connection, pytest.raises(ServiceError), connection.begin():
        fail(connection)
    assert [row["text"] for row in rows.sql(ANSWERING)] == ["old"]
    assert states(rows) == {1: "live", 2: "building"}


# --- readers ---------------------------------------------------------------------------------------------------------


def _read(rows: ChatRows, over: threading.Event) -> set[tuple[str, ...]]:
    """What a reader was ever answered with, until `over`."""
    seen = set()
    with rows.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
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
