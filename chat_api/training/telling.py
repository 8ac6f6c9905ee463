"""Tells the dashboard how sources stand; while that can't be done, it is left to the sweeper."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.core.database import TIME_LIMITS
from chat_api.core.standing import STANDING, WRITE_STATUS, Standing, standing_of, status_values

OF_JOBS = text(f"""
    {STANDING}
    WHERE job.org_id = :org_id AND job.job_id = ANY (:job_ids) AND source.deleted_at IS NULL ORDER BY job.status_version
""")  # the rows are our own


async def tell_dashboard(chat: AsyncSession, dashboard: AsyncSession, org_id: UUID, job_ids: Sequence[UUID]) -> None:
    """Writes what became of jobs to their sources' rows."""
    rows = (await chat.execute(OF_JOBS, {"org_id": org_id, "job_ids": list(job_ids)})).all()
    await chat.rollback()
    if rows:
        await tell(dashboard, [standing_of(row) for row in rows])


async def tell(dashboard: AsyncSession, standings: Sequence[Standing]) -> None:
    """Writes these to the rows, which may be gone, or their database away."""
    try:
        await dashboard.execute(text(TIME_LIMITS))
        await dashboard.execute(WRITE_STATUS, status_values(standings))
        await dashboard.commit()
    except SQLAlchemyError:
        await dashboard.rollback()
