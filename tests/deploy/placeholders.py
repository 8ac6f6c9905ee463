"""Small children in the place of the stack's own, and what the tests ask about processes."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from deploy.local import processes, stack
from deploy.local.plan import Child, Plan
from deploy.local.processes import MARK
from deploy.local.state import State

Value = TypeVar("Value")
# Its child leaves the session, so that no group kill finds it; the stubborn one's ignores SIGTERM too.
STRAY = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
time.sleep(600)
"""
STUBBORN = STRAY.replace("    os.setsid()", "    os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN)")


def api(state: State, port: int) -> Child:
    """A web server that answers /readyz with 200."""
    site = state.root / "site"
    site.mkdir(exist_ok=True)
    site.joinpath("readyz").write_text("ready")
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(site))
    return Child("api", command, env={MARK: str(state.root)}, ready=f"http://127.0.0.1:{port}/readyz")


def script(state: State, name: str, code: str, ready: str = "") -> Child:
    """A child that runs Python code."""
    return Child(name, (sys.executable, "-c", code), env={MARK: str(state.root)}, ready=ready)


def plan(state: State, *more: Child) -> Plan:
    """A web server as the API, and one worker that sleeps."""
    ports = state.ports({})
    return Plan(
        tiers=((script(state, "worker-1", "import time; time.sleep(600)"),), (api(state, ports["api"]), *more)),
        info=info(state, ports["api"]),
        start_seconds=20,
    )


def info(state: State, port: int) -> dict[str, object]:
    """What stack.json says of a stack that has only an API."""
    return {
        "api_url": f"http://127.0.0.1:{port}",
        "dashboard_url": "http://127.0.0.1:1",
        "chat_db_dsn": "postgresql://127.0.0.1:2/chat",
        "redis_url": "redis://127.0.0.1:3/0",
        "s3": {"endpoint_url": "http://127.0.0.1:4"},
        "log_dir": str(state.logs),
    }


def up(root: Path) -> dict[str, int]:
    """Start the placeholders' stack; its pids."""
    pids: dict[str, int] = stack.up(root, plan, limit=30)["pids"]
    return pids


def living(root: Path) -> list[psutil.Process]:
    """The processes of the stack in `root`, its supervisor too."""
    return processes.find(root, State(root).server_folders)


def kill(*found: psutil.Process) -> None:
    """kill -9, and wait until they are gone."""
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):  # a server's children end when they see it gone
            process.send_signal(signal.SIGKILL)
    eventually(lambda: not any(processes.alive(process) for process in found))


def supervisor(root: Path) -> psutil.Process:
    """The supervisor of the stack in `root`."""
    [found] = [process for process in living(root) if stack.SUPERVISOR in process.cmdline()]
    return found


def eventually(check: Callable[[], Value], seconds: float = 15) -> Value:
    """What `check` returns once it is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return value
