"""Which migrations this version brings, and whether the chat database has them."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

SCRIPTS = Path(__file__).parents[1] / "alembic"


def pending_migration(connection: Connection) -> str | None:
    """The revision that the connected chat database still lacks, or None.

    A database that a newer version has migrated lacks nothing: migrations only add, so that old replicas live through
    an upgrade.
    """
    head, known = _revisions()
    if not inspect(connection).has_table("alembic_version"):
        return head
    applied = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
    return None if head in applied or applied - known else head


@cache
def _revisions() -> tuple[str, frozenset[str]]:
    """The newest revision and all known ones, from the files beside the package."""
    scripts = ScriptDirectory(str(SCRIPTS), version_locations=[str(SCRIPTS / "versions")])
    head = scripts.get_current_head()
    if head is None:
        raise RuntimeError(f"there are no migrations in {SCRIPTS}")
    return head, frozenset(script.revision for script in scripts.walk_revisions())
