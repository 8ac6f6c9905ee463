"""The rows that an operator's commands add to the dashboard database; the service itself never does that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from chat_api.core.errors import ServiceError
from workers.reading import limit_of

TABLES = ("files", "training_sources")
PRIVILEGES = ("SELECT", "INSERT", "UPDATE")
MAY = text("""
    SELECT current_user AS login, bool_and(has_table_privilege(name, privilege)) AS allowed
    FROM unnest(CAST(:tables AS text[])) AS name, unnest(CAST(:privileges AS text[])) AS privilege
""")
FIND_BOT = text("""
    SELECT bot.id, bot.org_id, org.limits FROM bots AS bot JOIN orgs AS org ON org.id = bot.org_id
    WHERE bot.id = :bot_id AND bot.deleted_at IS NULL
""")
FIND_SOURCES = text("""
    SELECT source.id, source.org_id, source.bot_id, source.deleted_at IS NOT NULL AS deleted, source.status,
           file.object_key
    FROM training_sources AS source
    LEFT JOIN files AS file ON file.id = source.file_id AND file.org_id = source.org_id
    WHERE source.id = ANY (CAST(:source_ids AS uuid[]))
""")
ADD_FILE = text("""
    INSERT INTO files (id, org_id, object_key, filename, content_type, size_bytes, created_at)
    VALUES (:file_id, :org_id, :object_key, :filename, :content_type, :size_bytes, now())
    ON CONFLICT (id) DO UPDATE
    SET object_key = excluded.object_key, filename = excluded.filename, content_type = excluded.content_type,
        size_bytes = excluded.size_bytes
    WHERE files.org_id = excluded.org_id
""")
ADD_SOURCE = text("""
    INSERT INTO training_sources (id, org_id, bot_id, type, url, file_id, title, content, options, created_at, updated_at)
    VALUES (:source_id, :org_id, :bot_id, :type, :url, :file_id, :title, CAST(:content AS jsonb),
            CAST(:options AS jsonb), now(), now())
    ON CONFLICT (id) DO UPDATE
    SET file_id = excluded.file_id, deleted_at = NULL, updated_at = now()
    WHERE training_sources.org_id = excluded.org_id AND training_sources.bot_id = excluded.bot_id
""")


class RowsRefused(ServiceError):
    """The dashboard database can't take the rows as they are."""

    code = "bad_command"
    retryable = False


@dataclass(frozen=True, slots=True)
class Target:
    """The bot that gets sources, and its org's largest file."""

    org_id: UUID
    bot_id: UUID
    max_file_mb: float

    @property
    def key(self) -> dict[str, Any]:
        """Whose rows a statement names."""
        return {"org_id": self.org_id, "bot_id": self.bot_id}


class SourceSeen(NamedTuple):
    """What the dashboard has of a source."""

    source_id: UUID
    org_id: UUID
    bot_id: UUID
    deleted: bool
    status: str
    object_key: str | None


class FileRow(NamedTuple):
    """A row of `files`."""

    file_id: UUID
    object_key: str
    filename: str
    content_type: str | None
    size_bytes: int | None


class SourceRow(NamedTuple):
    """What its owner gives of a row of `training_sources`; `content` and `options` are JSON."""

    source_id: UUID
    type: str
    url: str | None = None
    title: str | None = None
    content: str | None = None
    options: str = "{}"
    file: FileRow | None = None


def find_target(dashboard: Engine, bot_id: UUID, *, max_file_mb: int) -> Target:
    """The bot, which must be there; `max_file_mb` holds where its org's limits name none. Raises RowsRefused."""
    with dashboard.connect() as connection:
        row = connection.execute(FIND_BOT, {"bot_id": bot_id}).one_or_none()
    if row is None:
        raise RowsRefused(f"There is no bot {bot_id} in the dashboard.")
    return Target(row.org_id, row.id, limit_of(row.limits, "max_file_mb", max_file_mb))


def assert_may(dashboard: Engine, tables: Sequence[str] = TABLES, privileges: Sequence[str] = PRIVILEGES) -> None:
    """Raises RowsRefused, with the grant that is missing, when this login may not do so, by default add sources."""
    with dashboard.connect() as connection:
        row = connection.execute(MAY, {"tables": list(tables), "privileges": list(privileges)}).one()
    if not row.allowed:
        raise RowsRefused(
            f"The dashboard database's login {row.login} may not write these rows, which the service itself never does."
            " Run this command with DASHBOARD_DB_USERNAME and DASHBOARD_DB_PASSWORD of one that may, or as its owner:"
            f' GRANT {", ".join(privileges)} ON {", ".join(tables)} TO "{row.login}"'
        )


def find_rows(connection: Connection, source_ids: list[UUID]) -> dict[UUID, SourceSeen]:
    """By id those of the sources that the dashboard has, whoever they belong to."""
    found = connection.execute(FIND_SOURCES, {"source_ids": source_ids})
    return {row.id: SourceSeen(*row) for row in found}


def add_source(connection: Connection, target: Target, source: SourceRow) -> None:
    """Adds the source and its file to the bot. Of a source that is there the file is replaced, and a deletion undone.

    Raises RowsRefused for another bot's.
    """
    file = source.file
    written = file is None or connection.execute(ADD_FILE, {**target.key, **file._asdict()}).rowcount
    values = {**target.key, **source._asdict(), "file_id": file.file_id if file else None}
    if not (written and connection.execute(ADD_SOURCE, values).rowcount):
        raise RowsRefused(f"Source {source.source_id} is another bot's already.")
