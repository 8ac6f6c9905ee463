"""A run's life in the chat database: claimed with a lease and a fence, renewed, and settled once.

Times are the database's own, so that no worker's clock matters. Every write of a run names its fence: a worker that
was stopped past its lease finds the fence gone and writes nothing.
"""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from chat_api.core.errors import DependencyError, ServiceError

LEASE_S = 60
MAX_ATTEMPTS = 5
MAX_CRASHES = 3
PATIENCE_H = 24


class LeaseLostError(Exception):
    """The run belongs to another worker now, or to none: stop, and write nothing more."""


class RunCancelledError(Exception):
    """The run was cancelled, or its source deleted: stop and say so."""


class HandBackError(Exception):
    """The worker is being stopped: hand the run back, for another one to take at once."""


@dataclass(frozen=True, slots=True)
class Run:
    """A claimed run: which source it trains, and the fence its writes must name."""

    job_id: UUID
    org_id: UUID
    bot_id: UUID
    source_id: UUID
    fence: int
    attempt: int
    force: bool
    created_at: datetime
    request_id: str | None


CLAIM = text("""
    WITH due AS (
        SELECT job_id FROM training_jobs AS waiting
        WHERE status = 'waiting' AND run_after <= now()
          AND NOT EXISTS (SELECT FROM training_jobs AS other WHERE other.org_id = waiting.org_id
                          AND other.source_id = waiting.source_id AND other.status = 'running')
        ORDER BY priority = 'bulk', created_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE training_jobs AS job
    SET status = 'running', stage = 'fetch', attempt = attempt + 1, started_at = coalesce(started_at, now()),
        fence = nextval('fences'), lease_holder = :holder, lease_expires_at = now() + make_interval(secs => :lease_s),
        progress_done = 0, progress_total = NULL, status_version = nextval('status_versions')
    FROM due WHERE job.job_id = due.job_id
    RETURNING job.job_id, org_id, bot_id, source_id, fence, attempt, force, created_at, request_id
""")


def claim(connection: Connection, holder: str) -> Run | None:
    """Takes the next due run, or None. Two workers never get the same one."""
    row = connection.execute(CLAIM, {"holder": holder, "lease_s": LEASE_S}).one_or_none()
    return Run(*row) if row else None


RENEW = text("""
    UPDATE training_jobs
    SET lease_expires_at = now() + make_interval(secs => :lease_s), stage = :stage, progress_done = :done,
        progress_total = :total, progress_unit = :unit,
        status_version = CASE WHEN (stage, progress_done, progress_total) IS DISTINCT FROM (:stage, :done, :total)
                              THEN nextval('status_versions') ELSE status_version END
    WHERE job_id = :job_id AND fence = :fence AND status = 'running' AND lease_expires_at > now()
    RETURNING cancel_requested_at IS NOT NULL
""")


def renew(connection: Connection, run: Run, progress: dict[str, Any]) -> None:
    """Lengthens the lease and reports stage and progress. Raises LeaseLostError or RunCancelledError."""
    values = {"job_id": run.job_id, "fence": run.fence, "lease_s": LEASE_S, **progress}
    _held_or_raise(connection.execute(RENEW, values).one_or_none())


HELD = text("""
    SELECT cancel_requested_at IS NOT NULL FROM training_jobs
    WHERE job_id = :job_id AND fence = :fence AND status = 'running' AND lease_expires_at > now()
    FOR SHARE
""")


def assert_held(connection: Connection, run: Run) -> None:
    """Holds the run's row until the transaction ends, so that what it writes is written under its fence.

    Raises LeaseLostError or RunCancelledError.
    """
    _held_or_raise(connection.execute(HELD, {"job_id": run.job_id, "fence": run.fence}).one_or_none())


def _held_or_raise(row: Row[Any] | None) -> None:
    if row is None:
        raise LeaseLostError
    if row[0]:
        raise RunCancelledError


SETTLE = text("""
    UPDATE training_jobs
    SET status = :status, stage = coalesce(:stage, stage), progress_done = coalesce(:done, progress_done),
        progress_total = coalesce(:total, progress_total), progress_unit = coalesce(:unit, progress_unit), run_after = now() + make_interval(secs => :wait_s), error_code = :code,
        error_message = :message, error_retryable = :retryable, receipt = CAST(:receipt AS jsonb), lease_holder = NULL,
        lease_expires_at = NULL, finished_at = CASE WHEN :status = 'waiting' THEN NULL ELSE now() END,
        status_version = nextval('status_versions')
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
""")


def settle(
    connection: Connection,
    run: Run,
    status: str,
    *,
    error: ServiceError | None = None,
    wait_s: float = 0,
    receipt: str | None = None,
    progress: dict[str, Any] | None = None,
) -> bool:
    """Ends the run with `status`, or puts it back to `waiting` for `wait_s` seconds; False if the fence is gone."""
    values = {
        **{"job_id": run.job_id, "fence": run.fence, "status": status, "wait_s": wait_s, "receipt": receipt},
        **(progress or dict.fromkeys(("stage", "done", "total", "unit"))),
        "code": error.code if error else None,
        "message": error.message if error else None,
        "retryable": error.retryable if error else None,
    }
    return connection.execute(SETTLE, values).rowcount == 1


def retry_in(run: Run, error: ServiceError, age_s: float) -> float | None:
    """Seconds until the run is tried again after `error`, or None when it has failed for good.

    A dependency that is away costs patience (24 hours from the run's creation), another passing error one of five
    attempts. The wait doubles from 5 s to 5 minutes, jittered, and is never shorter than the server asked for.
    """
    if not error.retryable:
        return None
    patient = isinstance(error, DependencyError) and age_s < PATIENCE_H * 3600
    if not patient and run.attempt >= MAX_ATTEMPTS:
        return None
    wait = min(300.0, 5.0 * 2.0 ** min(run.attempt - 1, 10)) * random.uniform(0.8, 1.2)  # noqa: S311  # jitter, not a secret
    return max(wait, error.retry_after or 0.0)


EXPIRE = text("""
    UPDATE training_jobs
    SET crash_count = crash_count + 1, lease_holder = NULL, lease_expires_at = NULL,
        status = CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                      WHEN crash_count + 1 >= :max_crashes THEN 'quarantined' ELSE 'waiting' END,
        error_code = CASE WHEN crash_count + 1 >= :max_crashes THEN :code END,
        error_message = CASE WHEN crash_count + 1 >= :max_crashes THEN :message || ' (at: ' || stage || ')' END,
        error_retryable = CASE WHEN crash_count + 1 >= :max_crashes THEN false END,
        finished_at = CASE WHEN cancel_requested_at IS NOT NULL OR crash_count + 1 >= :max_crashes THEN now() END,
        run_after = now() + make_interval(secs => 2 * crash_count), status_version = nextval('status_versions')
    WHERE job_id IN (SELECT job_id FROM training_jobs WHERE status = 'running' AND lease_expires_at < now()
                     LIMIT 500 FOR UPDATE SKIP LOCKED)
    RETURNING job_id, status, stage, crash_count
""")


def expire_leases(connection: Connection, *, code: str, message: str) -> list[Row[Any]]:
    """Takes runs from workers that died: back to waiting, or to quarantine after the third death."""
    values = {"max_crashes": MAX_CRASHES, "code": code, "message": message}
    return list(connection.execute(EXPIRE, values).all())
