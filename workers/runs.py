"""A run's life in the chat database: claimed with a lease and a fence, renewed, and settled once.

Times are the database's own, so that no worker's clock matters. Every write of a run names its fence: a worker that
was stopped past its lease finds the fence gone and writes nothing.
"""

import os
import random
import socket
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from chat_api.core.errors import DependencyError, ServiceError

LEASE_S = 60
MAX_ATTEMPTS = 5
MAX_CRASHES = 3
PATIENCE_S = 24 * 3600
LONGEST_WAIT_S = 3600


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
    age_s: float
    """Seconds from its first claim to this one."""
    request_id: str | None


def holder_name() -> str:
    """This process, as leases and logs name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


CLAIM = text("""
    WITH due AS (
        SELECT job_id FROM training_jobs AS waiting
        WHERE status = 'waiting' AND run_after <= now()
          AND NOT EXISTS (SELECT FROM training_jobs AS other WHERE other.org_id = waiting.org_id
                          AND other.source_id = waiting.source_id AND other.status = 'running')
        ORDER BY priority DESC, created_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE training_jobs AS job
    SET status = 'running', stage = 'fetch', attempt = attempt + 1, started_at = coalesce(started_at, now()),
        fence = nextval('fences'), lease_holder = :holder, lease_expires_at = now() + make_interval(secs => :lease_s),
        source_version = NULL, error_code = NULL, error_message = NULL, error_retryable = NULL,
        progress_done = 0, progress_total = NULL, status_version = nextval('status_versions')
    FROM due WHERE job.job_id = due.job_id
    RETURNING job.job_id, org_id, bot_id, source_id, fence, attempt, force,
              CAST(extract(epoch FROM now() - started_at) AS float8), request_id
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
    WHERE job_id = :job_id AND fence = :fence AND status = 'running' AND lease_expires_at > clock_timestamp()
    RETURNING cancel_requested_at IS NOT NULL
""")


def renew(connection: Connection, run: Run, progress: dict[str, Any]) -> None:
    """Lengthens the lease and reports stage and progress. Raises LeaseLostError or RunCancelledError."""
    values = {"job_id": run.job_id, "fence": run.fence, "lease_s": LEASE_S, **progress}
    _held_or_raise(connection.execute(RENEW, values).one_or_none())


HELD = text("""
    SELECT cancel_requested_at IS NOT NULL FROM training_jobs
    WHERE job_id = :job_id AND fence = :fence AND status = 'running' AND lease_expires_at > clock_timestamp()
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


NOTE_VERSION = text("""
    UPDATE training_jobs SET source_version = :source_version
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
""")


def note_version(connection: Connection, run: Run, source_version: str) -> None:
    """Records what the run reads, as soon as it has read the source: a later edit then gets a run of its own."""
    values = {"job_id": run.job_id, "fence": run.fence, "source_version": source_version}
    connection.execute(NOTE_VERSION, values)


AGAIN = """
    CASE WHEN cancel_requested_at IS NOT NULL OR EXISTS
              (SELECT FROM training_jobs AS newer WHERE newer.org_id = job.org_id
               AND newer.source_id = job.source_id AND newer.status = 'waiting')
         THEN 'cancelled' ELSE 'waiting' END
"""
# A run that would wait again gives way to a newer one of its source, and to a wish to cancel it.
SETTLE = text(f"""
    UPDATE training_jobs AS job
    SET status = CASE WHEN :status = 'waiting' THEN {AGAIN} ELSE :status END,
        finished_at = CASE WHEN :status = 'waiting' AND {AGAIN} = 'waiting' THEN NULL ELSE now() END,
        run_after = now() + make_interval(secs => :wait_s), attempt = attempt - :refund, stage = coalesce(:stage, stage),
        progress_done = coalesce(:done, progress_done), progress_total = coalesce(:total, progress_total),
        progress_unit = coalesce(:unit, progress_unit), error_code = :code, error_message = :message,
        error_retryable = :retryable, receipt = CAST(:receipt AS jsonb), lease_holder = NULL, lease_expires_at = NULL,
        status_version = nextval('status_versions')
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
    RETURNING status
""")  # noqa: S608  # the parts are this module's own


def settle(
    connection: Connection,
    run: Run,
    status: str,
    *,
    error: ServiceError | None = None,
    wait_s: float = 0,
    refund: bool = False,
    receipt: str | None = None,
    progress: dict[str, Any] | None = None,
) -> str | None:
    """Ends the run with `status`, or puts it back to `waiting` for `wait_s` seconds; the status it got.

    None if the fence is gone. `refund` gives the attempt back. IntegrityError when a newer run of the source comes in
    between: try again.
    """
    values = {
        **{"job_id": run.job_id, "fence": run.fence, "status": status, "wait_s": wait_s, "refund": int(refund)},
        **(progress or dict.fromkeys(("stage", "done", "total", "unit"))),
        "receipt": receipt,
        "code": error.code if error else None,
        "message": storable(error.message) if error else None,
        "retryable": error.retryable if error else None,
    }
    return connection.execute(SETTLE, values).scalar_one_or_none()


def storable(words: str) -> str:
    """Strangers' words as PostgreSQL takes them: without NUL and lone surrogates."""
    return words.replace("\0", "").encode("utf-8", "replace").decode()


def costs_attempt(error: ServiceError) -> bool:
    """Whether one of the run's attempts is spent by `error`: not by a dependency that is away or asks to wait."""
    return not isinstance(error, DependencyError)


def retry_in(run: Run, error: ServiceError) -> float | None:
    """Seconds until the run is tried again after `error`, or None when it has failed for good.

    A dependency that is away costs patience (24 hours from the first claim), another passing error one of five
    attempts. The wait grows from 5 s to 5 minutes, jittered; a server that asks for more gets up to an hour.
    """
    if not error.retryable:
        return None
    if costs_attempt(error):
        if run.attempt >= MAX_ATTEMPTS:
            return None
        wait = 5.0 * 2.0**run.attempt / 2
    elif run.age_s >= PATIENCE_S:
        return None
    else:
        wait = run.age_s / 4
    wait = min(300.0, max(5.0, wait)) * random.uniform(0.8, 1.2)  # noqa: S311  # jitter, not a secret
    return min(LONGEST_WAIT_S, max(wait, error.retry_after or 0.0))


DEAD = "cancel_requested_at IS NULL AND crash_count + 1 >= :max_crashes"
EXPIRE = text(f"""
    UPDATE training_jobs AS job
    SET crash_count = crash_count + 1, lease_holder = NULL, lease_expires_at = NULL,
        status = CASE WHEN {DEAD} THEN 'quarantined' ELSE {AGAIN} END,
        finished_at = CASE WHEN {DEAD} OR {AGAIN} = 'cancelled' THEN now() END,
        error_code = CASE WHEN {DEAD} THEN :code END,
        error_message = CASE WHEN {DEAD} THEN :message || ' (at: ' || stage || ')' END,
        error_retryable = CASE WHEN {DEAD} THEN false END,
        run_after = now() + make_interval(secs => 2 * crash_count), status_version = nextval('status_versions')
    WHERE job_id IN (SELECT job_id FROM training_jobs WHERE status = 'running' AND lease_expires_at < now()
                     LIMIT 500 FOR UPDATE SKIP LOCKED)
    RETURNING job_id, status, stage, crash_count
""")  # noqa: S608


def expire_leases(connection: Connection, *, code: str, message: str) -> list[Row[Any]]:
    """Takes runs from workers that died: back to waiting, or to quarantine after the third death."""
    values = {"max_crashes": MAX_CRASHES, "code": code, "message": message}
    return list(connection.execute(EXPIRE, values).all())
