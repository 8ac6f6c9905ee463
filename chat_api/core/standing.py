"""How a source stands in its owner's terms, by its runs; and the one write that says so in the dashboard's row."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, text

STATUS_OF_JOB = {
    "waiting": "queued",
    "running": "processing",
    "succeeded": "trained",
    "failed": "failed",
    "quarantined": "failed",
    "cancelled": "cancelled",
    "deleted": "pending",
}

# Of a source whose run is over while another one is under way or waits, also under the bot it was moved to, that one's
# words; of another one under a tombstone, that it is pending. Only of one that was deleted for good does the row name no
# run: the reconciler knows a deletion by that.
STANDING = """
    SELECT job.job_id, job.org_id, job.source_id, job.status_version,
           coalesce(next.progress_done, job.progress_done) AS progress_done,
           CASE WHEN next.job_id IS NULL THEN job.progress_total ELSE next.progress_total END AS progress_total,
           CASE WHEN next.job_id IS NOT NULL THEN next.status
                WHEN source.deleted_at IS NOT NULL THEN 'deleted' ELSE job.status END AS status,
           CASE WHEN next.job_id IS NOT NULL THEN next.job_id
                WHEN source.deleted_at IS NULL OR source.removal_held_at IS NOT NULL THEN job.job_id END AS told_job_id,
           CASE WHEN source.deleted_at IS NULL AND next.job_id IS NULL THEN job.error_code END AS error_code,
           CASE WHEN source.deleted_at IS NULL AND next.job_id IS NULL THEN job.error_message END AS error_message,
           CASE WHEN job.status = 'succeeded' THEN job.finished_at END AS trained_at,
           source.live_generation IS NOT NULL AS still_answers
    FROM training_jobs AS job
    JOIN sources AS source USING (org_id, bot_id, source_id)
    LEFT JOIN LATERAL (
        SELECT * FROM training_jobs AS under_way WHERE under_way.org_id = job.org_id
        AND under_way.source_id = job.source_id AND under_way.status = 'running' AND job.finished_at IS NOT NULL
        UNION ALL
        SELECT * FROM training_jobs AS behind WHERE behind.org_id = job.org_id
        AND behind.source_id = job.source_id AND behind.status = 'waiting' AND job.finished_at IS NOT NULL
        LIMIT 1
    ) AS next ON true
"""
"""Rows for `standing_of`; to be followed by a WHERE on `job` and `source`."""

# Of several words on a source the newest counts, with the time of training that any of them brings. Rows are locked by
# id, since workers, API and sweeper may tell the same ones.
WRITE_STATUS = text("""
    WITH told AS (
        SELECT DISTINCT ON (org_id, source_id) source_id, org_id, version, status, progress, error_code, error_message,
               job_id, max(trained_at) OVER (PARTITION BY org_id, source_id) AS trained_at
        FROM unnest(CAST(:source_ids AS uuid[]), CAST(:org_ids AS uuid[]), CAST(:versions AS bigint[]),
                    CAST(:statuses AS text[]), CAST(:progresses AS int[]), CAST(:error_codes AS text[]),
                    CAST(:error_messages AS text[]), CAST(:job_ids AS uuid[]), CAST(:trained_ats AS timestamptz[]))
             AS word (source_id, org_id, version, status, progress, error_code, error_message, job_id, trained_at)
        ORDER BY org_id, source_id, version DESC
    ), held AS MATERIALIZED (
        SELECT id FROM training_sources AS source JOIN told ON told.source_id = source.id AND told.org_id = source.org_id
        ORDER BY id FOR NO KEY UPDATE OF source
    )
    UPDATE training_sources AS source
    SET status = told.status, status_version = told.version, progress = told.progress, error_code = told.error_code,
        error_message = told.error_message, job_id = told.job_id,
        trained_at = coalesce(told.trained_at, source.trained_at)
    FROM told JOIN held ON held.id = told.source_id
    WHERE source.id = told.source_id AND source.org_id = told.org_id AND source.status_version < told.version
""")
"""The one write to the dashboard database: it never undoes a newer word."""


class Standing(NamedTuple):
    """How a source stands, as its owner is told; `version` orders what is told of one."""

    source_id: UUID
    org_id: UUID
    version: int
    status: str
    progress: int = 0
    error_code: str | None = None
    error_message: str | None = None
    job_id: UUID | None = None
    trained_at: datetime | None = None


def status_values(standings: Sequence[Standing]) -> dict[str, Any]:
    """The parameters of WRITE_STATUS: an array for each column."""
    names = (
        *("source_ids", "org_ids", "versions", "statuses", "progresses"),
        *("error_codes", "error_messages", "job_ids", "trained_ats"),
    )
    return {name: [one[place] for one in standings] for place, name in enumerate(names)}


def standing_of(row: Row[Any]) -> Standing:
    """A row of STANDING in the owner's terms."""
    return Standing(
        row.source_id,
        row.org_id,
        row.status_version,
        owner_status(row.status, still_answers=row.still_answers),
        percent(row.status, row.progress_done, row.progress_total),
        row.error_code,
        row.error_message,
        row.told_job_id,
        row.trained_at,
    )


def owner_status(job_status: str, *, still_answers: bool) -> str:
    """The status the owner sees: a retrain that fails or is cancelled leaves the old generation answering."""
    if still_answers and job_status in {"failed", "quarantined", "cancelled"}:
        return "trained"
    return STATUS_OF_JOB[job_status]


def percent(job_status: str, done: int, total: int | None) -> int:
    """Progress for the owner, 0–100; 100 only when the job has succeeded."""
    if job_status == "succeeded":
        return 100
    return min(99, 100 * done // total) if total and job_status == "running" else 0
