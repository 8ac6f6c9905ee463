"""What workers read of the dashboard database, and the status they write back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine, Row, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chat_api.core.database import DATABASE_DOWN
from chat_api.core.errors import DatabaseUnavailable, SourceDeleted
from chat_api.core.models.dashboard import (
    WRITE_STATUS,
    DashboardBot,
    File,
    Org,
    TrainingSource,
    owner_status,
    percent,
)
from workers.runs import Run

TOLD_AT_ONCE = 500
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SourceToTrain:
    """A source with its file, its bot and its org, as read at one moment."""

    source: TrainingSource
    file: File | None
    bot: DashboardBot
    org: Org


def load_source(engine: Engine, run: Run) -> SourceToTrain:
    """The run's source. Raises SourceDeleted when it, or its bot, is gone from this org; DatabaseUnavailable."""
    found = (
        select(TrainingSource, File, DashboardBot, Org)
        .join(DashboardBot, TrainingSource.bot_id == DashboardBot.id)
        .join(Org, TrainingSource.org_id == Org.id)
        .outerjoin(File, (TrainingSource.file_id == File.id) & (File.org_id == TrainingSource.org_id))
        .where(TrainingSource.id == run.source_id, TrainingSource.org_id == run.org_id)
        .where(TrainingSource.bot_id == run.bot_id, DashboardBot.org_id == run.org_id)
        .where(TrainingSource.deleted_at.is_(None), DashboardBot.deleted_at.is_(None))
    )
    try:
        with Session(engine, expire_on_commit=False) as session:
            row = session.execute(found).one_or_none()
    except DATABASE_DOWN as error:
        raise DatabaseUnavailable from error
    if row is None:
        raise SourceDeleted
    return SourceToTrain(*row)


# What the owner is told: of a source under a tombstone, that it is pending; of one whose run is over while the next one
# waits, that it is queued.
UNPROJECTED = text("""
    SELECT job.job_id, job.org_id, job.source_id, job.status_version, job.progress_done, job.progress_total,
           CASE WHEN source.deleted_at IS NOT NULL THEN 'deleted'
                WHEN next.job_id IS NOT NULL THEN next.status ELSE job.status END AS status,
           CASE WHEN source.deleted_at IS NULL THEN coalesce(next.job_id, job.job_id) END AS told_job_id,
           CASE WHEN source.deleted_at IS NULL AND next.job_id IS NULL THEN job.error_code END AS error_code,
           CASE WHEN source.deleted_at IS NULL AND next.job_id IS NULL THEN job.error_message END AS error_message,
           CASE WHEN job.status = 'succeeded' THEN job.finished_at END AS trained_at,
           source.live_generation IS NOT NULL AS still_answers
    FROM training_jobs AS job
    JOIN sources AS source USING (org_id, bot_id, source_id)
    LEFT JOIN training_jobs AS next ON next.org_id = job.org_id AND next.source_id = job.source_id
                                    AND next.status = 'waiting' AND job.finished_at IS NOT NULL
    WHERE job.projected_version < job.status_version AND (CAST(:job_id AS uuid) IS NULL OR job.job_id = :job_id)
    ORDER BY job.status_version LIMIT :at_once
""")
PROJECTED = text("""
    UPDATE training_jobs SET projected_version = :version WHERE job_id = :job_id AND projected_version < :version
""")


def project_status(chat: Engine, dashboard: Engine, job_id: UUID | None = None) -> int:
    """Tells the dashboard's rows what became of one job, or of 500 whose word is behind; how many were told."""
    with chat.connect() as connection:
        behind = connection.execute(UNPROJECTED, {"job_id": job_id, "at_once": TOLD_AT_ONCE}).all()
    told = _write_statuses(dashboard, behind) if behind else []
    if told:
        with chat.begin() as connection:
            connection.execute(PROJECTED, [{"job_id": row.job_id, "version": row.status_version} for row in told])
    return len(told)


def _write_statuses(dashboard: Engine, behind: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Those of the rows that need not be told again; one that the dashboard refuses or holds locked stops no other."""
    try:
        with dashboard.begin() as connection:
            connection.execute(WRITE_STATUS, [_status(row) for row in behind])
    except DBAPIError as error:
        locked = isinstance(error.orig, LockNotAvailable)
        if isinstance(error, DATABASE_DOWN) and not locked:
            raise
        if len(behind) > 1:
            return [told for row in behind for told in _write_statuses(dashboard, [row])]
        log.warning("status_refused", source_id=str(behind[0].source_id), error=type(error.orig).__name__)
        return [] if locked else behind
    return behind


def _status(row: Row[Any]) -> dict[str, Any]:
    return {
        "status": owner_status(row.status, still_answers=row.still_answers),
        "version": row.status_version,
        "progress": percent(row.status, row.progress_done, row.progress_total),
        "error_code": row.error_code,
        "error_message": row.error_message,
        "job_id": row.told_job_id,
        "trained_at": row.trained_at,
        "source_id": row.source_id,
        "org_id": row.org_id,
    }
