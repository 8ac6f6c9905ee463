"""Keeps the leases of a worker's tasks alive while they are done, and tells their progress."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from chat_api.core.database import DATABASE_DOWN
from workers.tasks.life import LEASE_S, HandBackError, LeaseLostError, Task, hand_back, renew

TICK_S = 2.0
GRACE_TICKS = 2
"""How long the working thread has to hand its tasks back itself after the worker was told to stop."""
TOLD_S = 5.0
"""How long the end waits for `told`."""
log = structlog.get_logger(__name__)


class Progress:
    """How far a task is: its stage, what is done of how much, and the seconds each stage took."""

    def __init__(self) -> None:
        self.stage = "fetch"
        self.done = 0
        self.total: int | None = None
        self.unit = "pages"
        self.seconds: dict[str, float] = {}

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Within it the task is at `stage`, and the time counts for it."""
        self.stage = stage
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def snapshot(self) -> dict[str, Any]:
        """What is written to the run's row."""
        return {"stage": self.stage, "done": self.done, "total": self.total, "unit": self.unit}


class Lease:
    """A thread that renews the leases every two seconds; the working thread asks `check()` between its steps.

    A database that does not answer is asked again until the leases are over. When `stopping` says so and the working
    thread is in the middle of a long step, the tasks are handed back from here, for another worker to take at once.
    After a renewal `told` is called, in a thread of its own: whoever it tells may hang, and costs no lease.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: Sequence[Task],
        progress: Mapping[int, Progress],
        *,
        told: Callable[[], object],
        stopping: Callable[[], bool],
    ) -> None:
        self._engine, self._held, self._progress = engine, {task.task_id: task for task in tasks}, progress
        self._told, self._stopping = told, stopping
        self._lost: frozenset[int] = frozenset()
        self._ended = threading.Event()
        self._stop: Exception | None = None
        self._renewed_at = time.monotonic()
        self._grace = GRACE_TICKS
        self._thread = _thread("lease", self._keep)
        self._telling: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=LEASE_S)
        if self._telling:
            self._telling.join(timeout=TOLD_S)

    @property
    def lost(self) -> frozenset[int]:
        """The ids of the tasks that are nobody's or another worker's by now, or over."""
        return self._lost

    def check(self) -> None:
        """Raises LeaseLostError when no task is left, HandBackError when the worker is being stopped."""
        if self._stop:
            raise self._stop
        if time.monotonic() - self._renewed_at > LEASE_S:
            raise LeaseLostError
        if self._stopping():
            raise HandBackError

    def _keep(self) -> None:
        while not self._ended.wait(TICK_S) and self._stop is None:
            self._grace -= self._stopping()
            try:
                if self._grace == GRACE_TICKS:
                    self._renew()
                elif self._grace <= 0:
                    self._hand_back()
            except LeaseLostError as stop:
                self._stop = stop
            except (*DATABASE_DOWN, IntegrityError) as error:
                log.warning("lease_not_renewed", error=type(error).__name__)

    def _renew(self) -> None:
        began = time.monotonic()
        snapshots = {task_id: self._progress[task_id].snapshot() for task_id in self._held}
        with self._engine.begin() as connection:
            held = renew(connection, list(self._held.values()), snapshots)
        self._lost |= self._held.keys() - held
        self._held = {task_id: task for task_id, task in self._held.items() if task_id in held}
        if not held:
            raise LeaseLostError
        self._renewed_at = began
        if not (self._telling and self._telling.is_alive()):
            self._telling = _thread("tell", self._told)
            self._telling.start()

    def _hand_back(self) -> None:
        with self._engine.begin() as connection:
            hand_back(connection, self._held.values())
        for task in self._held.values():
            log.info("task_handed_back", **task.names, stage=self._progress[task.task_id].stage)
        raise LeaseLostError


def _thread(name: str, target: Callable[[], object]) -> threading.Thread:
    """One whose log lines have the tasks' ids, too."""
    return threading.Thread(target=copy_context().run, args=(target,), name=name, daemon=True)
