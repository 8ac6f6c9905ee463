"""Removes all that is known of an org which the dashboard no longer has: the end of a tenant."""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO
from uuid import UUID

from sqlalchemy import Engine, text

from chat_api.core.database import Engines, make_engines, of_org
from chat_api.core.errors import ServiceError
from chat_api.core.models import ChatBase
from chat_api.core.settings import Settings
from workers.commands.terminal import Bar, agreed
from workers.reconcile.burial import bury
from workers.reconcile.verdicts import Place

AT_ONCE = 20_000
BURIED_AT_ONCE = 1_000
ROUNDS = 3
"""How often what was written meanwhile is looked for."""
TABLES = tuple(table.name for table in reversed(ChatBase.metadata.sorted_tables) if "org_id" in table.c)
"""All that have a tenant, each before those that it points to."""
Counts = dict[tuple[str, UUID], int]
"""Rows of an org by table and bot."""

STILL_THERE = text("""
    SELECT (SELECT count(*) FROM orgs WHERE id = :org_id) AS orgs,
           (SELECT count(*) FROM bots WHERE org_id = :org_id) AS bots,
           (SELECT count(*) FROM training_sources WHERE org_id = :org_id) AS sources,
           EXISTS (SELECT FROM orgs) AS any_org
""")
MAY = text("""
    SELECT current_user AS login, bool_and(has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'DELETE'))
        AS allowed FROM unnest(CAST(:tables AS text[])) AS name
""")
SOURCES = text("""
    SELECT org_id, bot_id, source_id FROM sources WHERE org_id = :org_id AND deleted_at IS NULL
    ORDER BY source_id, bot_id
""")
# By bot, so that of a partitioned table one partition is read.
COUNT = {
    table: text(f"SELECT bot_id, count(*) AS number FROM {table} WHERE org_id = :org_id GROUP BY bot_id")  # noqa: S608  # the names are the schema's own
    for table in TABLES
}
REMOVE = {
    table: text(f"""
        DELETE FROM {table} WHERE org_id = :org_id AND bot_id = :bot_id AND ctid = ANY (ARRAY(
            SELECT ctid FROM {table} WHERE org_id = :org_id AND bot_id = :bot_id LIMIT :limit))
    """)  # noqa: S608
    for table in TABLES
}


class OrgRefused(ServiceError):
    """The org may not be removed."""

    code = "org_refused"
    retryable = False


def clean_org(options: Namespace, settings: Settings, engines: Engines, stream: TextIO) -> int:
    """Asks and removes; 0 when nothing is left, 1 when something is, or nobody agreed. Raises OrgRefused."""
    org_id: UUID = options.org
    _assert_gone(engines.dashboard, org_id)
    with _owning(settings, org_id) as chat:
        counts = _count(chat, org_id)
        if not counts:
            stream.write("There is nothing to remove.\n")
            return 0
        if not options.yes and not agreed(f"Remove all of org {org_id} for good: {_in_words(counts)}? [y/N] "):
            stream.write("Nothing was removed.\n")
            return 1
        bar = Bar("removed rows", sum(counts.values()), stream)
        left = _remove(chat, org_id, counts, bar.advance)
        bar.end()
    stream.write(f"Left, and written meanwhile: {_in_words(left)}.\n" if left else f"Removed {_in_words(counts)}.\n")
    return 1 if left else 0


def _assert_gone(dashboard: Engine, org_id: UUID) -> None:
    """Raises OrgRefused for an org of which the dashboard has anything, or if it has no org at all."""
    with dashboard.connect() as connection:
        there = connection.execute(STILL_THERE, {"org_id": org_id}).one()
    if there.orgs or there.bots or there.sources:
        rows = f"{there.orgs} org, {there.bots} bots, {there.sources} sources"
        raise OrgRefused(f"The dashboard still has rows of org {org_id} ({rows}). Delete them there first.")
    if not there.any_org:
        raise OrgRefused("The dashboard has no org at all. Is DASHBOARD_DB_* the right database?")


@contextmanager
def _owning(settings: Settings, org_id: UUID) -> Iterator[Engine]:
    """The chat database with the migrations' login, of which every transaction sees the org's rows.

    The workers' own may delete neither tombstones nor usage. Raises OrgRefused when this one may not either.
    """
    login = {
        "python_chat_db_username": settings.chat_db_migrator_username,
        "python_chat_db_password": settings.chat_db_migrator_password,
    }
    engines = make_engines(settings.model_copy(update={name: value for name, value in login.items() if value}))
    engines.dashboard.dispose()
    try:
        _assert_may(engines.chat)
        yield of_org(engines.chat, org_id)
    finally:
        engines.chat.dispose()


def _assert_may(chat: Engine) -> None:
    with chat.connect() as connection:
        may = connection.execute(MAY, {"tables": list(TABLES)}).one()
    if not may.allowed:
        raise OrgRefused(
            f"The chat database's login {may.login} may not delete all of this. Set CHAT_DB_MIGRATOR_USERNAME and"
            " CHAT_DB_MIGRATOR_PASSWORD for this command."
        )


def _count(chat: Engine, org_id: UUID) -> Counts:
    """What there is of the org; `chat` sees its rows."""
    with chat.connect() as connection:
        return {
            (table, row.bot_id): row.number
            for table, count in COUNT.items()
            for row in connection.execute(count, {"org_id": org_id})
        }


def _in_words(counts: Counts) -> str:
    """The counts in words."""
    tables: Counter[str] = Counter()
    for (table, _bot_id), number in counts.items():
        tables[table] += number
    return ", ".join(f"{number:,} {table}" for table, number in sorted(tables.items()))


def _remove(chat: Engine, org_id: UUID, counts: Counts, removed: Callable[[int], None]) -> Counts:
    """Removes the rows that were counted, 20,000 in a transaction, and what was written meanwhile; what is left then.

    Its sources are buried first, so that no answer and no run uses what goes. `removed` is told how many rows went.
    """
    with chat.connect() as connection:
        places = [Place(*row) for row in connection.execute(SOURCES, {"org_id": org_id})]
    for first in range(0, len(places), BURIED_AT_ONCE):
        bury(chat, places[first : first + BURIED_AT_ONCE], for_good=True)
    for _ in range(ROUNDS):
        for table, bot_id in counts:
            _remove_of(chat, table, {"org_id": org_id, "bot_id": bot_id}, removed)
        counts = _count(chat, org_id)
        if not counts:
            break
    return counts


def _remove_of(chat: Engine, table: str, key: dict[str, UUID], removed: Callable[[int], None]) -> None:
    while True:
        with chat.begin() as connection:
            rows = connection.execute(REMOVE[table], {**key, "limit": AT_ONCE}).rowcount
        removed(rows)
        if rows < AT_ONCE:
            return
