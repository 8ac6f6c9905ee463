"""Reads the dashboard's sources page by page; their contents only where they can have changed since they were read."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, select, text
from sqlalchemy.orm import Session

from chat_api.core.jobs import is_small
from chat_api.core.models.dashboard import File, TrainingSource, row_version
from workers.reconcile.verdicts import Place, SourceRow

HASHED_AT_ONCE = 500
MOST_VERSIONS = 1_000_000
"""How many are remembered, in some 200 MB."""
PARTS = 8
"""One of so many parts of them is dropped when they are too many."""
MARK_BYTES = 8
READ_S = 5.0
"""How long one sweep may read contents; the page ends where the time does."""

# What may be large is not read here: the marks say whether it can have changed since it was.
ROWS = text("""
    SELECT source.id, source.org_id, source.bot_id, source.type, file.object_key, file.size_bytes,
           CASE WHEN bot.org_id = source.org_id AND bot.deleted_at IS NOT NULL THEN 'bot'
                WHEN source.deleted_at IS NULL AND bot.org_id = source.org_id AND org.id IS NOT NULL THEN ''
                ELSE 'source' END AS gone,
           CASE WHEN isfinite(source.created_at) AND isfinite(source.updated_at)
                THEN CAST(extract(epoch FROM now() - greatest(source.created_at, source.updated_at)) AS float8)
                ELSE float8 'infinity' END AS age_s,
           source.status, source.status_version, source.error_code, source.job_id,
           CAST(source.xmin AS text) AS written_by, CAST(source.ctid AS text) AS written_at,
           CAST(source.updated_at AS text) AS updated_at
    FROM training_sources AS source
    LEFT JOIN bots AS bot ON bot.id = source.bot_id
    LEFT JOIN orgs AS org ON org.id = source.org_id
    LEFT JOIN files AS file ON file.id = source.file_id AND file.org_id = source.org_id
    WHERE source.id > :after ORDER BY source.id LIMIT :page
""")
STILL_THERE = text("""
    SELECT source.org_id, source.bot_id, source.id FROM training_sources AS source
    JOIN bots AS bot ON bot.id = source.bot_id AND bot.org_id = source.org_id
    JOIN orgs AS org ON org.id = source.org_id
    WHERE source.id = ANY (:source_ids) AND source.deleted_at IS NULL AND bot.deleted_at IS NULL
""")


class DashboardRows:
    """The sources of all orgs, by id; it remembers the versions of those that it has read."""

    def __init__(self, dashboard: Engine) -> None:
        self._dashboard = dashboard
        self._versions: dict[bytes, bytes] = {}
        """By source id: the row's mark, and the version it had with that."""
        self._dropped = 0

    def still_there(self, source_ids: Sequence[UUID]) -> set[Place]:
        """Where those of the sources are now that can be trained."""
        with self._dashboard.connect() as connection:
            return {Place(*row) for row in connection.execute(STILL_THERE, {"source_ids": list(source_ids)})}

    def after(self, source_id: UUID, page: int) -> tuple[list[SourceRow], UUID | None]:
        """The next rows, a page at most, with their versions; and the id at which they end, None at the last page."""
        if len(self._versions) > MOST_VERSIONS:
            self._drop_some()
        with self._dashboard.connect() as connection:
            found = connection.execute(ROWS, {"after": source_id, "page": page}).all()
        last = found[-1].id if len(found) == page else None
        marks = {row.id: _mark(row) for row in found}
        unread = [row.id for row in found if not row.gone and self._known(row.id)[:MARK_BYTES] != marks[row.id]]
        read = self._read_versions(unread, marks)
        if read < len(unread):
            last = unread[read]
            found = [row for row in found if row.id < last]
            last = found[-1].id if found else None
        return [self._row(row) for row in found], last

    def _drop_some(self) -> None:
        """Another part each time: the oldest, of what is read in turn, would be just what is needed next."""
        self._dropped = (self._dropped + 1) % PARTS
        self._versions = {key: known for key, known in self._versions.items() if key[-1] % PARTS != self._dropped}

    def _known(self, source_id: UUID) -> bytes:
        return self._versions.get(source_id.bytes, b"")

    def _read_versions(self, source_ids: Sequence[UUID], marks: dict[UUID, bytes]) -> int:
        """Reads the contents of rows that may have changed, for so long as one sweep may; how many were read."""
        until, read = time.monotonic() + READ_S, 0
        with Session(self._dashboard) as session:
            while read < len(source_ids) and (not read or time.monotonic() < until):
                some = source_ids[read : read + HASHED_AT_ONCE]
                whole = select(TrainingSource, File.object_key).where(TrainingSource.id.in_(some))
                whole = whole.outerjoin(
                    File, (File.id == TrainingSource.file_id) & (File.org_id == TrainingSource.org_id)
                )
                for source, object_key in session.execute(whole):
                    version = bytes.fromhex(row_version(source, object_key))
                    self._versions[source.id.bytes] = marks[source.id] + version
                session.expunge_all()
                read += len(some)
        return read

    def _row(self, row: Row[Any]) -> SourceRow:
        return SourceRow(
            place=Place(row.org_id, row.bot_id, row.id),
            source_type=row.type,
            small=is_small(row.type, row.size_bytes),
            gone=row.gone or ("" if self._known(row.id) else "source"),  # deleted while it was read
            age_s=row.age_s,
            status=row.status,
            status_version=row.status_version,
            error_code=row.error_code,
            job_id=row.job_id,
            version=self._known(row.id)[MARK_BYTES:].hex(),
        )


def _mark(row: Row[Any]) -> bytes:
    """Another one as soon as the row, or its file, can have changed."""
    return hash((row.written_by, row.written_at, row.updated_at, row.object_key)).to_bytes(MARK_BYTES, signed=True)
