"""`export` and `import`: a bot's knowledge moved, restored, refused where it does not fit, and never written over."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from redis import Redis

from chat_api.core.database import make_engines
from deploy.local.client import DashboardClient
from tests.servers import REPOSITORY, as_workers
from tests.workers.commands.conftest import Operator, working
from tests.workers.fetch.loopback import reply
from workers.commands.archive import CHECKSUMS
from workers.sweeper import Sweeper

pytestmark = pytest.mark.stack


DATES = (
    '<meta property="article:published_time" content="2021-03-04"><meta name="dcterms.modified" content="2024-05-06">'
)
SAID = {(date(2021, 3, 4), date(2024, 5, 6)), (None, None)}


def said(operator: Operator, bot_id: UUID | None = None) -> set[tuple[object, object]]:
    """When the bot's passages were published and changed."""
    return {(passage["published_on"], passage["modified_on"]) for passage in operator.live(bot_id)}


@pytest.fixture
def file(operator: Operator, tmp_path: Path) -> Path:
    """An export of a bot with a website, a text, pairs and a file."""
    world = operator.world
    links = "".join(f'<a href="/{name}">{name}</a>' for name in "ab")
    for path in ("/", "/a", "/b"):
        page = f"<html><head>{DATES}</head><body><main><h1>Page {path}</h1><p>It tells of the ovens of {path}.</p>{links}</main>"
        world.site.pages[path] = reply(page.encode(), content_type="text/html")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "manual.txt").write_text("The Heron kiln holds forty-five litres.")
    world.client.add_site_source(operator.bot_id, world.site.url())
    world.client.add_text_source(operator.bot_id, "Hours", "We open at nine, and close at five. " * 100)
    world.client.add_qa_source(operator.bot_id, "Answers", [{"question": "Who?", "answer": "We."}])
    assert operator.run("upload", tmp_path / "files", "--bot", operator.bot_id)[0] == 0
    with working(world):
        assert operator.run("process", "--bot", operator.bot_id, "--wait")[0] == 0
    assert len(operator.live()) > 6
    found = tmp_path / "bot.zip"
    code, out, _ = operator.run("export", found, "--bot", operator.bot_id)
    assert (code, "exported 4/4" in out, found.stat().st_mode & 0o777) == (0, True, 0o600)
    return found


def forget(operator: Operator) -> None:
    """Loses what the chat database has of the bot."""
    for table in (
        "embeddings",
        "chunks",
        "documents",
        "pages",
        "generations",
        "sources",
        "training_tasks",
        "training_jobs",
    ):
        operator.world.chat(f"DELETE FROM {table}")


def swept(operator: Operator) -> list[Any]:
    """Runs that wait after the sweeper has compared both databases, none of whose rows is new."""
    world = operator.world
    world.dashboard(
        "UPDATE training_sources SET created_at = now() - interval '1 h', updated_at = now() - interval '1 h'"
    )
    engines = make_engines(as_workers(world.settings))
    with Redis.from_url(world.settings.redis_url.get_secret_value()) as redis:
        settings = world.settings.model_copy(update={"queue_name": "bells", "refresh_runs_per_org": 2})
        assert Sweeper(engines, redis, settings, "sweeper").sweep()
    engines.chat.dispose()
    engines.dashboard.dispose()
    return world.chat("SELECT source_type FROM training_jobs WHERE status IN ('waiting', 'running')")


def test_another_bot_knows_what_the_first_one_knew(operator: Operator, file: Path) -> None:
    world = operator.world
    other_org = DashboardClient(world.client.stack, org_id=uuid4())
    other = other_org.add_bot("Production", {})
    asked = world.provider.counts.inputs
    code, out, _ = operator.run("import", file, "--bot", other)
    assert (code, out.endswith("4 imported\n")) == (0, True)
    assert world.provider.counts.inputs == asked
    assert operator.live(other) == operator.live()
    assert said(operator, other) == SAID
    rows, theirs = operator.sources(other), operator.sources()
    assert {row["org_id"] for row in rows.values()} == {other_org.org_id}
    assert not {row["id"] for row in rows.values()} & {row["id"] for row in theirs.values()}
    for name, row in rows.items():
        kept = ("type", "url", "title", "content", "options", "object_key", "size_bytes")
        assert {key: row[key] for key in kept} == {key: theirs[name][key] for key in kept}
        assert (row["status"], row["progress"]) == ("trained", 100)
    assert swept(operator) == []


def test_a_retraining_finds_the_imported_pages_unchanged(operator: Operator, file: Path) -> None:
    other = operator.world.client.add_bot("Second", {})
    assert operator.run("import", file, "--bot", other)[0] == 0
    before, asked = operator.live(other), operator.world.provider.counts.inputs
    operator.run("process", "--bot", other)
    operator.world.work()
    receipts = operator.world.chat(
        "SELECT receipt FROM training_jobs WHERE bot_id = %s AND status = 'succeeded' AND request_id IS NULL", other
    )
    assert [row["receipt"]["chunks"]["embedded"] for row in receipts] == [0] * 4
    assert sum(row["receipt"]["pages"]["unchanged"] for row in receipts) >= 5
    assert (operator.live(other), operator.world.provider.counts.inputs) == (before, asked)


def test_a_lost_bot_is_what_it_was(operator: Operator, file: Path) -> None:
    before = operator.live()
    ids = operator.world.chat("SELECT document_id, chunk_id FROM chunks ORDER BY 1, 2")
    forget(operator)
    assert operator.run("import", file, "--bot", operator.bot_id)[0] == 0
    assert operator.live() == before
    assert operator.world.chat("SELECT document_id, chunk_id FROM chunks ORDER BY 1, 2") == ids
    assert (len(operator.sources()), swept(operator)) == (4, [])


def test_nothing_is_written_over_silently(operator: Operator, file: Path, tmp_path: Path) -> None:
    operator.world.chat("UPDATE documents SET title = 'Newer'")
    code, out, _ = operator.run("import", file, "--bot", operator.bot_id)
    assert (code, out.endswith("4 skipped\n")) == (1, True)
    assert "it answers already; --overwrite replaces what it answers" in out
    assert {passage["title"] for passage in operator.live()} == {"Newer"}
    assert operator.run("import", file, "--bot", operator.bot_id, "--overwrite")[0] == 0
    assert "Newer" not in {passage["title"] for passage in operator.live()}
    code, out, _ = operator.run("import", file, "--bot", operator.bot_id, "--overwrite")
    assert (code, out.endswith("4 unchanged\n")) == (0, True)
    assert operator.run("export", file, "--bot", operator.bot_id)[::2] == (
        2,
        f"{file} is there already; --overwrite replaces it.\n",
    )


def test_a_source_in_training_or_deleted_is_left_alone(operator: Operator, file: Path) -> None:
    forget(operator)
    rows = operator.sources()
    operator.run("process", "--source", rows["Hours"]["id"])
    operator.world.client.delete_source(UUID(str(rows["Answers"]["id"])))
    code, out, _ = operator.run("import", file, "--bot", operator.bot_id)
    assert (code, out.endswith("2 imported, 2 skipped\n")) == (1, True)
    assert f"{rows['Hours']['id']}: skipped: it is waiting for its training" in out
    assert f"{rows['Answers']['id']}: skipped: it was deleted here" in out


def test_another_model_needs_the_operators_word(
    operator: Operator, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_DIMENSIONS", "128")
    other = operator.world.client.add_bot("Second", {})
    code, _, err = operator.run("import", file, "--bot", other)
    assert (code, operator.sources(other)) == (2, {})
    assert "(256 dimensions), and the bot reads text-embedding-3-small (128 dimensions). With --reembed" in err
    assert operator.run("import", file, "--bot", other, "--reembed")[0] == 0
    texts = [(passage["title"], passage["text"]) for passage in operator.live()]
    anew = operator.live(other)
    assert [(passage["title"], passage["text"]) for passage in anew] == texts
    assert {str(passage["vector"]).count(",") for passage in anew} == {127}
    (spent,) = operator.world.chat(
        "SELECT prompt_tokens FROM usage_days WHERE bot_id = %s AND purpose = 'embed'", other
    )
    assert spent["prompt_tokens"] > 0


def test_what_a_failed_import_has_paid_is_on_the_account_and_not_paid_again(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, export = operator.world, tmp_path / "bot.zip"
    words = " ".join(
        f"Oven {number // 30} reaches {number} degrees, and is known as {uuid4()}." for number in range(600)
    )
    world.client.add_text_source(operator.bot_id, "Ovens", words)
    with working(world):
        assert operator.run("process", "--bot", operator.bot_id, "--wait")[0] == 0
    assert operator.run("export", export, "--bot", operator.bot_id)[0] == 0
    monkeypatch.setenv("EMBEDDING_DIMENSIONS", "128")
    other = world.client.add_bot("Second", {})
    spent = "SELECT calls, prompt_tokens AS tokens FROM usage_days WHERE bot_id = %s AND purpose = 'embed'"
    stored = "SELECT count(*) AS calls, sum(tokens) AS tokens FROM chunks WHERE bot_id = %s"
    world.provider.controls.poison = "Oven 19"
    code, out, _ = operator.run("import", export, "--bot", other, "--reembed")
    assert (code, "failed: The text “Ovens" in out, operator.live(other)) == (1, True, [])
    (paid,) = world.chat(spent, other)
    assert [paid] == world.chat(stored, other)
    world.provider.controls.poison = None
    asked = world.provider.counts.inputs
    assert operator.run("import", export, "--bot", other, "--reembed")[0] == 0
    passages = operator.live(other)
    assert len(passages) // 4 < paid["calls"] < len(passages)
    assert world.provider.counts.inputs - asked == len(passages) - paid["calls"]
    assert [row["calls"] for row in world.chat(spent, other)] == [len(passages)]


# --- files that are none ----------------------------------------------------------------------------------------------

Entries = dict[str, bytes]


def rewritten(file: Path, change: Callable[[Entries], None], *, sums: bool = True) -> Path:
    """The export with other entries, and checksums that fit them."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    if sums:
        named = {name: hashlib.sha256(body).hexdigest() for name, body in entries.items() if name != CHECKSUMS}
        entries[CHECKSUMS] = json.dumps(named).encode()
    changed = file.with_name("changed.zip")
    with zipfile.ZipFile(changed, "w") as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return changed


def newer(entries: Entries) -> None:
    entries["manifest.json"] = entries["manifest.json"].replace(b'"version": 1', b'"version": 2')


def no_sums(entries: Entries) -> None:
    del entries[CHECKSUMS]


def other_words(entries: Entries) -> None:
    entries["sources/000000/chunks.ndjson"] = entries["sources/000000/chunks.ndjson"].replace(b"o", b"0")


def damaged(file: Path) -> bytes:
    """The export with one bit turned amid its passages: elsewhere in a ZIP file are bytes that mean nothing."""
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("sources/000000/chunks.ndjson")
    body = bytearray(file.read_bytes())
    local_header = 30 + len(entry.filename)
    body[entry.header_offset + local_header + entry.compress_size // 2] ^= 1
    return bytes(body)


def test_damaged_and_foreign_files_are_refused_whole(operator: Operator, file: Path, tmp_path: Path) -> None:
    other = operator.world.client.add_bot("Second", {})
    whole = file.read_bytes()
    bad: list[tuple[bytes, str]] = [
        (whole[: len(whole) // 2], "is no export of a bot's knowledge, or is cut off."),
        (damaged(file), "The export is damaged"),
        (b"words", "is no export"),
        (rewritten(file, newer).read_bytes(), "of version 2, this program reads 1"),
        (rewritten(file, other_words, sums=False).read_bytes(), "chunks.ndjson is not what was written"),
        (
            rewritten(file, lambda entries: entries.update(more=b"x"), sums=False).read_bytes(),
            "not those that it lists",
        ),
        (rewritten(file, lambda entries: entries.update({"manifest.json": b"[]"})).read_bytes(), "is no export"),
        (rewritten(file, no_sums, sums=False).read_bytes(), "is no export"),
    ]
    for body, words in bad:
        path = tmp_path / "bad.zip"
        path.write_bytes(body)
        code, _, err = operator.run("import", path, "--bot", other)
        assert (code, words in err, operator.live(other), operator.sources(other)) == (2, True, [], {}), words
    assert operator.run("import", tmp_path / "none.zip", "--bot", other)[0] == 2


def fewer_vectors(entries: Entries) -> None:
    name = "sources/000001/vectors.f16"
    entries[name] = entries[name][:-512]


def no_text(entries: Entries) -> None:
    name = "sources/000001/chunks.ndjson"
    rows = [json.loads(line) | {"text": None} for line in entries[name].splitlines()]
    entries[name] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def endless(entries: Entries) -> None:
    name = "sources/000001/documents.ndjson"
    entries[name] = re.sub(rb'"published_on": ?[^,]*', b'"published_on":"infinity"', entries[name])


def dateless(entries: Entries) -> None:
    for name in [name for name in entries if name.endswith("documents.ndjson")]:
        entries[name] = re.sub(rb'"(?:published|modified)_on": ?[^,]*,', b"", entries[name])


def test_an_export_from_before_there_were_dates_is_read(operator: Operator, file: Path) -> None:
    other = operator.world.client.add_bot("Second", {})
    assert operator.run("import", rewritten(file, dateless), "--bot", other)[0] == 0
    assert len(operator.live(other)) == len(operator.live())
    assert said(operator, other) == {(None, None)}


@pytest.mark.parametrize("change", [fewer_vectors, no_text, endless])
def test_a_source_that_can_not_be_stored_leaves_nothing(
    operator: Operator, file: Path, change: Callable[[Entries], None]
) -> None:
    other = operator.world.client.add_bot("Second", {})
    code, out, _ = operator.run("import", rewritten(file, change), "--bot", other)
    assert (code, out.endswith("1 failed, 3 imported\n")) == (1, True)
    assert operator.world.chat("SELECT state FROM generations WHERE state = 'building'") == []
    assert operator.world.chat("SELECT task_id FROM training_tasks") == []
    assert operator.run("import", file, "--bot", other)[0] == 0
    assert operator.live(other) == operator.live()


# --- an end in the middle ---------------------------------------------------------------------------------------------


def test_killed_in_the_middle_it_leaves_nothing_half_done_and_goes_on(operator: Operator, file: Path) -> None:
    world, other = operator.world, operator.world.client.add_bot("Second", {})
    command = [sys.executable, "-m", "workers.cli", "import", str(file), "--bot", str(other)]
    with psycopg.connect(world.chat_dsn) as holding:
        holding.execute("LOCK TABLE embeddings IN SHARE MODE")
        process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, **operator.environment})
        try:
            waits = "SELECT pid FROM pg_locks WHERE NOT granted AND relation::regclass::text LIKE 'embeddings%%'"
            deadline = time.monotonic() + 100
            while not world.chat(waits) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL
    states = "SELECT state FROM generations WHERE bot_id = %s"
    assert (operator.live(other), world.chat(states, other)) == ([], [{"state": "building"}])
    code, out, _ = operator.run("import", file, "--bot", other)
    assert (code, out.endswith("3 imported, 1 skipped\n")) == (1, True)
    world.chat("UPDATE training_tasks SET lease_expires_at = now() - interval '1 s'")
    assert len(swept(operator)) == 1
    code, out, _ = operator.run("import", file, "--bot", other)
    assert (code, out.endswith("1 imported, 3 unchanged\n")) == (0, True)
    assert operator.live(other) == operator.live()
    assert (
        world.chat(f"{states} AND state = 'building'", other) == world.chat("SELECT task_id FROM training_tasks") == []
    )


LARGE, ROWS = 8_000, 8_000
"""Characters of a passage, and passages: many times what an import may hold."""
MOST_HELD = 48 << 20


def many_passages(entries: Entries) -> None:
    """Makes the second source one of 64 MB."""
    name, vectors = "sources/000001/chunks.ndjson", "sources/000001/vectors.f16"
    row = json.loads(entries[name].splitlines()[0])
    size = len(entries[vectors]) // len(entries[name].splitlines())
    rows = (
        row | {"chunk_id": str(uuid4()), "ordinal": number, "text": "words " * (LARGE // 6)} for number in range(ROWS)
    )
    entries[name] = b"".join(json.dumps(one).encode() + b"\n" for one in rows)
    entries[vectors] = entries[vectors][:size] * ROWS


def test_an_import_holds_no_source_whole(operator: Operator, file: Path) -> None:
    large, other = rewritten(file, many_passages), operator.world.client.add_bot("Second", {})
    tracemalloc.start()
    try:
        code, out, _ = operator.run("import", large, "--bot", other)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (code, out.endswith("4 imported\n")) == (0, True)
    assert most < MOST_HELD < LARGE * ROWS


def test_what_can_not_be_exported_is_said(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "bot.zip"
    assert operator.run("export", path, "--bot", operator.bot_id)[::2] == (2, "The bot has learnt nothing yet.\n")
    operator.world.client.add_text_source(operator.bot_id, "Hours", "We open at nine.")
    gone = operator.world.client.add_text_source(operator.bot_id, "Gone", "We close at five.")
    operator.run("process", "--bot", operator.bot_id)
    operator.world.work()
    operator.world.dashboard("DELETE FROM training_sources WHERE id = %s", gone)
    code, out, _ = operator.run("export", path, "--bot", operator.bot_id)
    assert (code, f"{gone}: left out: the dashboard has no such source any more" in out) == (1, True)
    assert list(tmp_path.iterdir()) == [path]
    assert operator.run("export", tmp_path / "no" / "bot.zip", "--bot", operator.bot_id)[0] == 2
