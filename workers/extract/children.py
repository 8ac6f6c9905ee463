"""Owns the worker's end of parsing: a fork server's process, and the confined children it forks, each of limited time."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chat_api.core.errors import ParserCrashed, ParserOutOfMemory, ParserTimeout, TrainingError
from workers.documents import Document
from workers.extract.forkserver import MESSAGE_BYTES, OUT_OF_MEMORY
from workers.extract.wire import Frames, load_answer

_ROOT = Path(__file__).parents[2]
_START_S, _STOP_S = 60.0, 2.0
_BEAT_S = 0.5
_READ = 1 << 20
_NAME = re.compile(rb"X([A-Za-z_][A-Za-z0-9_]{0,60})")


class ServerLost(Exception):
    """The fork server ended or does not answer."""


class Pulse:
    """Asks whether to go on, at most every half second: `check` raises when not."""

    def __init__(self, check: Callable[[], None] | None) -> None:
        self._check = check
        self._next = 0.0

    def beat(self, until: float) -> float:
        """The seconds to wait for before the next beat, less when `until`, by the monotonic clock, comes earlier."""
        now = time.monotonic()
        if self._check and now >= self._next:
            self._check()
            self._next = now + _BEAT_S
        return max(0.0, min(_BEAT_S, until - now))


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may use: MiB of memory beyond the loaded parsers, seconds and bytes of answer per document."""

    memory_mb: int
    seconds: float
    most: int


class Child:
    """A confined child that reads documents; leaving its context kills it, if it lives, and never waits.

    `answers` is the pipe it writes to, `link` the socket on which the fork server tells of its start and end.
    """

    def __init__(self, answers: int, link: socket.socket, limits: ChildLimits) -> None:
        self._answers, self._link, self._limits = answers, link, limits
        self._frames = Frames(limits.most)
        self.details: dict[str, object] = {}
        """How it ended, for the log, where it ended by itself."""
        self._poll = select.poll()
        self._poll.register(answers, select.POLLIN)
        self._poll.register(link, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._answers)
        self._link.close()

    def await_start(self, pulse: Pulse) -> list[str]:
        """Waits until the child runs; what the system did not let be taken from it. Raises ServerLost."""
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        deadline = time.monotonic() + _START_S
        while not poll.poll(pulse.beat(deadline) * 1000):
            if time.monotonic() >= deadline:
                raise ServerLost
        return list(self._news()["missing"])

    def next(self, pulse: Pulse) -> Document | TrainingError:
        """What the next document came to. Raises the TrainingError that the child ended with over it, and ServerLost."""
        deadline = time.monotonic() + self._limits.seconds
        while (answer := self._frames.take()) is None:
            ready = dict(self._poll.poll(pulse.beat(deadline) * 1000))
            if self._answers in ready:
                self._read()
            elif ready:
                raise self._death(**self._news())
            elif time.monotonic() >= deadline:
                raise ParserTimeout
        if found := _NAME.fullmatch(answer):
            self.details = {"raised": found.group(1).decode()}
        return load_answer(answer)

    def _read(self) -> None:
        part = os.read(self._answers, _READ)
        self._frames.feed(part)
        if not part:
            self._poll.unregister(self._answers)

    def _death(self, status: int, peak_kib: int) -> TrainingError:
        self.details = {"status": status, "peak_kib": peak_kib}
        if os.WIFSIGNALED(status):
            return _death_by_signal(os.WTERMSIG(status), peak_kib >= 0.9 * 1024 * self._limits.memory_mb)
        return ParserOutOfMemory() if os.WEXITSTATUS(status) == OUT_OF_MEMORY else ParserCrashed()

    def _news(self) -> dict[str, Any]:
        try:
            data = self._link.recv(MESSAGE_BYTES)
        except OSError:
            data = b""
        if not data:
            raise ServerLost
        return dict(json.loads(data))


class Server:
    """A fork server's process, of one reader and one size of children; it ends with this process, or when stopped."""

    def __init__(self, entry: str, memory_mb: int) -> None:
        self._owner = os.getpid()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-s", "-m", "workers.extract.forkserver"),
                    *(str(theirs.fileno()), entry, str(memory_mb), str(self._owner)),
                ],
                pass_fds=[theirs.fileno()],
                cwd=_ROOT,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    @property
    def usable(self) -> bool:
        """Whether it lives, and is this process's own: a fork leaves it to the parent."""
        return self._owner == os.getpid() and self._process.poll() is None

    def child(self, file: int, documents: int, limits: ChildLimits) -> Child:
        """Asks for a child that reads the documents in a file. Raises ServerLost."""
        request = {"documents": documents, "seconds": limits.seconds}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        child = Child(reading, ours, limits)
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], [file, writing, theirs.fileno()])
        except OSError:
            with child:
                raise ServerLost from None
        finally:
            os.close(writing)
            theirs.close()
        return child

    def stop(self) -> None:
        """Ends it and its children; only lets go of it in a process that did not start it."""
        self._control.close()
        if self._owner != os.getpid():
            return
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _death_by_signal(number: int, full: bool) -> TrainingError:
    if number == signal.SIGXCPU:
        return ParserTimeout()
    # Nobody kills a child that is waited for: that was the kernel, out of memory.
    return ParserOutOfMemory() if number == signal.SIGKILL or full else ParserCrashed()
