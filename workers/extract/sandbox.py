"""Owns the parsing of strangers' documents: in throw-away children without powers, each way to die its own error."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from types import TracebackType
from typing import Self

import structlog

from chat_api.core.errors import ParserOutOfMemory, ServiceError, TrainingError
from workers.documents import Document, Fetched
from workers.extract.children import Child, ChildLimits, Pulse, Server, ServerLost
from workers.extract.wire import write_fetched

MAX_DOCUMENTS = 64
MAX_BYTES = 32 << 20

Item = tuple[Fetched, str | None]
Outcome = Document | TrainingError

log = structlog.get_logger(__name__)


class Sandbox:
    """Reads documents in confined children of one warm fork server; heals itself when that one dies.

    `memory_mb` bounds a child's memory beyond the loaded parsers, `timeout_s` the time of each document (wall and CPU),
    `max_answer` the bytes of its text as JSON, `at_once` the children that live at the same time. `entry` names the
    reader as `module:function`, called with a `Fetched` and `filename`. Starts at entering, or at first use; safe to
    use from several threads, and after a fork.
    """

    def __init__(
        self,
        *,
        memory_mb: int = 1024,
        timeout_s: float = 120.0,
        max_answer: int = 64 << 20,
        at_once: int = 2,
        entry: str = "workers.extract.dispatch:extract",
    ) -> None:
        self._limits = ChildLimits(memory_mb, timeout_s, max_answer)
        self._entry = entry
        self._turns = threading.Semaphore(at_once)
        self._server: Server | None = None
        self._lock = threading.Lock()
        self._missing: list[str] = []

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
            if self._server:
                self._stop(self._server)

    def extract(
        self, fetched: Fetched, *, filename: str | None = None, check: Callable[[], None] | None = None
    ) -> Document:
        """The document in what was fetched, read in a child of its own; `check` as for `extract_many`.

        Raises what the reader raises (`workers.extract.dispatch.extract`), and ParserTimeout, ParserOutOfMemory,
        ParserCrashed and TooLarge for the ways in which a reader ends without an answer; ServiceError when the fork
        server can't be started.
        """
        (outcome,) = self.extract_many([(fetched, filename)], check=check)
        if isinstance(outcome, TrainingError):
            raise outcome
        return outcome

    def extract_many(self, items: Sequence[Item], *, check: Callable[[], None] | None = None) -> list[Outcome]:
        """What each of the documents came to, in their order: `extract`'s document, or the error that it raises.

        Documents share children, one after the other, and a hostile one might change what is read of those after it:
        group only what belongs to one source or one org. One that ends its child has its error and the others go on in
        a new child; a lack of memory is only its own when it was alone. `check` is called at least every second; when
        it raises, the child is killed at once. Raises what `check` raises, and ServiceError when the fork server can't
        be started.
        """
        pulse = Pulse(check)
        outcomes: list[Outcome] = []
        alone = False
        while len(outcomes) < len(items):
            size = 1 if alone else _batch([len(fetched.body) for fetched, _ in items[len(outcomes) :]])
            read = self._read(items[len(outcomes) : len(outcomes) + size], pulse)
            alone = len(read) > 1 and isinstance(read[-1], ParserOutOfMemory)
            outcomes += read[:-1] if alone else read
        return outcomes

    def _read(self, items: Sequence[Item], pulse: Pulse) -> list[Outcome]:
        """What the documents came to in one child, up to the first that ended it; at least one."""
        with _turn(self._turns, pulse), _memory_file(items) as file:
            for _ in range(2):
                if outcomes := self._read_in_child(file, items, pulse):
                    return outcomes
        raise ServiceError  # not the document's doing

    def _read_in_child(self, file: int, items: Sequence[Item], pulse: Pulse) -> list[Outcome]:
        """As `_read`, but perhaps none: when the fork server ends or does not answer, which stops it."""
        outcomes: list[Outcome] = []
        server = None
        try:
            with self._lock:
                server = self._started()
                child = server.child(file, len(items), self._limits)
            with child:
                self._warn(child.await_start(pulse))
                outcomes.extend(_outcomes(child, items, pulse))
        except ServerLost:
            with self._lock:
                self._stop(server)
        return outcomes

    def _warn(self, missing: list[str]) -> None:
        if missing != self._missing:
            self._missing = missing
            log.warning("sandbox_incomplete", missing=missing)

    def _started(self) -> Server:
        if self._server and not self._server.usable:
            self._stop(self._server)
        if self._server is None:
            self._server = Server(self._entry, self._limits.memory_mb)
        return self._server

    def _stop(self, server: Server | None) -> None:
        """Stops this server, if another thread has not done so."""
        if server and server is self._server:
            self._server = None
            server.stop()


def _outcomes(child: Child, items: Sequence[Item], pulse: Pulse) -> Iterator[Outcome]:
    for fetched, _ in items:
        try:
            yield child.next(pulse)
        except TrainingError as error:
            log.warning("parser_died", code=error.code, url=fetched.url, **child.details)
            yield error
            return


def _batch(sizes: Sequence[int]) -> int:
    """How many documents, of these bytes each, go into one child: at least one."""
    fitting = sum(total <= MAX_BYTES for total in accumulate(sizes[:MAX_DOCUMENTS]))
    return max(1, fitting)


@contextmanager
def _turn(turns: threading.Semaphore, pulse: Pulse) -> Iterator[None]:
    while not turns.acquire(timeout=pulse.beat(math.inf)):
        pass
    try:
        yield
    finally:
        turns.release()


@contextmanager
def _memory_file(items: Sequence[Item]) -> Iterator[int]:
    """A descriptor of a file that holds the documents and lives in memory."""
    descriptor = os.memfd_create("documents", os.MFD_CLOEXEC)
    try:
        for fetched, filename in items:
            write_fetched(descriptor, fetched, filename)
        yield descriptor
    finally:
        os.close(descriptor)
