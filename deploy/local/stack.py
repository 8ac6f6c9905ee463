"""The embedded stack's commands: `python -m deploy.local.stack up|down|status`; its folder is STATE, `.local` by default."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from deploy.local import processes
from deploy.local.plan import Plan
from deploy.local.probes import http_problem
from deploy.local.processes import MARK
from deploy.local.state import StackError, State, free_bytes

REPOSITORY = Path(__file__).resolve().parents[2]
SUPERVISOR = "deploy.local.supervisor"
START_SECONDS, STOP_SECONDS = 120.0, 60.0


def up(
    root: Path,
    plan_of: Callable[[State], Plan],
    *,
    free: Callable[[Path], int] = free_bytes,
    limit: float = START_SECONDS,
) -> dict[str, Any]:
    """Start the stack in `root` unless it runs; what stack.json holds once it is ready. Raises StackError, OSError."""
    state = State.create(root, free)
    lock = state.take_lock()
    if lock is not None:
        try:
            _launch(state, plan_of, lock)
        finally:
            os.close(lock)
    return _ready_stack(state, limit)


def up_with(root: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Have the embedded stack run with the settings in `environ`: one that was started with others is started again."""
    # Here, because the other commands need none of the service's own settings.
    from deploy.local.children import changed_settings, embedded

    stack = up(root, lambda state: embedded(state, environ))
    if changed := changed_settings(State(root.absolute()), environ):
        print(f"Starting again, for {', '.join(changed)} ...", flush=True)
        down(root)
        stack = up(root, lambda state: embedded(state, environ))
    return stack


def _launch(state: State, plan_of: Callable[[State], Plan], lock: int) -> None:
    state.forget_stack()
    processes.end(_living(state), patience=10)
    plan = plan_of(state).to_json()
    with (state.logs / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", SUPERVISOR, str(state.root)],
            cwd=REPOSITORY,
            env={**os.environ, MARK: str(state.root)},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock],
        )
    if supervisor.stdin:
        with supervisor.stdin:
            supervisor.stdin.write(plan.encode())


def _ready_stack(state: State, limit: float) -> dict[str, Any]:
    deadline = time.monotonic() + limit
    while True:
        problem = _problem(state, stack := state.stack())
        if problem is None:
            return stack
        if stack.get("state") == "failed":
            raise StackError(stack["reason"])
        if not state.locked():
            raise StackError(f"the supervisor has ended: see {state.logs / 'supervisor.log'}")
        if time.monotonic() > deadline:
            raise StackError(f"not ready within {limit:g} s: {problem}")
        time.sleep(0.1)


def _problem(state: State, stack: Mapping[str, Any]) -> str | None:
    if not state.locked():
        return "its supervisor does not run"
    if stack.get("state") != "running":
        return "it has not started all its processes"
    return http_problem(f"{stack['api_url']}/readyz")


def down(root: Path, patience: float = STOP_SECONDS) -> bool:
    """End every process of the stack in `root`; whether there was one."""
    state = State(root.absolute())
    living = _living(state)
    for process in living:
        if _supervises(process):
            process.terminate()
    deadline = time.monotonic() + patience
    while state.locked() and time.monotonic() < deadline:
        time.sleep(0.05)
    processes.end(_living(state), patience=5)
    state.forget_stack()
    return bool(living)


def remove(root: Path) -> None:
    """End the stack in `root` and delete all that it kept, PostgreSQL's files elsewhere too."""
    down(root)
    for folder in (Path(State(root.absolute()).choices().get("postgres_home", root)), root):
        shutil.rmtree(folder, ignore_errors=True)


def _living(state: State) -> list[psutil.Process]:
    return processes.find(state.root, state.server_folders)


def _supervises(process: psutil.Process) -> bool:
    try:
        return SUPERVISOR in process.cmdline()
    except psutil.Error:
        return False


def status(root: Path) -> tuple[bool, str]:
    """Whether all of the stack runs and is ready, and a table that says so."""
    state = State(root.absolute())
    stack = state.stack()
    if not stack:
        return False, f"the stack in {state.root} is down"
    if stack.get("state") == "failed":
        return False, f"the stack in {state.root} is down: {stack['reason']}"
    living = {process.pid: process for process in _living(state)}
    ages = {name: _age(living.get(pid)) for name, pid in stack["pids"].items()}
    problem = _problem(state, stack)
    told = f"not ready: {problem}" if problem else "ready"
    return problem is None and all(ages.values()), f"{_table(stack, ages)}\n{told}"


def _table(stack: Mapping[str, Any], ages: Mapping[str, str | None]) -> str:
    addresses = _addresses(stack)
    rows = [("NAME", "PID", "UP", "ADDRESS", "LOG")]
    for name, pid in stack["pids"].items():
        log = f"{stack['log_dir']}/{name}.log"
        rows.append((name, str(pid), ages[name] or "gone", addresses.get(name, "-"), log))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _addresses(stack: Mapping[str, Any]) -> dict[str, str]:
    def place(url: str) -> str:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}"

    return {
        "api": stack["api_url"],
        "dashboard": stack["dashboard_url"],
        "postgres": place(stack["chat_db_dsn"]),
        "redis": place(stack["redis_url"]),
        "s3": stack["s3"]["endpoint_url"],
    }


def _age(process: psutil.Process | None) -> str | None:
    try:
        return str(timedelta(seconds=int(time.time() - process.create_time()))) if process else None
    except psutil.Error:
        return None


def _up_command(root: Path, environ: Mapping[str, str]) -> int:
    try:
        stack = up_with(root, environ)
    except StackError as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"up: {error.strerror}: {error.filename or root}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        down(root)
        return 130
    home = Path(State(root.absolute()).choices()["postgres_home"])
    if not home.is_relative_to(root.absolute()):
        print(f"up: PostgreSQL does not run as root, and its account can't enter {root}: its files are in {home}")
    print(f"up: API {stack['api_url']}  dashboard {stack['dashboard_url']}  details {root / 'stack.json'}")
    return 0


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Carry out the command; its exit code."""
    root = Path(environ.get("STATE") or ".local")
    match arguments:
        case ["up"]:
            return _up_command(root, environ)
        case ["down"]:
            down(root)
            print("down")
            return 0
        case ["status"]:
            well, table = status(root)
            print(table)
            return 0 if well else 1
    print("usage: python -m deploy.local.stack up|down|status", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
