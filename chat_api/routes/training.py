"""The training routes: queue sources, follow a job, delete a source."""

import asyncio
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, model_validator

from chat_api.auth import Principal
from chat_api.core.errors import RequestError
from chat_api.core.jobs import ring
from chat_api.deps import ChatSession, DashboardSession, RedisDep, SettingsDep, require_scope
from chat_api.errors import PROBLEMS
from chat_api.training.accept import (
    Accepted,
    FoundSource,
    Priority,
    accept,
    find_bot_sources,
    find_sources,
    needing_training,
)
from chat_api.training.delete import delete_source
from chat_api.training.jobs import Job, find_job

router = APIRouter(prefix="/api/training", tags=["training"], responses=PROBLEMS)
MAX_SOURCES = 500

Writer = Annotated[Principal, Depends(require_scope("training:write"))]
Reader = Annotated[Principal, Depends(require_scope("training:read"))]


class QueueRequest(BaseModel):
    """What to train: one source, up to 500, or all of a bot's that need it."""

    model_config = ConfigDict(extra="forbid")

    source_id: UUID | None = None
    source_ids: list[UUID] | None = Field(None, min_length=1, max_length=MAX_SOURCES)
    bot_id: UUID | None = None
    force: bool = False
    priority: Priority = "interactive"
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


class DeleteAnswer(BaseModel):
    """What was removed from the answers."""

    source_id: UUID
    status: Literal["deleted"] = "deleted"
    documents: int
    chunks: int


@router.post("/queue", status_code=202)
async def queue(
    body: QueueRequest,
    principal: Writer,
    chat: ChatSession,
    dashboard: DashboardSession,
    redis: RedisDep,
    settings: SettingsDep,
) -> QueueAnswer:
    """Records a run for each source, then rings for the workers; a run that nobody hears is found by the sweeper."""
    found, refused = await _find(body, principal, chat, dashboard)
    jobs = await accept(chat, principal.org_id, found, priority=body.priority, force=body.force) if found else []
    accepted = Accepted(jobs, [(source_id, error.code) for source_id, error in refused])
    if accepted.new_job_ids:
        await asyncio.to_thread(ring, redis, settings.queue_name, accepted.new_job_ids)
    return _page(accepted)


async def _find(
    body: QueueRequest, principal: Principal, chat: ChatSession, dashboard: DashboardSession
) -> tuple[list[FoundSource], list[tuple[UUID, RequestError]]]:
    if body.bot_id:
        sources = await find_bot_sources(dashboard, principal, body.bot_id, body.cursor)
        if body.force and not body.cursor:  # the first page's call has queued them all
            return sources, []
        return await needing_training(chat, principal.org_id, sources), []
    found, refused = await find_sources(dashboard, principal, body.source_ids or [body.source_id or UUID(int=0)])
    if body.source_id and refused:
        raise refused[0][1]
    return found, refused


def _page(accepted: Accepted) -> QueueAnswer:
    listed = accepted.jobs[:MAX_SOURCES]
    return QueueAnswer(
        jobs=[QueuedJob.model_validate(job, from_attributes=True) for job in listed],
        rejected=[RejectedSource(source_id=source_id, code=code) for source_id, code in accepted.rejected],
        next_cursor=listed[-1].source_id if len(accepted.jobs) > MAX_SOURCES else None,
    )


@router.get("/jobs/{job_id}")
async def job(job_id: UUID, principal: Reader, chat: ChatSession) -> Job:
    """How a job stands."""
    return await find_job(chat, principal, job_id)


@router.delete("/delete/{source_id}")
async def delete(source_id: UUID, principal: Writer, chat: ChatSession, dashboard: DashboardSession) -> DeleteAnswer:
    """Removes a source from all answers, from this moment on."""
    deleted = await delete_source(chat, dashboard, principal, source_id)
    return DeleteAnswer(source_id=source_id, documents=deleted.documents, chunks=deleted.chunks)
