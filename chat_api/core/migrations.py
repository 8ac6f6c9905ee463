"""Which migrations this version brings, and whether the chat database has them."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

SCRIPTS = Path(__file__).parents[2] / "alembic"
READABLE = text("SELECT has_table_privilege(to_regclass('alembic_version'), 'SELECT')")


def pending_migration(connection: Connection) -> str | None:
    """The revision that the connected chat database still lacks, or None.

    A database that a newer version has migrated lacks nothing: migrations only add, so that old replicas live through
    an upgrade. One that does not let this login see how far it is was migrated before this login was to see it.
    """
    head, known = _revisions()
    applied = _applied(connection)
    return None if head in applied or applied - known else head


def newer_revisions(connection: Connection) -> frozenset[str]:
    """The revisions of the connected chat database that this version does not know: a newer one has migrated it."""
    return _applied(connection) - _revisions()[1]


def _applied(connection: Connection) -> frozenset[str]:
    if not connection.execute(READABLE).scalar():  # NULL where there is no such table
        return frozenset()
    return frozenset(connection.scalars(text("SELECT version_num FROM alembic_version")))


@cache
def _revisions() -> tuple[str, frozenset[str]]:
    """The newest revision and all known ones, from the files beside the package."""
    scripts = ScriptDirectory(str(SCRIPTS), version_locations=[str(SCRIPTS / "versions")])
    head = scripts.get_current_head()
    if head is None:
        raise RuntimeError(f"there are no migrations in {SCRIPTS}")
    return head, frozenset(script.revision for script in scripts.walk_revisions())
