"""The dashboard database as this service reads it; of `training_sources` it writes the status columns alone."""

import hashlib
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, ForeignKey, MetaData, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class DashboardBase(DeclarativeBase):
    """Base of the dashboard's tables."""

    metadata = MetaData()
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's own protocol
        str: TEXT,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(TEXT),
    }


class Org(DashboardBase):
    """A tenant."""

    __tablename__ = "orgs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    limits: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]


class DashboardBot(DashboardBase):
    """A bot as its owner configured it."""

    __tablename__ = "bots"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("orgs.id"))
    name: Mapped[str]
    config: Mapped[dict[str, Any] | None]
    allowed_origins: Mapped[list[str] | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class File(DashboardBase):
    """An uploaded file: where its object is in the bucket."""

    __tablename__ = "files"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("orgs.id"))
    object_key: Mapped[str]
    filename: Mapped[str]
    content_type: Mapped[str | None]
    size_bytes: Mapped[int | None]
    created_at: Mapped[datetime]


class TrainingSource(DashboardBase):
    """A source as its owner gave it, and, from `status` on, what this service reports of it."""

    __tablename__ = "training_sources"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("orgs.id"))
    bot_id: Mapped[UUID] = mapped_column(ForeignKey("bots.id"))
    type: Mapped[str]
    url: Mapped[str | None]
    file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))
    title: Mapped[str | None]
    content: Mapped[dict[str, Any] | None]
    options: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    status: Mapped[str]
    status_version: Mapped[int]
    progress: Mapped[int]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    job_id: Mapped[UUID | None]
    trained_at: Mapped[datetime | None]


def row_version(row: TrainingSource, object_key: str | None) -> str:
    """A hash of what the owner gave: type, url, content, options and the file's key.

    `updated_at` stays out of it, since our own status write may move it.
    """
    parts = [row.type, row.url, row.content, row.options, object_key]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_version(row: TrainingSource, object_key: str | None, etag: str | None) -> str:
    """What is trained: the row's version, and for a file `:` and its object's ETag."""
    version = row_version(row, object_key)
    return f"{version}:{etag}" if etag else version


def missing_columns(connection: Connection) -> list[str]:
    """The `table.column` names that this service needs and the connected dashboard database lacks."""
    rows = connection.execute(
        text(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = ANY (current_schemas(false))"
        )
    )
    there = {(table, column) for table, column in rows}
    needed = [(table.name, column.name) for table in DashboardBase.metadata.sorted_tables for column in table.columns]
    return [f"{table}.{column}" for table, column in needed if (table, column) not in there]


STATUS_OF_JOB = {
    "waiting": "queued",
    "running": "processing",
    "succeeded": "trained",
    "failed": "failed",
    "quarantined": "failed",
    "cancelled": "cancelled",
    "deleted": "pending",
}

WRITE_STATUS = text("""
    UPDATE training_sources
    SET status = :status, status_version = :version, progress = :progress, error_code = :error_code,
        error_message = :error_message, job_id = :job_id, trained_at = coalesce(:trained_at, trained_at)
    WHERE id = :source_id AND org_id = :org_id AND status_version < :version
""")
"""The one write to the dashboard database: it never undoes a newer word."""


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
