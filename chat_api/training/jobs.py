"""How a run stands, as the API tells it."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal, require_bot
from chat_api.core.errors import UnknownJob

JobStatus = Literal["waiting", "running", "succeeded", "failed", "cancelled", "quarantined"]


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
    waiting_reason: str | None
    error: JobError | None
    receipt: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


JOB = text("""
    SELECT job.*, run_after > now() AS deferred,
           EXISTS (SELECT FROM training_jobs AS other WHERE other.org_id = job.org_id
                   AND other.source_id = job.source_id AND other.status = 'running') AS source_is_running,
           CASE WHEN job.status = 'waiting' THEN
               (SELECT count(*) FROM training_jobs AS ahead WHERE ahead.status = 'waiting'
                AND (ahead.priority = 'bulk', ahead.created_at, ahead.job_id)
                    <= (job.priority = 'bulk', job.created_at, job.job_id)) END AS queue_position
    FROM training_jobs AS job WHERE job.job_id = :job_id AND job.org_id = :org_id
""")


async def find_job(chat: AsyncSession, principal: Principal, job_id: UUID) -> Job:
    """One of the org's jobs. Raises UnknownJob, ForbiddenBot."""
    row = (await chat.execute(JOB, {"job_id": job_id, "org_id": principal.org_id})).one_or_none()
    if row is None:
        raise UnknownJob
    require_bot(principal, row.bot_id)
    return _job(row)


def _job(row: Row[Any]) -> Job:
    error = None
    if row.error_code:
        error = JobError(code=row.error_code, message=row.error_message, retryable=bool(row.error_retryable))
    return Job(
        job_id=row.job_id,
        source_id=row.source_id,
        bot_id=row.bot_id,
        status=row.status,
        stage=row.stage,
        progress=JobProgress(done=row.progress_done, total=row.progress_total, unit=row.progress_unit),
        attempt=row.attempt,
        queue_position=row.queue_position,
        waiting_reason=_waiting_reason(row),
        error=error,
        receipt=row.receipt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _waiting_reason(row: Row[Any]) -> str | None:
    if row.status != "waiting":
        return None
    if row.source_is_running:
        return "source_is_running"
    return "retry_later" if row.deferred else "in_queue"
