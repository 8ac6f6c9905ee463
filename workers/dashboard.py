"""What workers read of the dashboard database, and the status they write back."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine, Row, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from chat_api.core.database import DATABASE_DOWN
from chat_api.core.errors import DatabaseUnavailable, QuotaExceeded, ServiceError, SourceDeleted
from chat_api.core.models.dashboard import DashboardBot, File, Org, TrainingSource, beyond_quota, row_version
from chat_api.core.standing import STANDING, WRITE_STATUS, standing_of, status_values
from workers.tasks.life import Task

TOLD_AT_ONCE = 500
SAY_AGAIN_S = 60.0
BEYOND = (
    "The organisation has more sources than its limit allows; this is one of the youngest. Raise it or delete some."
)
log = structlog.get_logger(__name__)
_said_refused: dict[str, float] = {}
"""By error, when it was last said on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class SourceToTrain:
    """A source with its file, its bot and its org, as read at one moment."""

    source: TrainingSource
    file: File | None
    bot: DashboardBot
    org: Org

    @property
    def row_version(self) -> str:
        """The version of what its owner gave, its file's bytes apart."""
        return row_version(self.source, self.file.object_key if self.file else None)


def load_sources(engine: Engine, tasks: Sequence[Task]) -> tuple[dict[int, SourceToTrain], dict[int, ServiceError]]:
    """By task id the sources to train, and why the others are not. Raises DatabaseUnavailable.

    SourceDeleted: it, or its bot, is gone from this org. QuotaExceeded: it is beyond the org's `limits.max_sources`.
    """
    query = (
        select(TrainingSource, File, DashboardBot, Org)
        .join(DashboardBot, TrainingSource.bot_id == DashboardBot.id)
        .join(Org, TrainingSource.org_id == Org.id)
        .outerjoin(File, (TrainingSource.file_id == File.id) & (File.org_id == TrainingSource.org_id))
        .where(TrainingSource.id.in_({task.source_id for task in tasks}))
        .where(TrainingSource.org_id.in_({task.org_id for task in tasks}), DashboardBot.org_id == TrainingSource.org_id)
        .where(TrainingSource.deleted_at.is_(None), DashboardBot.deleted_at.is_(None))
    )
    try:
        with Session(engine, expire_on_commit=False) as session:
            rows = [SourceToTrain(*row) for row in session.execute(query)]
            beyond = _beyond_quota(session, rows)
    except (*DATABASE_DOWN, ProgrammingError) as error:  # away, or lacking a column that it had
        raise DatabaseUnavailable from error
    by_key = {(row.source.org_id, row.source.bot_id, row.source.id): row for row in rows}
    found: dict[int, SourceToTrain] = {}
    errors: dict[int, ServiceError] = {}
    for task in tasks:
        row = by_key.get((task.org_id, task.bot_id, task.source_id))
        if row is None:
            errors[task.task_id] = SourceDeleted()
        elif row.source.id in beyond:
            errors[task.task_id] = QuotaExceeded(BEYOND)
        else:
            found[task.task_id] = row
    return found, errors


def _beyond_quota(session: Session, rows: Sequence[SourceToTrain]) -> set[UUID]:
    """The sources that are younger than the first `limits.max_sources` of their org."""
    beyond: set[UUID] = set()
    for org in {row.org.id: row.org for row in rows}.values():
        query = beyond_quota(org.id, org.limits)
        first = session.execute(query).one_or_none() if query is not None else None
        of_org = [row.source for row in rows if row.org.id == org.id]
        beyond |= {
            source.id for source in of_org if first and (source.created_at, source.id) >= (first.created_at, first.id)
        }
    return beyond


UNPROJECTED = text(f"""
    {STANDING}
    WHERE job.projected_version < job.status_version AND job.status_version > :after
      AND (CAST(:job_ids AS uuid[]) IS NULL OR job.job_id = ANY (CAST(:job_ids AS uuid[])))
    ORDER BY job.status_version LIMIT :at_once
""")  # the rows are our own
# One that somebody else holds is told later: its transaction may have been left open.
HELD_BY_OTHERS = text("""
    WITH free AS MATERIALIZED (
        SELECT id FROM training_sources WHERE id = ANY (:source_ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT id FROM training_sources WHERE id = ANY (:source_ids) AND id NOT IN (SELECT id FROM free)
""")
# One that is changed in this moment is told again, and not waited for: whoever changes it may wait for another of these.
PROJECTED = text("""
    WITH told AS (
        SELECT job_id, version
        FROM unnest(CAST(:job_ids AS uuid[]), CAST(:versions AS bigint[])) AS told (job_id, version)
        JOIN training_jobs USING (job_id)
        WHERE projected_version < version FOR NO KEY UPDATE OF training_jobs SKIP LOCKED
    )
    UPDATE training_jobs AS job SET projected_version = told.version FROM told WHERE job.job_id = told.job_id
""")


def project_status(chat: Engine, dashboard: Engine, job_ids: Sequence[UUID] | None = None) -> int:
    """Tells the dashboard's rows what became of these jobs, or of 500 whose word is behind; how many were told.

    Rows that somebody holds locked are not waited for, but left behind.
    """
    return _tell(chat, dashboard, _behind(chat, job_ids=job_ids))


def project_all(chat: Engine, dashboard: Engine, within_s: float) -> None:
    """Tells the dashboard's rows all that is behind, or as much as it can in so long."""
    after, until = 0, time.monotonic() + within_s
    while behind := _behind(chat, after=after):
        _tell(chat, dashboard, behind)
        if len(behind) < TOLD_AT_ONCE or time.monotonic() >= until:
            return
        after = behind[-1].status_version


def _behind(chat: Engine, *, job_ids: Sequence[UUID] | None = None, after: int = 0) -> Sequence[Row[Any]]:
    values = {"job_ids": None if job_ids is None else list(job_ids), "after": after, "at_once": TOLD_AT_ONCE}
    with chat.connect() as connection:
        return connection.execute(UNPROJECTED, values).all()


def _tell(chat: Engine, dashboard: Engine, behind: Sequence[Row[Any]]) -> int:
    told = _write_statuses(dashboard, behind) if behind else []
    if told:
        values = {"job_ids": [row.job_id for row in told], "versions": [row.status_version for row in told]}
        with chat.begin() as connection:
            connection.execute(PROJECTED, values)
    return len(told)


def _write_statuses(dashboard: Engine, behind: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Those of the rows that need not be told again; one that the dashboard refuses or holds locked stops no other."""
    try:
        with dashboard.begin() as connection:
            source_ids = [row.source_id for row in behind]
            held = set(connection.execute(HELD_BY_OTHERS, {"source_ids": source_ids}).scalars())
            free = [row for row in behind if row.source_id not in held]
            connection.execute(WRITE_STATUS, status_values([standing_of(row) for row in free]))
    except DBAPIError as error:
        if isinstance(error, DATABASE_DOWN):
            raise
        if len(behind) > 1:
            return [told for row in behind for told in _write_statuses(dashboard, [row])]
        _say_refused(behind[0].source_id, type(error.orig).__name__)
        return behind
    return free


def _say_refused(source_id: UUID, error: str) -> None:
    """Logs one of those that are refused for the same reason, once a minute."""
    if time.monotonic() - _said_refused.get(error, -SAY_AGAIN_S) >= SAY_AGAIN_S:
        _said_refused[error] = time.monotonic()
        log.warning("status_refused", source_id=str(source_id), error=error)
