"""What a bell sets off: claim a due run, train its source, settle it; then the next, until none is due."""

import os
import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from chat_api.core.database import DATABASE_DOWN
from chat_api.core.errors import DatabaseUnavailable, ServiceError, SourceDeleted
from chat_api.core.models.dashboard import row_version
from chat_api.core.settings import load_settings
from chat_api.core.telemetry import bind_request_id, configure_logging
from workers.bootstrap import Collaborators, bootstrap
from workers.dashboard import load_source, project_status
from workers.lease import Lease, Progress
from workers.pipeline import train
from workers.runs import (
    LEASE_S,
    HandBackError,
    LeaseLostError,
    Run,
    RunCancelledError,
    claim,
    costs_attempt,
    note_version,
    retry_in,
    settle,
)

SHIFT_S = 60
log = structlog.get_logger(__name__)
stopping = threading.Event()
"""Set when this process is told to stop: the run under way is handed back, and no other is claimed."""
_wired: dict[int, Collaborators] = {}


def train_due(_job_id: str) -> None:
    """The RQ job: claims what is due for a minute at most; the id only says why the bell was rung."""
    parent = os.getppid()  # once it is gone nobody could tell this process to stop
    work(
        collaborators(),
        until=time.monotonic() + SHIFT_S,
        stop=lambda: stopping.is_set() or os.getppid() != parent,
    )


def collaborators() -> Collaborators:
    """This process's collaborators: made once, and anew after a fork."""
    if os.getpid() not in _wired:
        settings = load_settings()
        configure_logging(settings)
        _wired.clear()
        _wired[os.getpid()] = bootstrap(settings)
    return _wired[os.getpid()]


def work(worker: Collaborators, *, until: float, stop: Callable[[], bool] = stopping.is_set) -> int:
    """Trains due runs until there are none, or `until` on the monotonic clock, or `stop`; how many."""
    done = 0
    while time.monotonic() < until and not stop():
        try:
            with worker.engines.chat.begin() as connection:
                run = claim(connection, worker.holder)
        except DATABASE_DOWN as error:
            log.warning("nothing_claimed", error=type(error).__name__)  # the sweeper rings again
            break
        if run is None:
            break
        process(worker, run, stop)
        done += 1
    return done


def process(worker: Collaborators, run: Run, stop: Callable[[], bool]) -> None:
    """Trains one claimed run and settles it, whatever happens."""
    bind_request_id(run.request_id)
    with structlog.contextvars.bound_contextvars(job_id=str(run.job_id), source_id=str(run.source_id), fence=run.fence):
        log.info("run_started", attempt=run.attempt)
        began = time.perf_counter()
        outcome = _train(worker, run, stop)
        log.info("run_ended", outcome=outcome, seconds=round(time.perf_counter() - began, 3))
        _tell(worker, run)


def _train(worker: Collaborators, run: Run, stop: Callable[[], bool]) -> str:
    progress, chat = Progress(), worker.engines.chat
    try:
        with Lease(chat, run, progress, told=lambda: _tell(worker, run), stopping=stop) as lease:
            found = load_source(worker.engines.dashboard, run)
            with chat.begin() as connection:
                note_version(connection, run, row_version(found.source, found.file.object_key if found.file else None))
            _tell(worker, run)
            train(run, found, worker.stages, progress, _checks(lease, stop))
    except LeaseLostError:
        return "lease_lost"
    except HandBackError:
        return _give_up(worker, run, "waiting", None, refund=True)
    except (RunCancelledError, SourceDeleted) as end:
        return _give_up(worker, run, "cancelled", end if isinstance(end, SourceDeleted) else None)
    except ServiceError as error:
        return _fail(worker, run, error)
    except DATABASE_DOWN as error:
        log.warning("database_away", error=type(error).__name__)
        return _fail(worker, run, DatabaseUnavailable())
    except Exception:  # the edge of a run: whatever it is, the run must be settled and the worker live on
        log.exception("run_broke")
        return _fail(worker, run, ServiceError())
    return "succeeded"


def _checks(lease: Lease, stop: Callable[[], bool]) -> Callable[[], None]:
    def check() -> None:
        lease.check()
        if stop():
            raise HandBackError

    return check


def _fail(worker: Collaborators, run: Run, error: ServiceError) -> str:
    wait_s = retry_in(run, error)
    log.warning("run_failed", code=error.code, message=error.message, retry_in_s=wait_s)
    if wait_s is None:
        return _give_up(worker, run, "failed", error)
    return _give_up(worker, run, "waiting", error, wait_s=wait_s, refund=not costs_attempt(error))


def _give_up(
    worker: Collaborators, run: Run, status: str, error: ServiceError | None, *, wait_s: float = 0, refund: bool = False
) -> str:
    """Settles the run, trying again until the lease is over; then the sweeper takes it. What became of it."""
    until = time.monotonic() + LEASE_S
    while time.monotonic() < until:
        try:
            with worker.engines.chat.begin() as connection:
                settled = settle(connection, run, status, error=error, wait_s=wait_s, refund=refund)
        except (*DATABASE_DOWN, IntegrityError):
            time.sleep(1)
        else:
            return settled or "lease_lost"
    return "left_to_sweeper"


def _tell(worker: Collaborators, run: Run) -> None:
    try:
        project_status(worker.engines.chat, worker.engines.dashboard, run.job_id)
    except SQLAlchemyError as error:
        log.warning("dashboard_not_told", error=type(error).__name__)
