"""Queues the sources that an operator names, and waits for their runs."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from chat_api.core.jobs import is_small
from workers.reconcile.queueing import Wanted

LOOK_EVERY_S = 0.5
FOUND = text("""
    SELECT source.id, source.org_id, source.bot_id, source.type, file.size_bytes
    FROM training_sources AS source JOIN bots AS bot ON bot.id = source.bot_id AND bot.org_id = source.org_id
    LEFT JOIN files AS file ON file.id = source.file_id AND file.org_id = source.org_id
    WHERE source.deleted_at IS NULL AND bot.deleted_at IS NULL
      AND (:source_ids IS NULL OR source.id = ANY (:source_ids)) AND (:bot_id IS NULL OR source.bot_id = :bot_id)
      AND (NOT :failed OR source.status = 'failed' OR source.error_code IS NOT NULL)
    ORDER BY source.created_at, source.id
""").bindparams(bindparam("source_ids", type_=ARRAY(Uuid())), bindparam("bot_id", type_=Uuid()))
ENDED = text("""
    SELECT job_id, status, source_id, error_code, error_message FROM training_jobs
    WHERE job_id = ANY (:job_ids) AND status NOT IN ('waiting', 'running')
""")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    source_id: UUID
    status: str
    error_code: str | None
    error_message: str | None


def find_sources(
    dashboard: Engine, *, source_ids: Sequence[UUID] | None = None, bot_id: UUID | None = None, failed: bool = False
) -> list[Wanted]:
    """The dashboard's sources that can be trained, the oldest first: those named, of one bot, or that failed."""
    values = {"source_ids": list(source_ids) if source_ids is not None else None, "bot_id": bot_id, "failed": failed}
    with dashboard.connect() as connection:
        return [
            Wanted(row.org_id, row.bot_id, row.id, row.type, is_small(row.type, row.size_bytes))
            for row in connection.execute(FOUND, values)
        ]


def wait_for_runs(chat: Engine, job_ids: Sequence[UUID], on_end: Callable[[Ended], None]) -> Counter[str]:
    """Looks twice a second until all runs are over: how many ended in which status. `on_end` hears of each."""
    left, statuses = set(job_ids), Counter[str]()
    while left:
        with chat.connect() as connection:
            ended = connection.execute(ENDED, {"job_ids": list(left)}).all()
        for row in ended:
            left.discard(row.job_id)
            statuses[row.status] += 1
            on_end(Ended(row.source_id, row.status, row.error_code, row.error_message))
        if left:
            time.sleep(LOOK_EVERY_S)
    return statuses
