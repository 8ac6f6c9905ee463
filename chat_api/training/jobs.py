"""How runs stand, as the API tells it: one, or many, and why those that wait do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, TypeAdapter
from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal, require_bot
from chat_api.core.models.training import BUSY, SILENT_S, SWEPT_LATELY, TASK_LEASE_S
from chat_api.core.refusals import UnknownJob
from chat_api.paging import cursor_at, place_of

JobStatus = Literal["waiting", "running", "succeeded", "failed", "cancelled", "quarantined"]
WaitingReason = Literal["in_queue", "source_is_running", "retry_later", "org_limit", "no_workers"]
PLACE = TypeAdapter(tuple[AwareDatetime, UUID])


class JobProgress(BaseModel):
    """What is done of how much; `total` is null while it is not known."""

    done: int
    total: int | None
    unit: str


class JobError(BaseModel):
    """Why a job failed, or why it waits for another try."""

    code: str
    message: str
    retryable: bool


class Job(BaseModel):
    """A training job, one run of a source through the pipeline."""

    job_id: UUID
    source_id: UUID
    bot_id: UUID
    status: JobStatus
    stage: str | None
    progress: JobProgress
    attempt: int
    queue_position: int | None
    waiting_reason: WaitingReason | None
    error: JobError | None
    receipt: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobPage(BaseModel):
    """Jobs, the newest first."""

    jobs: list[Job]
    next_cursor: str | None


class Change(NamedTuple):
    """A job as it was at one `status_version`."""

    version: int
    job: Job


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which of an org's jobs are listed; None leaves all through."""

    bot_id: UUID | None = None
    source_id: UUID | None = None
    status: JobStatus | None = None


def jobs_where(condition: str, order: str = "created_at") -> TextClause:
    """What `read_jobs` reads an org's jobs by, with their places in the queue; needs :org_id, :cap and :limit.

    A place is that of the job's task in the order of claims, counted from one: interactive ones before bulk, and the
    orgs in turn. Of each other org as many tasks are counted as the job's own org claims until then, so the place is
    right within one org and between equal ones; else it is the latest. Of others, tasks that wait for their next try
    don't count. `cap` is how many of an org's workers may be busy at once.
    """
    return text(f"""
        WITH listed AS MATERIALIZED (
            SELECT * FROM training_jobs WHERE org_id = :org_id AND ({condition}) ORDER BY {order} LIMIT :limit
        ), own AS MATERIALIZED (
            SELECT job_id, priority, run_after > now() AS deferred,
                   row_number() OVER (PARTITION BY priority ORDER BY run_after, task_id) AS rank,
                   count(*) FILTER (WHERE run_after <= now() AND priority = 'interactive') OVER () AS urgent
            FROM training_tasks
            WHERE org_id = :org_id AND status = 'waiting' AND (SELECT bool_or(status = 'waiting') FROM listed)
        ), others AS MATERIALIZED (  -- orgs with as many tasks are alike, and are counted together
            SELECT priority, tasks, orgs FROM waiting_elsewhere()
            WHERE (SELECT bool_or(status = 'waiting') FROM listed)
        )
        SELECT listed.*, own.deferred,
               own.rank + CASE WHEN own.priority = 'bulk' THEN own.urgent ELSE 0 END
                   + (SELECT coalesce(sum(orgs * CASE WHEN others.priority = own.priority THEN least(tasks, own.rank)
                                                      WHEN others.priority = 'interactive' THEN tasks END), 0)
                      FROM others) AS queue_position,
               EXISTS (SELECT FROM training_jobs AS other WHERE other.org_id = listed.org_id
                       AND other.source_id = listed.source_id AND other.status = 'running') AS source_is_running,
               (SELECT count(DISTINCT lease_holder) FROM training_tasks
                WHERE org_id = :org_id AND {BUSY}) >= :cap AS org_is_full,
               {SWEPT_LATELY} OR workers_are_busy() AS has_workers
        FROM listed LEFT JOIN own ON own.job_id = listed.job_id AND listed.status = 'waiting'
        ORDER BY {order}
    """)  # noqa: S608  # condition and order are constants of this package


OF_BOT = "(CAST(:bot_id AS uuid) IS NULL OR bot_id = :bot_id)"
THESE = jobs_where("job_id = ANY (:job_ids)")
LISTED = jobs_where(
    f"""{OF_BOT} AND (CAST(:source_id AS uuid) IS NULL OR source_id = :source_id)
    AND (CAST(:status AS text) IS NULL OR status = :status)
    AND (CAST(:before AS timestamptz) IS NULL OR (created_at, job_id) < (:before, CAST(:before_id AS uuid)))""",
    "created_at DESC, job_id DESC",
)


async def find_job(chat: AsyncSession, principal: Principal, job_id: UUID, *, cap: int) -> Job:
    """One of the org's jobs; `cap` is how many worker processes an org may keep busy. Raises UnknownJob, ForbiddenBot."""
    changes = await find_jobs(chat, principal.org_id, [job_id], cap=cap)
    if not changes:
        raise UnknownJob
    require_bot(principal, changes[0].job.bot_id)
    return changes[0].job


async def find_jobs(chat: AsyncSession, org_id: UUID, job_ids: Sequence[UUID], *, cap: int) -> list[Change]:
    """Those of the org's jobs that there are."""
    return await read_jobs(chat, THESE, org_id=org_id, job_ids=list(job_ids), limit=len(job_ids), cap=cap)


async def list_jobs(
    chat: AsyncSession, org_id: UUID, wanted: JobFilter, cursor: str | None, limit: int, *, cap: int
) -> JobPage:
    """A page of the org's jobs. Raises InvalidRequest for a cursor that is not ours."""
    before, before_id = place_of(cursor, PLACE) if cursor else (None, None)
    values = {"bot_id": wanted.bot_id, "source_id": wanted.source_id, "status": wanted.status}
    changes = await read_jobs(
        chat, LISTED, org_id=org_id, **values, before=before, before_id=before_id, limit=limit + 1, cap=cap
    )
    jobs = [change.job for change in changes[:limit]]
    more = len(changes) > limit
    return JobPage(jobs=jobs, next_cursor=cursor_at(jobs[-1].created_at.isoformat(), jobs[-1].job_id) if more else None)


async def read_jobs(chat: AsyncSession, statement: TextClause, **values: object) -> list[Change]:
    """What a statement of `jobs_where` finds."""
    rows = await chat.execute(statement, {**values, "busy_s": TASK_LEASE_S - SILENT_S})
    return [Change(row.status_version, _job(row)) for row in rows]


def _job(row: Row[Any]) -> Job:
    error = None
    if row.error_code:
        error = JobError(code=row.error_code, message=row.error_message or "", retryable=bool(row.error_retryable))
    return Job(
        job_id=row.job_id,
        source_id=row.source_id,
        bot_id=row.bot_id,
        status=row.status,
        stage=row.stage,
        progress=JobProgress(done=row.progress_done, total=row.progress_total, unit=row.progress_unit),
        attempt=row.attempt,
        queue_position=row.queue_position,
        waiting_reason=_waiting_reason(row) if row.status == "waiting" else None,
        error=error,
        receipt=row.receipt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _waiting_reason(row: Row[Any]) -> WaitingReason:
    if row.deferred:
        return "retry_later"
    if row.source_is_running:
        return "source_is_running"
    if not row.has_workers:
        return "no_workers"
    return "org_limit" if row.org_is_full else "in_queue"
