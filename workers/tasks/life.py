"""A task's life in the chat database: held by a lease and a fence, renewed, put back, and its run settled once.

Times are the database's own, so that no worker's clock matters. Every write of a task names its fence: a worker that
was stopped past its lease, or whose run was cancelled meanwhile, finds the fence gone and writes nothing.
"""

import json
import multiprocessing
import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from chat_api.core.errors import ServiceError
from chat_api.core.models.training import TASK_LEASE_S
from chat_api.core.storable import storable

LEASE_S = TASK_LEASE_S


class LeaseLostError(Exception):
    """The task belongs to another worker now, or to none: stop, and write nothing more."""


class HandBackError(Exception):
    """The worker is being stopped: hand the task back, for another one to take at once."""


@dataclass(frozen=True, slots=True)
class Task:
    """A claimed task: what it is of, what it has to do, and the fence its writes must name."""

    task_id: int
    kind: str
    job_id: UUID | None
    org_id: UUID
    bot_id: UUID
    source_id: UUID
    source_type: str
    """Empty for a task without a run."""
    fence: int
    attempt: int
    force: bool
    age_s: float
    """Seconds from its first claim to this one."""
    request_id: str | None
    generation: int | None
    """The run's, once it has one."""
    ordinal: int
    suspect: bool
    at_url: str | None
    crash_count: int
    plan: dict[str, Any] = field(hash=False)
    priority: str

    @property
    def names(self) -> dict[str, str | int]:
        """The task as log lines name it."""
        known = {"job_id": str(self.job_id) if self.job_id else None, "request_id": self.request_id}
        run = {name: value for name, value in known.items() if value}
        return {**run, "task_id": self.task_id, "source_id": str(self.source_id), "fence": self.fence}


WORKER = "worker-"
"""What the names of a pool's processes begin with."""
_MARK = secrets.token_hex(4)


def holder_name(pid: int | None = None, process: str | None = None) -> str:
    """A process, this one unless given, as leases and logs name it: `host:pid:mark`.

    A pid comes back, a mark does not: it is the name of a pool's process, a random word of any other.
    """
    process = process or multiprocessing.current_process().name
    return f"{socket.gethostname()}:{pid or os.getpid()}:{process if process.startswith(WORKER) else _MARK}"


GIVEN = "unnest(CAST(:task_ids AS bigint[]), CAST(:fences AS bigint[])) AS given (task_id, fence) USING (task_id)"
# Also a task that outlived its run, made while that was ended, is nobody's.
HELD = f"""
    FROM training_tasks AS task JOIN {GIVEN}
    WHERE task.fence = given.fence AND task.status = 'running' AND lease_expires_at > clock_timestamp()
      AND (task.job_id IS NULL OR EXISTS (SELECT FROM training_jobs AS job
                                          WHERE job.job_id = task.job_id AND job.status = 'running'))
    ORDER BY task_id
"""
HOLD = text(f"SELECT task_id {HELD} FOR SHARE OF task")
RENEW = text(f"""
    WITH held AS MATERIALIZED (SELECT task_id, task.job_id, task.kind {HELD} FOR NO KEY UPDATE OF task),
    renewed AS (
        UPDATE training_tasks AS task SET lease_expires_at = now() + make_interval(secs => :lease_s)
        FROM held WHERE task.task_id = held.task_id
    ), told AS (
        UPDATE training_jobs AS job
        SET stage = at.stage, progress_done = at.done, progress_total = at.total, progress_unit = at.unit,
            status_version = nextval('status_versions')
        FROM held JOIN jsonb_to_recordset(CAST(:progress AS jsonb))
                       AS at (task_id bigint, stage text, done int, total int, unit text) USING (task_id)
        WHERE job.job_id = held.job_id AND held.kind = 'read'
          AND (job.stage, progress_done, progress_total) IS DISTINCT FROM (at.stage, at.done, at.total)
    )
    SELECT task_id FROM held
""")  # noqa: S608


def hold(connection: Connection, tasks: Iterable[Task]) -> set[int]:
    """Holds the tasks' rows until the transaction ends, so that what it writes is written under their fences.

    The ids of those that are still held; the others' work must not be written.
    """
    return set(connection.execute(HOLD, _fences(tasks)).scalars())


def assert_held(connection: Connection, task: Task) -> None:
    """`hold` for one task. Raises LeaseLostError."""
    if not hold(connection, [task]):
        raise LeaseLostError


def renew(connection: Connection, tasks: Iterable[Task], snapshots: Mapping[int, Mapping[str, Any]]) -> set[int]:
    """Lengthens the leases; the ids of the tasks still held. `read` tasks report stage and progress to their runs."""
    progress = json.dumps([{"task_id": task_id, **snapshot} for task_id, snapshot in snapshots.items()])
    values = {**_fences(tasks), "lease_s": LEASE_S, "progress": progress}
    return set(connection.execute(RENEW, values).scalars())


def _fences(tasks: Iterable[Task]) -> dict[str, Any]:
    tasks = list(tasks)
    return {"task_ids": [task.task_id for task in tasks], "fences": [task.fence for task in tasks]}


NOTE_VERSIONS = text("""
    UPDATE training_jobs AS job SET source_version = given.version
    FROM unnest(CAST(:task_ids AS bigint[]), CAST(:fences AS bigint[]), CAST(:versions AS text[]))
         AS given (task_id, fence, version)
    JOIN training_tasks AS task USING (task_id, fence)
    WHERE task.status = 'running' AND job.job_id = task.job_id AND job.status = 'running'
""")


def note_versions(connection: Connection, versions: Sequence[tuple[Task, str]]) -> None:
    """Records what runs read, as soon as they have read their sources: a later edit then gets a run of its own."""
    values = {**_fences(task for task, _ in versions), "versions": [version for _, version in versions]}
    connection.execute(NOTE_VERSIONS, values)


# A run that would wait again gives way to a newer one of its source.
GIVES_WAY = """
    EXISTS (SELECT FROM training_jobs AS newer
            WHERE newer.org_id = job.org_id AND newer.source_id = job.source_id AND newer.status = 'waiting')
"""
WAIT_AGAIN = text(f"""
    WITH held AS MATERIALIZED (
        SELECT task_id, task.job_id, task.kind FROM training_tasks AS task JOIN {GIVEN}
        WHERE task.fence = given.fence AND task.status = 'running' ORDER BY task_id FOR UPDATE OF task
    ), told AS (
        UPDATE training_jobs AS job
        SET status = CASE WHEN held.kind <> 'read' THEN job.status WHEN {GIVES_WAY} THEN 'cancelled' ELSE 'waiting' END,
            finished_at = CASE WHEN held.kind = 'read' AND {GIVES_WAY} THEN now() END,
            attempt = CASE WHEN held.kind = 'read' THEN attempt - :refund ELSE attempt END,
            error_code = :code, error_message = :message, error_retryable = :retryable,
            status_version = nextval('status_versions')
        FROM held WHERE job.job_id = held.job_id AND job.status = 'running'
                    AND (held.kind = 'read' OR CAST(:code AS text) IS NOT NULL)
        RETURNING job.job_id, job.status
    ), given_up AS (
        DELETE FROM training_tasks AS task USING told WHERE task.job_id = told.job_id AND told.status = 'cancelled'
    ), back AS (
        UPDATE training_tasks AS task
        SET status = 'waiting', lease_holder = NULL, lease_expires_at = NULL, at_url = NULL,
            attempt = attempt - :refund, suspect = task.suspect OR :suspect,
            run_after = CASE WHEN :wait_s > 0 THEN now() + make_interval(secs => :wait_s) ELSE run_after END
        FROM held LEFT JOIN told USING (job_id)
        WHERE task.task_id = held.task_id AND told.status IS DISTINCT FROM 'cancelled'
    )
    SELECT task_id, coalesce(told.status, CASE WHEN kind = 'read' THEN 'waiting' ELSE 'running' END)
    FROM held LEFT JOIN told USING (job_id)
""")  # noqa: S608


def hand_back(connection: Connection, tasks: Iterable[Task], *, suspect: bool = False) -> None:
    """Lets the tasks wait again, due at once and as if never claimed; `suspect` ones are claimed alone from now on.

    A run behind which a newer one of its source waits is cancelled instead. IntegrityError when that one comes in
    between: try again.
    """
    connection.execute(WAIT_AGAIN, {**_fences(tasks), **_error(None), "wait_s": 0, "refund": 1, "suspect": suspect})


def put_back(connection: Connection, task: Task, error: ServiceError, wait_s: float, refund: bool) -> str | None:
    """Lets the task wait for `wait_s` seconds, its error shown on its run; what became of the run (or the task).

    None if the fence is gone. `refund` gives the attempt back. A `read` task's run waits with it, or is cancelled as in
    `hand_back`; any other task's goes on `running`. IntegrityError as there.
    """
    values = {**_fences([task]), **_error(error), "wait_s": wait_s, "refund": int(refund), "suspect": False}
    row = connection.execute(WAIT_AGAIN, values).one_or_none()
    return str(row[1]) if row else None


# All tasks are locked before anything else is: that is what the counting is for.
END_RUN = text("""
    WITH locked AS MATERIALIZED (
        SELECT task_id, fence, status FROM training_tasks WHERE job_id = :job_id ORDER BY task_id FOR UPDATE
    ), mine AS MATERIALIZED (
        SELECT count(*) FILTER (WHERE CAST(:fence AS bigint) IS NULL OR fence = :fence AND status = 'running') AS fenced
        FROM locked
    ), ended AS (
        UPDATE training_jobs AS job
        SET status = :status, finished_at = now(), error_code = :code, error_retryable = :retryable,
            error_message = CAST(:message AS text) || CASE WHEN :say_stage THEN coalesce(' (at: ' || stage || ')', '') ELSE '' END,
            receipt = CAST(:receipt AS jsonb), status_version = nextval('status_versions')
        WHERE job_id = :job_id AND status IN ('waiting', 'running') AND (SELECT fenced FROM mine) > 0
        RETURNING job_id, org_id, bot_id, source_id, status
    ), gone AS (
        DELETE FROM training_tasks AS task USING ended, locked WHERE task.task_id = locked.task_id
    ), discarded AS (
        UPDATE generations AS build SET state = 'discarded' FROM ended
        WHERE build.org_id = ended.org_id AND build.bot_id = ended.bot_id AND build.source_id = ended.source_id
          AND build.job_id = ended.job_id AND build.state = 'building' AND ended.status <> 'succeeded'
    )
    SELECT status FROM ended
""")


def end_run(
    connection: Connection,
    job_id: UUID | None,
    status: str,
    *,
    fence: int | None = None,
    error: ServiceError | None = None,
    receipt: str | None = None,
    say_stage: bool = False,
) -> str | None:
    """Ends a run with `status`: its tasks are deleted, and unless it succeeded what it has built is discarded.

    Without a `fence`, whoever holds its tasks. `say_stage` adds to the error's message where the run was. The status it
    got; None if it is over already, or none of its tasks has the fence.
    """
    values = {"job_id": job_id, "fence": fence, "status": status, "receipt": receipt, "say_stage": say_stage}
    return connection.execute(END_RUN, {**values, **_error(error)}).scalar_one_or_none()


def settle(
    connection: Connection, task: Task, status: str, *, error: ServiceError | None = None, receipt: str | None = None
) -> str | None:
    """Ends the task's run as `end_run` does, under the task's fence; None if that is gone."""
    return end_run(connection, task.job_id, status, fence=task.fence, error=error, receipt=receipt)


CONCLUDE = text("""
    UPDATE training_tasks SET status = 'done', result = CAST(:result AS jsonb), lease_holder = NULL,
                              lease_expires_at = NULL
    WHERE task_id = :task_id AND fence = :fence AND status = 'running'
""")
REMOVE = text("DELETE FROM training_tasks WHERE task_id = :task_id AND fence = :fence AND status = 'running'")


def conclude(connection: Connection, task: Task, result: Mapping[str, Any] | None) -> None:
    """Ends a task alone: deleted, or `done` with its result for who asked."""
    values = {"task_id": task.task_id, "fence": task.fence}
    if result is None:
        connection.execute(REMOVE, values)
    else:
        connection.execute(CONCLUDE, {**values, "result": json.dumps(result)})


def _error(error: ServiceError | None) -> dict[str, Any]:
    return {
        "code": error.code if error else None,
        "message": storable(error.message) if error else None,
        "retryable": error.retryable if error else None,
    }
