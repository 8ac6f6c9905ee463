"""Runs for sources that the dashboard holds as `pending` and nobody queued within a minute."""

from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from chat_api.core.database import Engines
from chat_api.core.jobs import INSERT_RUNS, REMEMBER_SOURCES

PENDING = text("""
    SELECT source.id AS source_id, source.org_id, source.bot_id
    FROM training_sources AS source JOIN bots AS bot ON bot.id = source.bot_id AND bot.org_id = source.org_id
    WHERE source.status = 'pending' AND source.deleted_at IS NULL AND bot.deleted_at IS NULL
      AND greatest(source.created_at, source.updated_at) < now() - interval '60 seconds'
    ORDER BY source.created_at LIMIT 10000
""")
# A row that is still pending after a run has not been told of it: to train it again and again would not tell it either.
LEFT_ALONE = text("""
    SELECT source_id FROM training_jobs WHERE org_id = :org_id AND source_id = ANY (:source_ids)
    AND (status IN ('waiting', 'running') OR created_at > now() - interval '1 hour')
""")


def adopt_pending(engines: Engines) -> int:
    """Queues forgotten sources as bulk runs; how many. A source that was deleted here waits for an explicit call."""
    with engines.dashboard.connect() as connection:
        pending = connection.execute(PENDING).all()
    adopted = 0
    for org_id in dict.fromkeys(row.org_id for row in pending):
        with engines.chat.begin() as connection:
            adopted += _adopt(
                connection, org_id, {row.source_id: row.bot_id for row in pending if row.org_id == org_id}
            )
    return adopted


def _adopt(connection: Connection, org_id: UUID, bots: dict[UUID, UUID]) -> int:
    """`bots`: source id → bot id."""
    known = connection.execute(LEFT_ALONE, {"org_id": org_id, "source_ids": list(bots)}).scalars()
    forgotten = [*bots.keys() - set(known)]
    if not forgotten:
        return 0
    values = {"org_id": org_id, "bot_ids": [bots[source_id] for source_id in forgotten], "source_ids": forgotten}
    connection.execute(REMEMBER_SOURCES, {**values, "revive": False})
    run = {"job_ids": [uuid4() for _ in forgotten], "priority": "bulk", "force": False, "request_id": None}
    return connection.execute(INSERT_RUNS, {**values, **run}).rowcount
