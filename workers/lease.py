"""Keeps a run's lease alive while it is trained, and tells its progress."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from chat_api.core.database import DATABASE_DOWN
from workers.runs import LEASE_S, LeaseLostError, Run, RunCancelledError, renew, settle

TICK_S = 2.0
GRACE_TICKS = 2
"""How long the training thread has to hand the run back itself after the worker was told to stop."""
log = structlog.get_logger(__name__)


class Progress:
    """How far a run is: its stage, what is done of how much, and the seconds each stage took."""

    def __init__(self) -> None:
        self.stage = "fetch"
        self.done = 0
        self.total: int | None = None
        self.unit = "pages"
        self.seconds: dict[str, float] = {}

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Within it the run is at `stage`, and the time counts for it."""
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
    """A thread that renews the lease every two seconds; the training thread asks `check()` between its steps.

    A database that does not answer is asked again until the lease is over. When `stopping` says so and the training
    thread is in the middle of a long step, the run is handed back from here, for another worker to take at once.
    """

    def __init__(
        self, engine: Engine, run: Run, progress: Progress, *, told: Callable[[], object], stopping: Callable[[], bool]
    ) -> None:
        self._engine, self._run, self._progress, self._told, self._stopping = engine, run, progress, told, stopping
        self._ended = threading.Event()
        self._stop: Exception | None = None
        self._renewed_at = time.monotonic()
        self._grace = GRACE_TICKS
        # The run's ids belong in this thread's log lines, too.
        self._thread = threading.Thread(target=copy_context().run, args=(self._keep,), name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=LEASE_S)

    def check(self) -> None:
        """Raises LeaseLostError or RunCancelledError when the training must stop."""
        if self._stop:
            raise self._stop
        if time.monotonic() - self._renewed_at > LEASE_S:
            raise LeaseLostError

    def _keep(self) -> None:
        while not self._ended.wait(TICK_S) and self._stop is None:
            self._grace -= self._stopping()
            try:
                if self._grace == GRACE_TICKS:
                    self._renew()
                elif self._grace <= 0:
                    self._hand_back()
            except (LeaseLostError, RunCancelledError) as stop:
                self._stop = stop
            except (*DATABASE_DOWN, IntegrityError) as error:
                log.warning("lease_not_renewed", error=type(error).__name__)

    def _renew(self) -> None:
        began = time.monotonic()
        with self._engine.begin() as connection:
            renew(connection, self._run, self._progress.snapshot())
        self._renewed_at = began
        self._told()

    def _hand_back(self) -> None:
        with self._engine.begin() as connection:
            settle(connection, self._run, "waiting", refund=True)
        log.info("run_handed_back", stage=self._progress.stage)
        raise LeaseLostError
