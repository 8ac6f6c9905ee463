"""Ends runs at once, whatever a worker is doing for them, and tells the dashboard how its row stands then."""

import time
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal, require_bot
from chat_api.core.database import TIME_LIMITS
from chat_api.core.errors import Cancelled
from chat_api.core.jobs import END_RUNS_OF_SOURCE
from chat_api.core.keys import OF_SOURCE
from chat_api.core.refusals import UnknownJob
from chat_api.training.jobs import Job, find_job
from chat_api.training.telling import tell_dashboard

LOCKS_WITHIN_S = 8.0
"""How long the work of others on a run is waited for before it is ended: its end is promised within ten seconds."""
LOCKS_WITHIN = text("SELECT set_config('lock_timeout', :within, true)")
FIND = text("SELECT bot_id, source_id, status FROM training_jobs WHERE org_id = :org_id AND job_id = :job_id")
LOCK_SOURCE = text(f"SELECT FROM sources WHERE {OF_SOURCE} FOR UPDATE")
END_TASKS = text("""
    WITH held AS (SELECT task_id FROM training_tasks WHERE org_id = :org_id AND job_id = :job_id
                  ORDER BY task_id FOR UPDATE)
    DELETE FROM training_tasks USING held WHERE training_tasks.task_id = held.task_id
""")
END_JOB = text("""
    UPDATE training_jobs SET status = 'cancelled', finished_at = now(), status_version = nextval('status_versions'),
        error_code = :code, error_message = :message, error_retryable = false
    WHERE org_id = :org_id AND job_id = :job_id AND status IN ('waiting', 'running')
""")
DISCARD_BUILDS = text(f"""
    UPDATE generations SET state = 'discarded' WHERE {OF_SOURCE} AND job_id = :job_id AND state = 'building'
""")  # noqa: S608  # the condition is our own


async def cancel_job(
    chat: AsyncSession, dashboard: AsyncSession, principal: Principal, job_id: UUID, *, cap: int
) -> Job:
    """The job after its end, which is now; one that was over already stays as it is.

    A worker that has it in hand finds its fence gone and writes nothing more. Raises UnknownJob, ForbiddenBot, and
    SQLAlchemyError, also when other work has held the run for LOCKS_WITHIN_S.
    """
    await chat.execute(text(TIME_LIMITS))
    found = (await chat.execute(FIND, {"org_id": principal.org_id, "job_id": job_id})).one_or_none()
    if found is None:
        raise UnknownJob
    require_bot(principal, found.bot_id)
    if found.status in {"waiting", "running"}:
        await _end(
            chat, {"org_id": principal.org_id, "bot_id": found.bot_id, "source_id": found.source_id, "job_id": job_id}
        )
        await tell_dashboard(chat, dashboard, principal.org_id, [job_id])
    return await find_job(chat, principal, job_id, cap=cap)


async def _end(chat: AsyncSession, values: dict[str, Any]) -> None:
    until = time.monotonic() + LOCKS_WITHIN_S

    async def change(statement: TextClause, **more: object) -> int:
        within = max(1, round(1000 * (until - time.monotonic())))
        await chat.execute(LOCKS_WITHIN, {"within": f"{within}ms"})
        result = await chat.execute(statement, {**values, **more})
        return int(result.rowcount)  # type: ignore[attr-defined]  # what changes rows has one

    await change(LOCK_SOURCE)
    # A worker that was waited for may have made further tasks in the transaction that is now over.
    while await change(END_TASKS):
        pass
    await change(END_JOB, code=Cancelled.code, message=Cancelled().message)
    await change(DISCARD_BUILDS)
    await chat.commit()


async def end_runs(chat: AsyncSession, org_id: UUID, source_id: UUID) -> list[UUID]:
    """Cancels all runs of a source, whose row the caller's transaction holds; their ids."""
    values = {"org_id": org_id, "source_ids": [source_id]}
    ended = list((await chat.execute(END_RUNS_OF_SOURCE, values)).scalars())
    await chat.execute(END_RUNS_OF_SOURCE, values)  # tasks that were made while the first call waited for their maker
    return ended
