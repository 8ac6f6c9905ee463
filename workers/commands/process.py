"""Queues the sources that an operator names, and waits for their runs."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Uuid

from chat_api.core.database import Engines
from chat_api.core.jobs import is_small
from chat_api.core.models.dashboard import File, TrainingSource, row_version, version_of_row
from chat_api.core.models.training import SWEPT_LATELY
from workers.reconcile.queueing import Wanted, queue_runs

LOOK_EVERY_S = 0.5
SAY_EVERY_S = 10.0
STILL_FOR_S = 600.0
"""How long runs are waited for while nothing moves and nobody works."""
ROWS_AT_ONCE = 100
FOUND = text("""
    SELECT source.id, source.org_id, source.bot_id, source.type, file.size_bytes
    FROM training_sources AS source JOIN bots AS bot ON bot.id = source.bot_id AND bot.org_id = source.org_id
    LEFT JOIN files AS file ON file.id = source.file_id AND file.org_id = source.org_id
    WHERE source.deleted_at IS NULL AND bot.deleted_at IS NULL
      AND (:source_ids IS NULL OR source.id = ANY (:source_ids)) AND (:bot_id IS NULL OR source.bot_id = :bot_id)
      AND (NOT :failed OR (source.status = 'failed' OR source.error_code <> 'cancelled')
                          AND source.status NOT IN ('queued', 'processing'))
    ORDER BY source.created_at, source.id
""").bindparams(bindparam("source_ids", type_=ARRAY(Uuid())), bindparam("bot_id", type_=Uuid()))
RUNNING = text("""
    SELECT job_id, org_id, bot_id, source_id, source_version FROM training_jobs
    WHERE source_id = ANY (:source_ids) AND status = 'running' AND (force OR NOT :force)
""")
ENDED = text("""
    SELECT job_id, status, source_id, error_code, error_message FROM training_jobs
    WHERE job_id = ANY (:job_ids) AND status NOT IN ('waiting', 'running')
""")
WAITED_FOR = text(f"""
    SELECT count(*) FILTER (WHERE status = 'waiting') AS waiting, count(*) FILTER (WHERE status = 'running') AS running,
           max(status_version) AS newest,
           EXISTS (SELECT FROM training_tasks WHERE status = 'running' AND lease_expires_at > now()) AS at_work,
           EXISTS (SELECT FROM training_tasks WHERE job_id = ANY (:job_ids) AND status = 'waiting' AND run_after > now())
               AS put_off,
           {SWEPT_LATELY} AS swept
    FROM training_jobs WHERE job_id = ANY (:job_ids)
""")  # noqa: S608  # the part is our own


@dataclass(frozen=True, slots=True)
class Queued:
    """The runs of sources: those that wait, and those under way that read them as they stand.

    `left` are sources that have none: they were deleted.
    """

    waiting: list[UUID]
    running: list[UUID]
    left: list[UUID]

    @property
    def runs(self) -> list[UUID]:
        """All of them."""
        return self.waiting + self.running


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    source_id: UUID
    status: str
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How the runs stand that are waited for."""

    waiting: int
    running: int
    newest: int | None
    """The last change of any of them."""
    at_work: bool
    """Whether any worker has a task in hand, of whosever runs."""
    put_off: bool
    """Whether one of them waits for its next try."""
    swept: bool

    def __str__(self) -> str:
        nobody = "" if self.at_work else ", no worker has a task in hand"
        unswept = "" if self.swept else "; nobody sweeps: start `python -m workers`"
        return f"waited for: {self.waiting} waiting, {self.running} running{nobody}{unswept}"


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


def queue_sources(engines: Engines, wanted: Sequence[Wanted], *, force: bool = False, revive: bool = False) -> Queued:
    """A run for each source: the one under way if it reads the source as it stands, else one that waits; see `queue_runs`.

    A run that is not forced serves no wish that is.
    """
    running = _serving(engines, wanted, force)
    left = [source for source in wanted if source.source_id not in running]
    waiting = queue_runs(engines.chat, left, force=force, revive=revive)
    deleted = [source.source_id for source in left if source.source_id not in waiting]
    return Queued(list(waiting.values()), list(running.values()), deleted)


def _serving(engines: Engines, wanted: Sequence[Wanted], force: bool) -> dict[UUID, UUID]:
    """Source id → its run under way that reads the source as it stands; one that has read nothing yet will."""
    places = {(source.org_id, source.bot_id, source.source_id) for source in wanted}
    values = {"source_ids": [source.source_id for source in wanted], "force": force}
    with engines.chat.connect() as connection:
        runs = [row for row in connection.execute(RUNNING, values) if (row.org_id, row.bot_id, row.source_id) in places]
    versions = _versions(engines.dashboard, [run.source_id for run in runs if run.source_version])
    return {
        run.source_id: run.job_id
        for run in runs
        if not run.source_version or version_of_row(run.source_version) == versions.get(run.source_id)
    }


def _versions(dashboard: Engine, source_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Reads a few rows at a time: the texts of many may be larger than the memory."""
    query = select(TrainingSource, File.object_key).outerjoin(
        File, (File.id == TrainingSource.file_id) & (File.org_id == TrainingSource.org_id)
    )
    with Session(dashboard) as session:
        rows = session.execute(query.where(TrainingSource.id.in_(source_ids)).execution_options(yield_per=ROWS_AT_ONCE))
        return {row.id: row_version(row, object_key) for row, object_key in rows}


def wait_for_runs(
    chat: Engine, job_ids: Sequence[UUID], on_end: Callable[[Ended], None], on_wait: Callable[[Standing], None]
) -> Counter[str]:
    """Looks twice a second until all runs are over: how many ended in which status. `on_end` hears of each.

    `on_wait` hears how the others stand when none has ended for ten seconds. Those left after ten minutes in which
    nothing moved though it was due, and no worker had anything in hand, are in no status: nobody is there.
    """
    left, statuses = set(job_ids), Counter[str]()
    said_at = moved_at = time.monotonic()
    newest = None
    while left:
        ended = _ended(chat, left)
        for row in ended:
            left.discard(row.job_id)
            statuses[row.status] += 1
            on_end(Ended(row.source_id, row.status, row.error_code, row.error_message))
        now = time.monotonic()
        if ended:
            said_at = moved_at = now
        elif now - said_at >= SAY_EVERY_S:
            said_at, standing = now, _standing(chat, left)
            on_wait(standing)
            if standing.at_work or standing.put_off or standing.newest != newest:
                newest, moved_at = standing.newest, now
            elif now - moved_at >= STILL_FOR_S:
                break
        if left:
            time.sleep(LOOK_EVERY_S)
    return statuses


def _ended(chat: Engine, job_ids: Collection[UUID]) -> Sequence[Row[Any]]:
    with chat.connect() as connection:
        return connection.execute(ENDED, {"job_ids": list(job_ids)}).all()


def _standing(chat: Engine, job_ids: Collection[UUID]) -> Standing:
    with chat.connect() as connection:
        return Standing(**connection.execute(WAITED_FOR, {"job_ids": list(job_ids)}).mappings().one())
