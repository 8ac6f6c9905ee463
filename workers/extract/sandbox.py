"""Owns the parsing of strangers' documents: each in a throw-away child without powers, each way to die its own error."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from chat_api.core.errors import (
    InvalidUrl,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimeout,
    ServiceError,
    TooLarge,
)
from workers.documents import Document, Fetched
from workers.extract.forkserver import FAILED, MESSAGE_BYTES, OUT_OF_MEMORY
from workers.extract.wire import load_answer

_ROOT = Path(__file__).parents[2]
_START_S, _GRACE_S = 60.0, 5.0
_READ = 1 << 20
_NAME = re.compile(rb"X([A-Za-z_][A-Za-z0-9_]{0,60})")

log = structlog.get_logger(__name__)


class _ServerLost(Exception):
    """The fork server ended or does not answer."""


@dataclass(slots=True)
class _Server:
    """The fork server's process and our end of its control socket; `owner` is the process that started it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    owner: int
    ready: bool = False


class Sandbox:
    """Reads documents in confined children of one warm fork server, one at a time; heals itself when that one dies.

    `memory_mb` bounds a child's memory beyond the loaded parsers, `timeout_s` its wall and CPU time, `max_answer` the
    bytes of its document as JSON. `entry` names the reader as `module:function`, called with a `Fetched` and `filename`.
    Starts at entering, or at first use; safe to use from several threads, and after a fork.
    """

    def __init__(
        self,
        *,
        memory_mb: int = 1024,
        timeout_s: float = 120.0,
        max_answer: int = 64 << 20,
        entry: str = "workers.extract.dispatch:extract",
    ) -> None:
        self._memory_mb = memory_mb
        self._timeout_s = timeout_s
        self._max_answer = max_answer
        self._entry = entry
        self._server: _Server | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with self._lock:
            self._started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the fork server and what it is reading; the next use starts another."""
        with self._lock:
            self._stop()

    def extract(self, fetched: Fetched, *, filename: str | None = None, timeout_s: float | None = None) -> Document:
        """The document in what was fetched; `timeout_s` can only shorten the sandbox's own.

        Raises what the reader raises (`workers.extract.dispatch.extract`), and ParserTimeout, ParserOutOfMemory,
        ParserCrashed and TooLarge for the ways in which a reader ends without an answer; ServiceError when the fork
        server can't be started.
        """
        seconds = min(self._timeout_s, self._timeout_s if timeout_s is None else timeout_s)
        request = _request(fetched, filename, seconds)
        with self._lock, _memory_file(fetched.body) as body:
            try:
                status, answer = self._ask(request, body, seconds)
            except _ServerLost:
                self._stop()
                try:
                    status, answer = self._ask(request, body, seconds)
                except _ServerLost:
                    self._stop()
                    raise ServiceError from None  # not the document's doing
        if error := _death(status, self._memory_mb):
            log.warning("parser_died", code=error.code, url=fetched.url, **_details(status, answer))
            raise error
        if len(answer) > self._max_answer:
            raise TooLarge("The document's text is larger than allowed. Split it.")
        return load_answer(answer)

    def _ask(self, request: bytes, body: int, seconds: float) -> tuple[dict[str, Any], bytes]:
        """What became of the child, and what it wrote, cut behind `max_answer`."""
        server = self._started()
        _await_ready(server)
        reading, writing = os.pipe()
        try:
            try:
                socket.send_fds(server.control, [request], [body, writing])
            except OSError:
                raise _ServerLost from None
            finally:
                os.close(writing)
            return self._collect(server, reading, time.monotonic() + seconds + _GRACE_S)
        finally:
            os.close(reading)

    def _collect(self, server: _Server, reading: int, deadline: float) -> tuple[dict[str, Any], bytes]:
        answer = bytearray()
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        poll.register(server.control, select.POLLIN)
        while len(answer) <= self._max_answer:
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if not ready:
                raise _ServerLost
            if reading in ready:
                part = os.read(reading, _READ)
                answer += part
                if not part:
                    poll.unregister(reading)
            elif server.control.fileno() in ready:
                # The child is dead and nothing is left to read.
                return _received(server), bytes(answer)
        self._stop()
        return {"status": 0, "timed_out": False, "peak_kib": 0}, bytes(answer)

    def _started(self) -> _Server:
        server = self._server
        if server and server.owner != os.getpid():
            server.control.close()  # our parent's: a fork brought us here
            server = None
        if server and server.process.poll() is not None:
            self._stop()
            server = None
        if server is None:
            server = self._server = _start(self._entry, self._memory_mb)
        return server

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server:
            server.control.close()
            if server.owner == os.getpid():
                server.process.kill()
                server.process.wait()


def _start(entry: str, memory_mb: int) -> _Server:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-s", "-m", "workers.extract.forkserver"),
                *(str(theirs.fileno()), entry, str(memory_mb), str(os.getpid())),
            ],
            pass_fds=[theirs.fileno()],
            cwd=_ROOT,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return _Server(process, ours, os.getpid())


def _await_ready(server: _Server) -> None:
    if not server.ready:
        poll = select.poll()
        poll.register(server.control, select.POLLIN)
        if not poll.poll(_START_S * 1000):
            raise _ServerLost
        if missing := _received(server)["missing"]:
            log.warning("sandbox_incomplete", missing=missing)
        server.ready = True


def _received(server: _Server) -> dict[str, Any]:
    try:
        data = server.control.recv(MESSAGE_BYTES)
    except OSError:
        data = b""
    if not data:
        raise _ServerLost
    return dict(json.loads(data))


def _request(fetched: Fetched, filename: str | None, seconds: float) -> bytes:
    request = {
        "url": fetched.url,
        "status": fetched.status,
        "media_type": fetched.media_type,
        "charset": fetched.charset,
        "filename": filename and filename[-255:],
        "seconds": seconds,
    }
    data = json.dumps(request).encode()
    if len(data) > MESSAGE_BYTES:
        raise InvalidUrl
    return data


@contextmanager
def _memory_file(body: bytes) -> Iterator[int]:
    """A descriptor of a file that holds the body and lives in memory."""
    descriptor = os.memfd_create("document", os.MFD_CLOEXEC)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
        yield descriptor
    finally:
        os.close(descriptor)


def _death(status: dict[str, Any], memory_mb: int) -> ServiceError | None:
    """The error that stands for the child's end, or None if it ended well."""
    if status["timed_out"]:
        return ParserTimeout()
    if os.WIFSIGNALED(status["status"]):
        return _death_by_signal(os.WTERMSIG(status["status"]), status["peak_kib"] >= 0.9 * 1024 * memory_mb)
    code = os.WEXITSTATUS(status["status"])
    if code == OUT_OF_MEMORY:
        return ParserOutOfMemory()
    return ParserCrashed() if code else None


def _death_by_signal(number: int, full: bool) -> ServiceError:
    if number == signal.SIGXCPU:
        return ParserTimeout()
    # Nobody here kills a child but for time: that was the kernel, out of memory.
    return ParserOutOfMemory() if number == signal.SIGKILL or full else ParserCrashed()


def _details(status: dict[str, Any], answer: bytes) -> dict[str, Any]:
    found = _NAME.fullmatch(answer)
    raised = found.group(1).decode() if found and os.WEXITSTATUS(status["status"]) == FAILED else None
    return {"status": status["status"], "peak_kib": status["peak_kib"], "raised": raised}
