"""The dashboard database as this service reads it; of `training_sources` it writes the status columns alone."""

import hashlib
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, ForeignKey, MetaData, Select, select, text
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


MOST = 2**40
"""As good as no limit, whatever it is of."""


def limit_in(limits: object, name: str) -> float | None:
    """The number from 0 up that an org's limits name so; None, for no limit, where they name none."""
    value = limits.get(name) if isinstance(limits, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return min(value, MOST)


def beyond_quota(org_id: UUID, limits: object) -> Select[datetime, UUID] | None:
    """Reads the age (created_at, id) of the first source beyond the org's `limits.max_sources`; None without a limit."""
    most = limit_in(limits, "max_sources")
    if most is None:
        return None
    return (
        select(TrainingSource.created_at, TrainingSource.id)
        .join(DashboardBot, (DashboardBot.id == TrainingSource.bot_id) & (DashboardBot.org_id == TrainingSource.org_id))
        .where(TrainingSource.org_id == org_id)
        .where(TrainingSource.deleted_at.is_(None), DashboardBot.deleted_at.is_(None))
        .order_by(TrainingSource.created_at, TrainingSource.id)
        .offset(int(most))
        .limit(1)
    )


def row_version(row: TrainingSource, object_key: str | None) -> str:
    """A hash of what the owner gave: type, url, content, options and, of a file, its key.

    `updated_at` stays out of it, since our own status write may move it; so does the file that a row had before it
    became a source of another type.
    """
    parts = [row.type, row.url, row.content, row.options, object_key if row.type == "file" else None]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_version(of_row: str, etag: str | None) -> str:
    """What is trained: the row's version, and for a file `:` and its object's ETag."""
    return f"{of_row}:{etag}" if etag else of_row


def version_of_row(version: str) -> str:
    """The row's version in a source's."""
    return version.partition(":")[0]


def etag_of(version: str) -> str:
    """The ETag in a source's version; empty where it has none."""
    return version.partition(":")[2]


STATUS_COLUMNS = frozenset(
    ("status", "status_version", "progress", "error_code", "error_message", "job_id", "trained_at")
)
"""What this service may write of `training_sources`, and must be allowed to."""
# Only what this login has some right to is listed there, and only in schemas that it may look into.
THERE = text("""
    SELECT CAST(table_name AS text) AS of_table, CAST(column_name AS text) AS name,
           has_column_privilege(format('%I.%I', table_schema, table_name), CAST(column_name AS text), 'UPDATE') AS writable
    FROM information_schema.columns
    WHERE table_schema = ANY (current_schemas(false)) AND table_name = ANY (:tables)
""")


def missing_columns(connection: Connection) -> list[str]:
    """The `table.column` names that this service needs and the connected dashboard database lacks.

    A status column that is there, but not to be written by this login, has ` (UPDATE is not granted)` behind its name.
    """
    tables = DashboardBase.metadata.sorted_tables
    rows = connection.execute(THERE, {"tables": [table.name for table in tables]})
    there = {(row.of_table, row.name): row.writable for row in rows}
    needed = [(table.name, column.name) for table in tables for column in table.columns]
    return [
        f"{table}.{column}{' (UPDATE is not granted)' if (table, column) in there else ''}"
        for table, column in needed
        if (table, column) not in there
        or (table == TrainingSource.__tablename__ and column in STATUS_COLUMNS and not there[table, column])
    ]
