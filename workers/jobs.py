"""What a bell sets off: claim a due run, train its source, settle it; then the next, until none is due."""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from chat_api.core.errors import DatabaseUnavailable, ServiceError, SourceDeleted
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
    retry_in,
    settle,
)
from workers.store import discard

SHIFT_S = 600
log = structlog.get_logger(__name__)
stopping = threading.Event()
"""Set when this process is told to stop: the run under way is handed back, and no other is claimed."""
_wired: dict[int, Collaborators] = {}


def train_due(_job_id: str) -> None:
    """The RQ job: trains whatever is due, for ten minutes at most; the id only says why the bell was rung."""
    work(collaborators(), until=time.monotonic() + SHIFT_S)


def collaborators() -> Collaborators:
    """This process's collaborators: made once, and anew after a fork."""
    if os.getpid() not in _wired:
        settings = load_settings()
        configure_logging(settings)
        _wired.clear()
        _wired[os.getpid()] = bootstrap(settings)
    return _wired[os.getpid()]


def work(worker: Collaborators, *, until: float) -> int:
    """Trains due runs until there are none, or `until` on the monotonic clock; how many."""
    done = 0
    while time.monotonic() < until and not stopping.is_set():
        with worker.engines.chat.begin() as connection:
            run = claim(connection, worker.holder)
        if run is None:
            break
        process(worker, run)
        done += 1
    return done


def process(worker: Collaborators, run: Run) -> None:
    """Trains one claimed run and settles it, whatever happens."""
    bind_request_id(run.request_id)
    with structlog.contextvars.bound_contextvars(job_id=str(run.job_id), source_id=str(run.source_id), fence=run.fence):
        log.info("run_started", attempt=run.attempt)
        began = time.perf_counter()
        outcome = _train(worker, run)
        log.info("run_ended", outcome=outcome, seconds=round(time.perf_counter() - began, 3))
        _tell(worker, run)


def _train(worker: Collaborators, run: Run) -> str:
    progress = Progress()
    try:
        with Lease(worker.engines.chat, run, progress, lambda: _tell(worker, run)) as lease:
            found = load_source(worker.engines.dashboard, run)
            _tell(worker, run)
            train(run, found, worker.stages, progress, _checks(lease))
    except LeaseLostError:
        return "lease_lost"
    except HandBackError:
        return _give_up(worker, run, "waiting", None)
    except (RunCancelledError, SourceDeleted) as stop:
        return _give_up(worker, run, "cancelled", stop if isinstance(stop, SourceDeleted) else None)
    except ServiceError as error:
        return _fail(worker, run, error)
    except OperationalError as error:
        log.warning("database_away", error=type(error.orig).__name__)
        return _fail(worker, run, DatabaseUnavailable())
    except Exception:  # the edge of a run: whatever it is, the run must be settled and the worker live on
        log.exception("run_broke")
        return _fail(worker, run, ServiceError())
    return "succeeded"


def _checks(lease: Lease) -> Callable[[], None]:
    def check() -> None:
        if stopping.is_set():
            raise HandBackError
        lease.check()

    return check


def _fail(worker: Collaborators, run: Run, error: ServiceError) -> str:
    age_s = (datetime.now(UTC) - run.created_at).total_seconds()
    wait_s = retry_in(run, error, age_s)
    log.warning("run_failed", code=error.code, message=error.message, retry_in_s=wait_s)
    if wait_s is None:
        return _give_up(worker, run, "failed", error)
    return _give_up(worker, run, "waiting", error, wait_s)


def _give_up(worker: Collaborators, run: Run, status: str, error: ServiceError | None, wait_s: float = 0) -> str:
    def write(connection: Connection) -> None:
        discard(connection, run)
        settle(connection, run, status, error=error, wait_s=wait_s)

    return status if _persist(worker, write) else "left_to_sweeper"


def _persist(worker: Collaborators, write: Callable[[Connection], None]) -> bool:
    """Writes to the chat database, trying again until the lease is over; then the sweeper takes the run."""
    until = time.monotonic() + LEASE_S
    while time.monotonic() < until:
        try:
            with worker.engines.chat.begin() as connection:
                write(connection)
        except OperationalError:
            time.sleep(1)
        else:
            return True
    return False


def _tell(worker: Collaborators, run: Run) -> None:
    try:
        project_status(worker.engines.chat, worker.engines.dashboard, run.job_id)
    except SQLAlchemyError as error:
        log.warning("dashboard_not_told", error=type(error).__name__)
