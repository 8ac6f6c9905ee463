"""Runs for sources that the dashboard holds as `pending` and nobody queued within a minute."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from chat_api.core.database import Engines
from chat_api.core.jobs import INSERT_RUNS, REMEMBER_SOURCES

PENDING = text("""
    SELECT source.id AS source_id, source.org_id, source.bot_id
    FROM training_sources AS source JOIN bots AS bot ON bot.id = source.bot_id AND bot.org_id = source.org_id
    WHERE source.status = 'pending' AND source.deleted_at IS NULL AND bot.deleted_at IS NULL
      AND greatest(source.created_at, source.updated_at) < now() - interval '60 seconds'
    ORDER BY source.created_at LIMIT 10000
""")
LEFT_ALONE = text("""
    SELECT source_id FROM sources WHERE source_id = ANY (:source_ids) AND deleted_at IS NOT NULL
    UNION SELECT source_id FROM training_jobs WHERE source_id = ANY (:source_ids) AND status IN ('waiting', 'running')
""")


def adopt_pending(engines: Engines) -> int:
    """Queues forgotten sources as bulk runs; how many. A source that was deleted here waits for an explicit call."""
    with engines.dashboard.connect() as connection:
        pending = connection.execute(PENDING).all()
    if not pending:
        return 0
    with engines.chat.begin() as connection:
        return _adopt(connection, pending)


def _adopt(connection: Connection, pending: Sequence[Row[Any]]) -> int:
    known = set(connection.execute(LEFT_ALONE, {"source_ids": [row.source_id for row in pending]}).scalars())
    forgotten = [row for row in pending if row.source_id not in known]
    for org_id in dict.fromkeys(row.org_id for row in forgotten):
        rows = [row for row in forgotten if row.org_id == org_id]
        values = {
            "org_id": org_id,
            "bot_ids": [row.bot_id for row in rows],
            "source_ids": [row.source_id for row in rows],
        }
        connection.execute(REMEMBER_SOURCES, {**values, "revive": False})
        connection.execute(INSERT_RUNS, {**values, "priority": "bulk", "force": False, "request_id": None})
    return len(forgotten)
