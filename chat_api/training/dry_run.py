"""Dry runs: has workers look at what a training would read, waits a while for what they find, and keeps nothing."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.core.database import TIME_LIMITS
from chat_api.training.accept import FoundSource

ASK_EVERY_S = 0.25


class DryRunPages(BaseModel):
    """How many pages or files would be fetched anew, are unchanged, and would be left out, by reason."""

    fetch: int = 0
    unchanged: int = 0
    skip: dict[str, int] = {}


class DryRunError(BaseModel):
    """Why the source could not be trained as it is."""

    code: str
    message: str


class DryRunSource(BaseModel):
    """What training one source would take. `tokens` are those to be embedded, `cost` is in USD, null without a price.

    `complete` is false when there was no time to look at it.
    """

    source_id: UUID
    type: str | None = None
    pages: DryRunPages = DryRunPages()
    chunks: int = 0
    tokens: int = 0
    cost: float | None = None
    error: DryRunError | None = None
    complete: bool = False
    notes: list[str] = []


class DryRun(BaseModel):
    """What dry runs found; nothing was queued, embedded or stored."""

    sources: list[DryRunSource]
    tokens: int
    cost: float | None


INSERT = text("""
    INSERT INTO training_tasks (org_id, bot_id, source_id, kind, plan)
    SELECT :org_id, bot_id, source_id, 'dry_run', CAST(:plan AS jsonb)
    FROM unnest(CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[])) WITH ORDINALITY
         AS given (bot_id, source_id, place)
    ORDER BY place RETURNING task_id, source_id
""")
FINISHED = text("""
    SELECT task_id, result FROM training_tasks WHERE org_id = :org_id AND task_id = ANY (:task_ids) AND status = 'done'
""")
DELETE = text("""
    DELETE FROM training_tasks WHERE org_id = :org_id AND task_id IN (
        SELECT task_id FROM training_tasks
        WHERE org_id = :org_id AND (task_id = ANY (:task_ids)
                                    OR kind = 'dry_run' AND created_at < now() - interval '10 minutes')
        ORDER BY task_id FOR UPDATE)
""")
"""Also removes what a process has left that died while it waited."""


async def begin_dry_runs(
    chat: AsyncSession, org_id: UUID, found: Sequence[FoundSource], *, force: bool
) -> dict[int, UUID]:
    """A task for each source, committed: task id → source id."""
    values = {
        "org_id": org_id,
        "bot_ids": [source.bot_id for source in found],
        "source_ids": [source.source_id for source in found],
        "plan": json.dumps({"force": force}),
    }
    await chat.execute(text(TIME_LIMITS))
    rows = (await chat.execute(INSERT, values)).all()
    await chat.commit()
    return {row.task_id: row.source_id for row in sorted(rows)}


async def end_dry_runs(chat: AsyncSession, org_id: UUID, tasks: dict[int, UUID], *, within_s: float) -> DryRun:
    """What was found within that time, in the order asked; then the tasks are deleted, whatever happens."""
    results: dict[int, dict[str, Any]] = {}
    until = time.monotonic() + within_s
    try:
        while len(results) < len(tasks) and time.monotonic() < until:
            await asyncio.sleep(ASK_EVERY_S)
            left = [task_id for task_id in tasks if task_id not in results]
            rows = await chat.execute(FINISHED, {"org_id": org_id, "task_ids": left})
            results |= {row.task_id: row.result or {} for row in rows}
            await chat.rollback()  # between two looks no connection is held
    finally:
        await chat.execute(text(TIME_LIMITS))
        await chat.execute(DELETE, {"org_id": org_id, "task_ids": list(tasks)})
        await chat.commit()
    sources = [
        DryRunSource.model_validate({**results.get(task_id, {}), "source_id": source_id})
        for task_id, source_id in tasks.items()
    ]
    costs = [source.cost for source in sources if source.cost is not None]
    return DryRun(sources=sources, tokens=sum(source.tokens for source in sources), cost=_sum(costs))


def _sum(costs: Sequence[float]) -> float | None:
    return round(sum(costs), 6) if costs else None
