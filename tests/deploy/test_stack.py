"""The stack's commands with small placeholder children: starting, keeping, ending, and what is said when they can't."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local import processes, stack
from deploy.local.plan import Child, Plan
from deploy.local.state import MEBIBYTE, StackError, State
from tests.deploy import placeholders
from tests.deploy.placeholders import eventually, kill, living, up


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder whose stack, if any, is ended after the test."""
    yield tmp_path / "state"
    stack.down(tmp_path / "state", patience=10)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running stack for the tests that leave it running."""
    root = tmp_path_factory.mktemp("shared")
    up(root)
    yield root
    stack.down(root, patience=10)


def test_up_says_what_runs(shared: Path) -> None:
    described = State(shared).stack()
    assert set(described["pids"]) == {"api", "worker-1"}
    assert all(psutil.pid_exists(pid) for pid in described["pids"].values())
    assert stat.S_IMODE(State(shared).stack_json.stat().st_mode) == 0o600


def test_up_on_a_running_stack_changes_nothing(shared: Path) -> None:
    before = State(shared).stack_json.read_bytes(), {process.pid for process in living(shared)}
    up(shared)
    assert before == (State(shared).stack_json.read_bytes(), {process.pid for process in living(shared)})


@pytest.mark.parametrize("name", ["api", "worker-1"])
def test_a_process_that_dies_is_back_within_3_seconds(shared: Path, name: str) -> None:
    dead = State(shared).stack()["pids"][name]
    kill(psutil.Process(dead))
    back = eventually(lambda: {**State(shared).stack()["pids"], dead: 0}.get(name) not in {dead, None}, seconds=3)
    assert back
    assert psutil.Process(State(shared).stack()["pids"][name]).is_running()


def test_status_says_that_all_runs(shared: Path) -> None:
    eventually(lambda: stack.status(shared)[0])
    table = stack.status(shared)[1].splitlines()
    pids = State(shared).stack()["pids"]
    assert [line.split()[:2] for line in table[1:-1]] == [[name, str(pid)] for name, pid in pids.items()]
    assert table[-1] == "ready"


def test_status_says_what_is_gone(root: Path) -> None:
    up(root)
    # Without a supervisor nothing is started again.
    kill(placeholders.supervisor(root))
    eventually(lambda: not living(root))
    well, table = stack.status(root)
    assert not well
    assert "gone" in table


def test_down_leaves_no_process_and_can_be_said_twice(root: Path) -> None:
    def plan(state: State) -> Plan:
        return placeholders.plan(state, placeholders.script(state, "stray", placeholders.STUBBORN))

    stack.up(root, plan, limit=30)
    eventually(lambda: len(living(root)) == 5)  # supervisor, API, worker, stray and its child
    stack.down(root)
    assert not living(root)
    assert not State(root).stack_json.exists()
    stack.down(root)
    assert stack.status(root) == (False, f"the stack in {root} is down")


def test_down_finds_what_a_dead_supervisor_left(root: Path) -> None:
    def plan(state: State) -> Plan:
        return placeholders.plan(state, placeholders.script(state, "stray", placeholders.STRAY))

    stack.up(root, plan, limit=30)
    eventually(lambda: len(living(root)) == 5)
    kill(placeholders.supervisor(root))
    stack.down(root)
    assert not living(root)


def test_up_after_a_kill_of_the_supervisor_or_of_all(root: Path) -> None:
    ports = up(root) and State(root).choices()["ports"]
    kill(placeholders.supervisor(root))
    first = up(root)
    assert all(psutil.pid_exists(pid) for pid in first.values())
    kill(*living(root))
    assert State(root).stack()["pids"] == first
    second = up(root)
    assert first != second
    assert len(living(root)) == 3
    assert State(root).choices()["ports"] == ports


def test_two_stacks_stand_side_by_side(root: Path, shared: Path) -> None:
    other = {process.pid for process in living(shared)}
    up(root)
    assert State(root).stack()["api_url"] != State(shared).stack()["api_url"]
    stack.down(root)
    assert {process.pid for process in living(shared)} == other


def test_a_start_that_fails_says_why_in_one_line_and_leaves_nothing(root: Path) -> None:
    def plan(state: State) -> Plan:
        crash = "import sys; print('reading', flush=True); sys.exit('settings: OPENAI_API_KEY is missing')"
        return placeholders.plan(state, placeholders.script(state, "worker-2", crash, ready="tcp:1"))

    with pytest.raises(StackError) as raised:
        stack.up(root, plan, limit=30)
    assert str(raised.value) == "worker-2 ended (1): reading | settings: OPENAI_API_KEY is missing"
    eventually(lambda: not living(root))
    assert stack.status(root)[1].endswith(str(raised.value))


def test_a_start_that_hangs_says_what_was_waited_for(root: Path) -> None:
    def plan(state: State) -> Plan:
        described = placeholders.plan(state)
        deaf = Child("deaf", ("sleep", "600"), env={processes.MARK: str(state.root)}, ready="tcp:1")
        return Plan(tiers=((deaf,),), info=described.info, start_seconds=0.3)

    with pytest.raises(StackError, match=r"^not started within 0\.3 s: deaf: port 1 did not answer"):
        stack.up(root, plan, limit=30)


def test_a_missing_program_is_said_in_one_line(root: Path) -> None:
    def plan(state: State) -> Plan:
        lost = Child("lost", ("/nowhere/server",), env={processes.MARK: str(state.root)})
        return Plan(tiers=((lost,),), info=placeholders.plan(state).info)

    with pytest.raises(StackError, match=r"lost ended \(No such file or directory: /nowhere/server\)"):
        stack.up(root, plan, limit=30)


def test_what_runs_once_is_waited_for_and_not_started_again(root: Path) -> None:
    def plan(state: State) -> Plan:
        prepare = placeholders.script(state, "prepare", f"open({str(state.root / 'prepared')!r}, 'a').write('x')")
        described = placeholders.plan(state)
        once = Child(prepare.name, prepare.command, env=prepare.env, once=True)
        return Plan(tiers=((once,), *described.tiers), info=described.info)

    pids = stack.up(root, plan, limit=30)["pids"]
    assert set(pids) == {"api", "worker-1"}
    assert (root / "prepared").read_text() == "x"


def test_a_given_port_in_use_is_named_with_its_variable(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert stack.main(["up"], {"STATE": str(root), "API_PORT": str(port)}) == 1
    assert capsys.readouterr().err == f"up: API_PORT={port}: port {port} is in use\n"


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"REDIS_PORT": "http"}, "REDIS_PORT=http is not a port"),
        ({"S3_PORT": "0"}, "S3_PORT=0 is not a port"),
        ({"API_PORT": "20123", "S3_PORT": "20123"}, "S3_PORT=20123: the stack already uses this port"),
    ],
)
def test_a_port_that_can_not_be_is_refused(root: Path, environ: dict[str, str], reason: str) -> None:
    with pytest.raises(StackError, match=reason):
        State.create(root).ports(environ)


def test_ports_are_remembered_while_they_are_free(root: Path) -> None:
    state = State.create(root)
    first = state.ports({})
    assert state.ports({}) == first
    with socket.create_server(("127.0.0.1", first["api"])):
        moved = state.ports({})
    assert moved["api"] != first["api"]
    assert {**moved, "api": 0} == {**first, "api": 0}


def test_a_full_disk_is_said_in_one_line(root: Path) -> None:
    with pytest.raises(StackError, match=f"^disk full: 10 MiB are free for {root}, 256 MiB are needed$"):
        stack.up(root, placeholders.plan, free=lambda _: 10 * MEBIBYTE)


def test_a_folder_that_can_not_be_made_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "state"
    assert stack.main(["up"], {"STATE": str(root)}) == 1
    assert capsys.readouterr().err == f"up: Not a directory: {root}\n"


def test_bad_settings_are_said_before_anything_starts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"STATE": str(root), "EMBEDDING_PROVIDER": "openai", "WORKERS": "none"}
    assert stack.main(["up"], environ) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("up: ")
    assert "WORKERS" in line
    assert not (root / "postgres").exists()


def test_the_commands_answer_on_the_command_line(tmp_path: Path) -> None:
    root = tmp_path / "state"
    result = subprocess.run(
        [sys.executable, "-m", "deploy.local.stack", "status"],
        cwd=stack.REPOSITORY,
        env={**os.environ, "STATE": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, f"the stack in {root} is down\n")
    assert stack.main(["sideways"], {}) == 2
    assert stack.main(["down"], {"STATE": str(root)}) == 0
    assert not root.exists()
