"""The sandbox with several documents at once: in one child or in several threads, stopped at any moment."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import pytest

from chat_api.core.errors import EncryptedDocument, ParserCrashed, ParserOutOfMemory, ParserTimeout, TooLarge
from tests.workers.extract.files import manual, page
from tests.workers.extract.processes import KILLERS, deed, descendants, descriptors, lines, server_pids, until
from workers.documents import Document, Fetched
from workers.extract.dispatch import extract
from workers.extract.sandbox import MAX_BYTES, MAX_DOCUMENTS, Outcome, Sandbox

IDLE = 5
"""Descriptors of a fork server without children: the standard three, the control socket, the worker's process."""


class Stopped(Exception):
    """What a check raises in these tests."""


def stop() -> None:
    """A check that always stops."""
    raise Stopped


def stops_at(number: int) -> Callable[[], None]:
    """A check that stops when it is asked for the n-th time."""
    asked = count(1)

    def check() -> None:
        if next(asked) == number:
            raise Stopped

    return check


@pytest.fixture
def killers() -> Iterator[Sandbox]:
    """A sandbox whose reader does what it is told."""
    with Sandbox(entry=KILLERS, memory_mb=128, timeout_s=20, max_answer=8 << 20) as sandbox:
        yield sandbox


@pytest.fixture
def hasty() -> Iterator[Sandbox]:
    """The same with little time for each document."""
    with Sandbox(entry=KILLERS, memory_mb=128, timeout_s=2) as sandbox:
        yield sandbox


def many(sandbox: Sandbox, *names: str) -> list[Outcome]:
    """What became of these deeds, done in one call."""
    return sandbox.extract_many([(deed(name), None) for name in names])


def told(outcome: Outcome) -> str:
    """The one line that a document holds."""
    assert isinstance(outcome, Document)
    return lines(outcome)[0]


def parsing() -> bool:
    """Whether some fork server has a child."""
    return any(descendants(server) for server in server_pids())


# --- one child for several --------------------------------------------------------------------------------------------


def test_many_come_to_what_each_comes_to_alone() -> None:
    bodies = [page(f"<html><main><h1>Page {number}</h1><p>Some text.</p></main></html>") for number in range(5)]
    bodies.insert(2, Fetched("s3://bucket/manual", 200, manual(2)))
    with Sandbox() as sandbox:
        outcomes = sandbox.extract_many([(fetched, "a name.html") for fetched in bodies])
    assert outcomes == [extract(fetched, filename="a name.html") for fetched in bodies]


def test_nothing_comes_to_nothing(killers: Sandbox) -> None:
    assert killers.extract_many([]) == []


def test_each_has_its_own_outcome_and_the_others_go_on(killers: Sandbox) -> None:
    names = ["echo 1", "segfault", "echo 2", "typed", "eat", "eat natively", "untyped", "flood", "echo 3"]
    outcomes = many(killers, *names)
    expected = [EncryptedDocument, ParserOutOfMemory, ParserOutOfMemory, ParserCrashed, TooLarge]
    assert [type(outcome) for outcome in outcomes] == [Document, ParserCrashed, Document, *expected, Document]
    assert [told(outcomes[index]) for index in (0, 2, 8)] == ["echo 1", "echo 2", "echo 3"]


def test_a_group_shares_a_child_until_one_dies_and_the_next_group_gets_another(killers: Sandbox) -> None:
    first, second, _, third = many(killers, "pid", "pid", "segfault", "pid")
    (fourth,) = many(killers, "pid")
    assert told(first) == told(second)
    assert len({told(second), told(third), told(fourth)}) == 3


def test_memory_left_over_is_not_the_next_ones_fault(killers: Sandbox) -> None:
    assert [type(outcome) for outcome in many(killers, "hoard", "need", "echo")] == [Document] * 3


def test_a_hungry_one_in_the_middle_is_blamed_when_it_was_alone(killers: Sandbox) -> None:
    outcomes = many(killers, "echo", "eat", "echo")
    assert [type(outcome) for outcome in outcomes] == [Document, ParserOutOfMemory, Document]


def test_the_time_limit_is_each_documents_own(hasty: Sandbox) -> None:
    assert [told(outcome) for outcome in many(hasty, *["nap"] * 4)] == ["rested"] * 4


def test_a_slow_one_is_given_up_and_the_others_go_on(hasty: Sandbox) -> None:
    outcomes = many(hasty, "echo", "sleep", "echo")
    assert [type(outcome) for outcome in outcomes] == [Document, ParserTimeout, Document]


def test_cpu_time_is_each_documents_own_within_the_childs(killers: Sandbox) -> None:
    for outcome in many(killers, "report", "report", "report"):
        soft, hard = json.loads(told(outcome))["cpu"]
        assert soft == 21  # the twenty seconds and what was used before, rounded up
        assert hard == 61  # of three documents, and one to die in


def test_spinning_documents_do_not_use_up_the_time_of_others() -> None:
    with Sandbox(entry=KILLERS, timeout_s=1) as sandbox:
        outcomes = many(sandbox, "spin", "echo", "spin", "echo")
    assert [type(outcome) for outcome in outcomes] == [ParserTimeout, Document] * 2


def test_large_groups_take_several_children_in_order(killers: Sandbox) -> None:
    outcomes = many(killers, *["pid"] * (2 * MAX_DOCUMENTS + 1))
    assert len({told(outcome) for outcome in outcomes}) == 3


def test_large_bodies_take_several_children(killers: Sandbox) -> None:
    bodies = [b"pid".ljust(MAX_BYTES // 2), b"pid".ljust(MAX_BYTES // 2), b"pid", b"pid".ljust(MAX_BYTES + 1), b"pid"]
    outcomes = killers.extract_many([(Fetched("https://a.example/", 200, body), None) for body in bodies])
    pids = [told(outcome) for outcome in outcomes]
    assert pids[0] == pids[1]
    assert len(set(pids)) == 4


def test_what_was_read_before_the_fork_server_died_is_kept(killers: Sandbox) -> None:
    def strike() -> None:
        if (servers := server_pids()) and descendants(servers[-1]) and not struck:
            struck.append(servers[-1])
            os.kill(servers[-1], signal.SIGKILL)

    struck: list[int] = []
    outcomes = killers.extract_many([(deed(name), None) for name in ["pid", "nap", "nap", "pid"]], check=strike)
    assert struck
    assert [type(outcome) for outcome in outcomes] == [Document] * 4
    assert told(outcomes[0]) != told(outcomes[3])


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_a_check_that_raises_kills_the_child_at_once(killers: Sandbox) -> None:
    killers.extract(deed("echo"))
    (server,) = server_pids()
    with pytest.raises(Stopped):
        killers.extract(deed("sleep"), check=stops_at(3))
    until(lambda: descendants(server) == [])
    assert lines(killers.extract(deed("echo again"))) == ["echo again"]


def test_the_check_is_asked_again_and_again_while_documents_come(killers: Sandbox) -> None:
    with pytest.raises(Stopped):
        killers.extract_many([(deed("nap"), None)] * 30, check=stops_at(4))


def test_the_check_is_asked_while_waiting_for_a_turn() -> None:
    with Sandbox(entry=KILLERS, at_once=1) as sandbox, ThreadPoolExecutor() as threads:
        ended = threading.Event()
        sleeper = threads.submit(sandbox.extract, deed("sleep"), check=partial(_stop_when, ended))
        until(parsing)
        with pytest.raises(Stopped):
            sandbox.extract(deed("echo"), check=stops_at(3))
        ended.set()
        assert isinstance(sleeper.exception(20), Stopped)


def _stop_when(ended: threading.Event) -> None:
    if ended.is_set():
        raise Stopped


def test_no_descriptor_and_no_process_is_left_behind(hasty: Sandbox) -> None:
    many(hasty, "echo", "segfault")
    (server,) = server_pids()
    before = descriptors()
    for _ in range(2):
        many(hasty, "echo", "typed", "segfault", "eat", "hush", "boast", "untyped", "echo")
        for check in (stop, stops_at(2)):
            with pytest.raises(Stopped):
                hasty.extract(deed("sleep"), check=check)
    until(lambda: descendants(server) == [])
    until(lambda: descriptors(server) == IDLE)
    assert descriptors() == before
    hasty.close()
    assert descriptors() == before - 1
    assert server not in descendants(os.getpid())


def test_lost_fork_servers_leave_no_descriptor_behind(killers: Sandbox) -> None:
    killers.extract(deed("echo"))
    before = descriptors()
    for _ in range(3):
        os.kill(server_pids()[-1], signal.SIGKILL)
        killers.extract(deed("echo"))
    assert descriptors() == before
    assert len(server_pids()) == 1


def test_closing_takes_the_children_along(hasty: Sandbox) -> None:
    with ThreadPoolExecutor() as threads:
        sleeper = threads.submit(hasty.extract, deed("sleep"))
        until(parsing)
        (server,) = server_pids()
        family = {server, *descendants(server)}
        hasty.close()
        until(lambda: not family & set(descendants(os.getpid())))
        assert isinstance(sleeper.exception(20), ParserTimeout)  # read anew by the next server


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_with_groups_and_deaths_do_not_mix(killers: Sandbox) -> None:
    def work(number: int) -> list[str]:
        outcomes = many(killers, *[f"echo {number}.{turn}" for turn in range(5)], "segfault", f"echo {number}.last")
        assert isinstance(outcomes[5], ParserCrashed)
        return [told(outcome) for outcome in outcomes if isinstance(outcome, Document)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, range(24)))
    assert found == [[f"echo {number}.{turn}" for turn in (*range(5), "last")] for number in range(24)]


def test_a_slow_document_does_not_hold_up_another_thread() -> None:
    with Sandbox(entry=KILLERS) as sandbox, ThreadPoolExecutor() as threads:
        ended = threading.Event()
        sleeper = threads.submit(sandbox.extract, deed("sleep"), check=partial(_stop_when, ended))
        until(parsing)
        assert lines(sandbox.extract(deed("echo"))) == ["echo"]
        ended.set()
        assert isinstance(sleeper.exception(20), Stopped)


def test_the_fork_server_outlives_the_thread_that_started_it() -> None:
    with Sandbox(entry=KILLERS) as sandbox:
        thread = threading.Thread(target=sandbox.extract, args=(deed("echo"),))
        thread.start()
        thread.join()
        servers = server_pids()
        assert lines(sandbox.extract(deed("echo"))) == ["echo"]
        assert servers
        assert server_pids() == servers
