"""The training routes: queue sources (or only look at them), follow and cancel jobs, delete a source."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal
from chat_api.core.jobs import ring
from chat_api.core.settings import Settings
from chat_api.deps import (
    BucketDep,
    ChatSession,
    DashboardSession,
    RedisDep,
    SettingsDep,
    TokenFirst,
    no_store,
    require_scope,
)
from chat_api.errors import PROBLEMS
from chat_api.paging import Cursor, Limit
from chat_api.training.accept import (
    FoundSource,
    Priority,
    Refused,
    accept,
    find_bot_sources,
    find_sources,
    needing_training,
)
from chat_api.training.cancel import cancel_job
from chat_api.training.delete import delete_source
from chat_api.training.dry_run import DryRun, begin_dry_runs, end_dry_runs
from chat_api.training.jobs import Job, JobFilter, JobPage, JobStatus, find_job, list_jobs
from chat_api.training.known import bot_of_source, require_known_bot
from chat_api.training.objects import Bucket

router = APIRouter(
    prefix="/api/training",
    tags=["training"],
    responses=PROBLEMS,
    dependencies=[Depends(no_store)],
    route_class=TokenFirst,
)
MAX_SOURCES = 500
ROWS_LOOKED_AT = 2_000
"""How many of a bot's sources are looked at together for a page of those that need training."""

Writer = Annotated[Principal, Depends(require_scope("training:write"))]
Reader = Annotated[Principal, Depends(require_scope("training:read"))]


class QueueRequest(BaseModel):
    """What to train: one source, up to 500, or all of a bot's that need it."""

    model_config = ConfigDict(extra="forbid")

    source_id: UUID | None = None
    source_ids: list[UUID] | None = Field(None, min_length=1, max_length=MAX_SOURCES)
    bot_id: UUID | None = None
    force: bool = Field(False, strict=True)
    priority: Priority = "interactive"
    dry_run: bool = Field(False, strict=True, description="Queue nothing: answer 200 with what a training would take")
    cursor: UUID | None = Field(None, description="With `bot_id`: list the jobs after this source")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(value is not None for value in (self.source_id, self.source_ids, self.bot_id)) != 1:
            raise ValueError("give exactly one of source_id, source_ids and bot_id")
        return self


class QueuedJob(BaseModel):
    """A source's job; `created` is false when it had one already."""

    job_id: UUID
    source_id: UUID
    status: Literal["waiting", "running"]
    created: bool


class RejectedSource(BaseModel):
    """A source that can't be trained, and why."""

    source_id: UUID
    code: str


class QueueAnswer(BaseModel):
    """The jobs in the order asked, and what was rejected."""

    jobs: list[QueuedJob]
    rejected: list[RejectedSource]
    next_cursor: UUID | None = None


class DryRunAnswer(DryRun):
    """What a training would take, and what was rejected."""

    rejected: list[RejectedSource]
    next_cursor: UUID | None = None


class DeleteAnswer(BaseModel):
    """What was removed from the answers."""

    source_id: UUID
    status: Literal["deleted"] = "deleted"
    documents: int
    chunks: int


@router.post("/queue", status_code=202, responses={200: {"model": DryRunAnswer, "description": "Of a dry run"}})
async def queue(
    body: QueueRequest,
    principal: Writer,
    chat: ChatSession,
    dashboard: DashboardSession,
    redis: RedisDep,
    bucket: BucketDep,
    settings: SettingsDep,
    response: Response,
) -> QueueAnswer | DryRunAnswer:
    """Records a run for each source, then rings for the workers; a run that nobody hears is found by the sweeper.

    A dry run has workers look at the sources instead, and answers 200 with what they found within half a minute.
    """
    found, refused = await _find(body, principal, chat, dashboard, bucket)
    await dashboard.rollback()  # no connection is held while workers look, or the bucket is asked
    if body.dry_run:
        response.status_code = HTTPStatus.OK
        return await _dry_run(body, principal, found, refused, chat, redis, settings)
    jobs = []
    if found:
        jobs = await accept(chat, bucket, principal.org_id, found, priority=body.priority, force=body.force)
    if made := [job.job_id for job in jobs if job.created]:
        await asyncio.to_thread(ring, redis, settings.queue_name, made)
    return QueueAnswer(
        jobs=[QueuedJob.model_validate(job, from_attributes=True) for job in jobs[:MAX_SOURCES]],
        rejected=_rejected(refused),
        next_cursor=jobs[MAX_SOURCES - 1].source_id if len(jobs) > MAX_SOURCES else None,
    )


async def _find(
    body: QueueRequest, principal: Principal, chat: ChatSession, dashboard: DashboardSession, bucket: Bucket
) -> tuple[list[FoundSource], list[Refused]]:
    if body.bot_id and body.cursor:
        return await _find_page(body.bot_id, body.cursor, principal, chat, dashboard, bucket)
    if body.bot_id:
        found, refused = await find_bot_sources(dashboard, principal, body.bot_id)
        if not body.force:
            await dashboard.rollback()
            found = await needing_training(chat, bucket, principal.org_id, found)
        return found, refused[:MAX_SOURCES]
    found, refused = await find_sources(dashboard, principal, body.source_ids or [body.source_id or UUID(int=0)])
    if body.source_id and refused:
        raise refused[0][1]
    return found, refused


async def _find_page(
    bot_id: UUID, cursor: UUID, principal: Principal, chat: ChatSession, dashboard: DashboardSession, bucket: Bucket
) -> tuple[list[FoundSource], list[Refused]]:
    """One page and the first source of the next: the call without a cursor has queued them all."""
    needing: list[FoundSource] = []
    refused: list[Refused] = []
    while len(needing) <= MAX_SOURCES:
        some, beyond = await find_bot_sources(dashboard, principal, bot_id, cursor, ROWS_LOOKED_AT)
        await dashboard.rollback()
        needing += await needing_training(chat, bucket, principal.org_id, some)
        refused += beyond
        if len(some) + len(beyond) < ROWS_LOOKED_AT:
            break
        cursor = max([source.source_id for source in some] + [source_id for source_id, _ in beyond])
    return needing[: MAX_SOURCES + 1], refused[:MAX_SOURCES]


async def _dry_run(
    body: QueueRequest,
    principal: Principal,
    found: list[FoundSource],
    refused: list[Refused],
    chat: AsyncSession,
    redis: Redis,
    settings: Settings,
) -> DryRunAnswer:
    tasks = await begin_dry_runs(chat, principal.org_id, found[:MAX_SOURCES], force=body.force)
    await asyncio.to_thread(ring, redis, settings.queue_name, [f"task:{task_id}" for task_id in tasks])
    seen = await end_dry_runs(chat, principal.org_id, tasks, within_s=settings.dry_run_timeout_s)
    return DryRunAnswer(
        **dict(seen),
        rejected=_rejected(refused),
        next_cursor=found[MAX_SOURCES - 1].source_id if len(found) > MAX_SOURCES else None,
    )


def _rejected(refused: Iterable[Refused]) -> list[RejectedSource]:
    return [RejectedSource(source_id=source_id, code=error.code) for source_id, error in refused]


@router.get("/jobs")
async def jobs(
    principal: Reader,
    chat: ChatSession,
    dashboard: DashboardSession,
    settings: SettingsDep,
    bot_id: UUID | None = None,
    source_id: UUID | None = None,
    status: JobStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> JobPage:
    """The org's jobs, or those of the token's bot, the newest first."""
    bot_id = await require_known_bot(chat, dashboard, principal, bot_id)
    if source_id:
        await bot_of_source(chat, dashboard, principal, source_id)
    wanted = JobFilter(bot_id, source_id, status)
    return await list_jobs(chat, principal.org_id, wanted, cursor, limit, cap=settings.org_running_tasks)


@router.get("/jobs/{job_id}")
async def job(job_id: UUID, principal: Reader, chat: ChatSession, settings: SettingsDep) -> Job:
    """How a job stands."""
    return await find_job(chat, principal, job_id, cap=settings.org_running_tasks)


@router.post("/jobs/{job_id}/cancel", status_code=202)
async def cancel(
    job_id: UUID, principal: Writer, chat: ChatSession, dashboard: DashboardSession, settings: SettingsDep
) -> Job:
    """Ends a job now, whatever is being done for it; one that is over stays as it is."""
    return await cancel_job(chat, dashboard, principal, job_id, cap=settings.org_running_tasks)


@router.delete("/delete/{source_id}")
async def delete(source_id: UUID, principal: Writer, chat: ChatSession, dashboard: DashboardSession) -> DeleteAnswer:
    """Removes a source from all answers, from this moment on."""
    deleted = await delete_source(chat, dashboard, principal, source_id)
    return DeleteAnswer(source_id=source_id, documents=deleted.documents, chunks=deleted.chunks)
