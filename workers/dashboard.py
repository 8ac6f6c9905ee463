"""What workers read of the dashboard database, and the status they write back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

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
    except OperationalError as error:
        raise DatabaseUnavailable from error
    if row is None:
        raise SourceDeleted
    return SourceToTrain(*row)


UNPROJECTED = text("""
    SELECT job.job_id, job.org_id, job.source_id, job.status, job.status_version, progress_done, progress_total,
           error_code, error_message, CASE WHEN status = 'succeeded' THEN finished_at END AS trained_at,
           source.live_generation IS NOT NULL AND source.deleted_at IS NULL AS still_answers
    FROM training_jobs AS job JOIN sources AS source USING (org_id, bot_id, source_id)
    WHERE projected_version < status_version AND (CAST(:job_id AS uuid) IS NULL OR job_id = :job_id)
    ORDER BY status_version LIMIT 500
""")
PROJECTED = text("""
    UPDATE training_jobs SET projected_version = :version WHERE job_id = :job_id AND projected_version < :version
""")


def project_status(chat: Engine, dashboard: Engine, job_id: UUID | None = None) -> int:
    """Tells the dashboard's rows what became of one job, or of all whose word is behind; how many were told."""
    with chat.connect() as connection:
        behind = connection.execute(UNPROJECTED, {"job_id": job_id}).all()
    if not behind:
        return 0
    with dashboard.begin() as connection:
        _write_statuses(connection, behind)
    with chat.begin() as connection:
        connection.execute(PROJECTED, [{"job_id": row.job_id, "version": row.status_version} for row in behind])
    return len(behind)


def _write_statuses(connection: Connection, behind: Sequence[Row[Any]]) -> None:
    for row in behind:
        connection.execute(
            WRITE_STATUS,
            {
                "status": owner_status(row.status, still_answers=row.still_answers),
                "version": row.status_version,
                "progress": percent(row.status, row.progress_done, row.progress_total),
                "error_code": row.error_code,
                "error_message": row.error_message,
                "job_id": row.job_id,
                "trained_at": row.trained_at,
                "source_id": row.source_id,
                "org_id": row.org_id,
            },
        )
