"""What the sandbox's tests ask of processes: whose children live, which descriptors are open; and of the killers."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from workers.documents import Document, Fetched

KILLERS = "tests.workers.extract.killers:extract"


def deed(name: str) -> Fetched:
    """A document that makes its reader do something."""
    return Fetched("https://evil.example/", 200, name.encode(), "text/plain")


def lines(document: Document) -> list[str]:
    """What the reader brought back."""
    return [block.text for block in document.blocks]


def children(pid: int) -> list[int]:
    """The processes that this one started, dead ones that nobody has asked after among them.

    Found by each one's parent: the kernel keeps its list of children by thread, and those of a thread that is ending
    are in none that can be read.
    """
    try:
        return sorted(child.pid for child in psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return []


def descendants(pid: int) -> list[int]:
    """The processes below this one."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def server_pids(entry: str = KILLERS) -> list[int]:
    """This process's fork servers with the killers, or another reader, the latest last."""
    return [pid for pid in children(os.getpid()) if entry in _command(pid)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def descriptors(pid: int | str = "self") -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for the condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
