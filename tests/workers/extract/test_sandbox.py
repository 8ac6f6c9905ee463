"""The sandbox: the same documents as outside of it, each way to die its own error, and no powers inside."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from chat_api.core.errors import (
    EncryptedDocument,
    NoText,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimeout,
    ServiceError,
    TooLarge,
    UnsupportedType,
)
from tests.workers.extract.files import encrypted, manual, page, scan
from tests.workers.extract.processes import KILLERS, deed, descendants, lines, server_pids, until
from workers.documents import Fetched
from workers.extract.dispatch import extract
from workers.extract.sandbox import Sandbox


@pytest.fixture(scope="module")
def killers() -> Iterator[Sandbox]:
    """A sandbox whose reader does what it is told."""
    with Sandbox(entry=KILLERS, memory_mb=128, timeout_s=20, max_answer=8 << 20) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def readers() -> Iterator[Sandbox]:
    """A sandbox with the real readers."""
    with Sandbox(timeout_s=60) as sandbox:
        yield sandbox


# --- the same as outside ----------------------------------------------------------------------------------------------

_TABLE = "<table><tr><th>a<th>b<tr><td>1<td>2</table>"
GOOD = [
    page(f"<html lang=de><main><h1>Grüße</h1><p>Ein Absatz mit Text.</p>{_TABLE}<pre>x = 1</pre></main>"),
    Fetched(
        "https://a.example/x", 200, "<html><body><p>Возврат товара возможен всегда.".encode("koi8-r"), charset="koi8-r"
    ),
    Fetched("https://a.example/x", 200, ("Возврат товара возможен в течение месяца. " * 5).encode("cp1251")),
    Fetched(
        "https://a.example/x", 200, "送料は五百円です。返品は三十日以内に。".encode("shift_jis"), charset="shift_jis"
    ),
    Fetched("https://a.example/x", 200, "送料は五百円です。".encode("iso2022_jp"), charset="iso-2022-jp"),
    Fetched("https://a.example/x", 200, "繁體中文網頁".encode("big5"), charset="big5"),
    Fetched("https://a.example/x", 200, "Un café, s'il vous plaît.".encode("cp1252"), charset="ibm866"),
    Fetched("https://a.example/x.md", 200, b"# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n"),
    Fetched("s3://bucket/manual", 200, manual(3)),
    Fetched("s3://bucket/locked", 200, encrypted(manual(1), "")),
]
BAD = [
    (Fetched("s3://bucket/x", 200, scan(2)), NoText),
    (Fetched("s3://bucket/x", 200, encrypted(manual(1), "secret")), EncryptedDocument),
    (Fetched("s3://bucket/x", 200, b"PK\x03\x04" + bytes(60)), UnsupportedType),
]


@pytest.mark.parametrize(
    "fetched",
    GOOD,
    ids=["html", "koi8", "cp1251", "sjis", "iso-2022", "big5", "cp866", "markdown", "pdf", "locked pdf"],
)
def test_reads_what_the_readers_read(readers: Sandbox, fetched: Fetched) -> None:
    assert readers.extract(fetched) == extract(fetched)


@pytest.mark.parametrize(("fetched", "cls"), BAD)
def test_raises_what_the_readers_raise(readers: Sandbox, fetched: Fetched, cls: type[ServiceError]) -> None:
    with pytest.raises(cls) as outside:
        extract(fetched)
    with pytest.raises(cls) as inside:
        readers.extract(fetched)
    assert inside.value.message == outside.value.message


def test_the_fallback_for_pdf_has_all_that_it_needs_inside(readers: Sandbox) -> None:
    body = manual(2).replace(b"/Type /Pages", b"/Type /Pagez")
    with pytest.raises(ServiceError) as outside:
        extract(Fetched("s3://b/x", 200, body[:400]))
    with pytest.raises(type(outside.value)):
        readers.extract(Fetched("s3://b/x", 200, body[:400]))


def test_large_bodies_and_names_arrive_whole(killers: Sandbox) -> None:
    body = b"echo" + b"x" * (3 << 20)
    document = killers.extract(Fetched("https://a.example/", 200, body, "text/x"), filename="ünï.txt")
    assert document.blocks[0].text.encode() == body
    assert (document.title, document.media_type) == ("ünï.txt", "text/x")


# --- ways to die ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("segfault", ParserCrashed),
        ("eat", ParserOutOfMemory),
        ("eat natively", ParserOutOfMemory),
        ("killed", ParserOutOfMemory),
        ("flood", TooLarge),
        ("boast", TooLarge),
        ("typed", EncryptedDocument),
        ("untyped", ParserCrashed),
        ("foreign error", ParserCrashed),
        ("recurse", ParserCrashed),
        ("exit", ParserCrashed),
        ("system exit", ParserCrashed),
    ],
)
def test_each_death_has_its_error_and_spares_the_next(killers: Sandbox, name: str, cls: type[ServiceError]) -> None:
    with pytest.raises(cls) as caught:
        killers.extract(deed(name))
    assert type(caught.value) is cls
    assert lines(killers.extract(deed("echo alive"))) == ["echo alive"]


@pytest.mark.parametrize("name", ["sleep", "spin", "hush"])
def test_time_is_up(name: str) -> None:
    with Sandbox(entry=KILLERS, timeout_s=0.3) as sandbox:
        with pytest.raises(ParserTimeout):
            sandbox.extract(deed(name))
        assert lines(sandbox.extract(deed("echo alive"))) == ["echo alive"]


def test_cpu_time_is_up() -> None:
    with Sandbox(entry=KILLERS, timeout_s=1) as sandbox, pytest.raises(ParserTimeout):
        sandbox.extract(deed("spin"))


def test_a_typed_error_keeps_its_sentence(killers: Sandbox) -> None:
    with pytest.raises(EncryptedDocument, match=r"^A sentence of its own\.$"):
        killers.extract(deed("typed"))


def test_an_untyped_error_is_logged_by_name_without_its_words(killers: Sandbox) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(ParserCrashed):
        killers.extract(deed("untyped"))
    (entry,) = (entry for entry in logs if entry["event"] == "parser_died")
    assert entry["raised"] == "KeyError"
    assert "secret" not in json.dumps(entry)


# --- powers -----------------------------------------------------------------------------------------------------------


def test_nothing_forbidden_can_be_done(killers: Sandbox) -> None:
    outcomes = dict(line.split(": ") for line in lines(killers.extract(deed("forbidden"))))
    assert outcomes.pop("raise its limits") in {"PermissionError", "ValueError"}
    allowed = {name: outcome for name, outcome in outcomes.items() if outcome not in {"PermissionError", "OSError"}}
    assert allowed == {}
    assert not Path("/tmp/leak").exists()


def test_the_child_is_nobody_with_nothing(killers: Sandbox) -> None:
    report = json.loads(lines(killers.extract(deed("report")))[0])
    assert report["environment"] == {}
    assert report["core"] == report["size"] == report["files"] == [0, 0]
    assert len(report["descriptors"]) == 5  # the three standard ones, the body, the answer
    assert report["no_new_privileges"] == 1
    if os.geteuid() == 0:
        assert report["uids"] == report["gids"] == [65534] * 3
        assert report["groups"] == []


# --- the fork server --------------------------------------------------------------------------------------------------


def test_heals_when_the_fork_server_dies() -> None:
    with Sandbox(entry=KILLERS) as sandbox:
        assert lines(sandbox.extract(deed("echo one"))) == ["echo one"]
        os.kill(server_pids()[-1], signal.SIGKILL)
        assert lines(sandbox.extract(deed("echo two"))) == ["echo two"]


def test_heals_when_the_fork_server_dies_while_it_reads() -> None:
    with Sandbox(entry=KILLERS, timeout_s=1) as sandbox:
        sandbox.extract(deed("echo warm"))
        timer = threading.Timer(0.3, os.kill, (server_pids()[-1], signal.SIGKILL))
        timer.start()
        with pytest.raises(ParserTimeout):  # read again by the next server, and given up there
            sandbox.extract(deed("sleep"))
        assert lines(sandbox.extract(deed("echo two"))) == ["echo two"]


def test_no_process_outlives_a_killed_worker() -> None:
    worker = subprocess.Popen([sys.executable, "-c", _WORKER], cwd=Path(__file__).parents[3])
    try:
        until(lambda: len(descendants(worker.pid)) >= 2, 30)
        family = descendants(worker.pid)
    finally:
        worker.kill()
        worker.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


_WORKER = f"""
from workers.documents import Fetched
from workers.extract.sandbox import Sandbox
Sandbox(entry={KILLERS!r}).extract(Fetched("https://a.example/", 200, b"sleep"))
"""


def test_a_reader_that_does_not_start_is_not_the_documents_fault() -> None:
    with Sandbox(entry="tests.no_such_module:extract") as sandbox, pytest.raises(ServiceError) as caught:
        sandbox.extract(deed("echo"))
    assert type(caught.value) is ServiceError
    assert caught.value.retryable


def test_closing_leaves_no_process_and_use_starts_anew() -> None:
    sandbox = Sandbox(entry=KILLERS)
    sandbox.extract(deed("echo"))
    pid = server_pids()[-1]
    sandbox.close()
    assert not Path(f"/proc/{pid}").exists()
    assert lines(sandbox.extract(deed("echo again"))) == ["echo again"]
    sandbox.close()


def test_threads_take_turns(killers: Sandbox) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda text=f"echo {number}": found.extend(lines(killers.extract(deed(text)))))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == [f"echo {number}" for number in range(8)]


def test_a_forked_process_gets_a_server_of_its_own(killers: Sandbox) -> None:
    killers.extract(deed("echo parent"))
    pid = os.fork()
    if pid == 0:
        good = lines(killers.extract(deed("echo child"))) == ["echo child"] and server_pids()
        killers.close()
        os._exit(0 if good else 1)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert lines(killers.extract(deed("echo parent"))) == ["echo parent"]
