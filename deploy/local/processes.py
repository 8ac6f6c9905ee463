"""The stack's processes: started so that none outlives its parent, found by a mark in their environment, ended."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

# A pid says nothing after a restart of the machine; what a process was started with does.
MARK = "EMBEDDED_STACK"
SERVERS = ("postgres", "redis-server")
PR_SET_PDEATHSIG = 1
LOG_BYTES = 10 * 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    account: tuple[int, int] | None = None,
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to `log`, under `account` (uid, gid) if given.

    `death_signal` reaches it when the calling thread's process dies (Linux). Raises OSError.
    """
    uid, gid = account or (None, None)
    with _opened(log) as output:
        return subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=uid,
            group=gid,
            extra_groups=[] if account else None,
            preexec_fn=_tied_to_parent(death_signal),  # noqa: PLW1509 - its callers have one thread
        )


def _opened(log: Path) -> BinaryIO:
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    return log.open("ab")


def _tied_to_parent(death_signal: int) -> Callable[[], None]:
    parent = os.getpid()

    def tie() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def find(root: Path, folders: Collection[Path] = ()) -> list[psutil.Process]:
    """The living processes of the stack at `root`: those that carry its mark, or are servers in one of `folders`.

    PostgreSQL's sessions and Redis overwrite their environment, but each works in its own folder.
    """
    mark, places = str(root), {str(folder) for folder in folders}
    return [
        process for process in psutil.process_iter() if process.pid != os.getpid() and _belongs(process, mark, places)
    ]


def _belongs(process: psutil.Process, mark: str, places: Collection[str]) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get(MARK) == mark or (process.name() in SERVERS and process.cwd() in places)
    except (psutil.Error, OSError):
        return False


def end(processes: Iterable[psutil.Process], patience: float) -> None:
    """Ask the processes to end; kill those that have not after `patience` seconds."""
    living = list(processes)
    for process in living:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    deadline = time.monotonic() + patience
    while (living := [process for process in living if alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in living:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(living, timeout=5)


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie, or another process with its pid, does not count."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def clear_stale_pidfile(pidfile: Path) -> None:
    """Remove a dead PostgreSQL's pid file: were its pid a zombie's or another's, the server would refuse to start.

    While any process still works in the file's folder it stays: the server itself decides then.
    """
    folder = {str(pidfile.parent)}
    if pidfile.exists() and not any(_belongs(process, "", folder) for process in psutil.process_iter()):
        pidfile.unlink(missing_ok=True)
