"""The operator's word: what the brakes hold back may go."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, text

from chat_api.core.database import of_org
from workers.reconcile.burial import bury
from workers.reconcile.verdicts import Place

AT_ONCE = 1_000
SOURCE = "org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id"
HELD = text("""
    SELECT org_id, bot_id, source_id FROM sources
    WHERE (source_id = :named_id OR bot_id = :named_id) AND removal_held_at IS NOT NULL AND deleted_at IS NULL
    ORDER BY source_id, bot_id
""")
PARKED = text("""
    SELECT org_id, bot_id, source_id, max(generation) AS generation FROM generations
    WHERE source_id = :named_id AND state = 'parked' GROUP BY org_id, bot_id, source_id
""")
HOLD_SOURCE = text(f"SELECT true FROM sources WHERE {SOURCE} AND deleted_at IS NULL FOR UPDATE")  # noqa: S608  # the condition is this module's own
SUCCEED = text(f"""
    UPDATE training_jobs AS job SET status = 'succeeded', finished_at = now(), error_code = NULL, error_message = NULL,
        error_retryable = NULL, status_version = nextval('status_versions')
    WHERE status = 'failed'
      AND job_id = (SELECT job_id FROM generations WHERE {SOURCE} AND generation = :generation)
      AND NOT EXISTS (SELECT FROM training_jobs AS newer WHERE newer.org_id = job.org_id
                      AND newer.source_id = job.source_id AND newer.created_at > job.created_at)
""")  # noqa: S608
MOVE = text(f"""
    UPDATE generations
    SET state = CASE WHEN generation = :generation THEN 'live' WHEN state = 'live' THEN 'kept' ELSE 'discarded' END,
        switched_at = CASE WHEN generation = :generation THEN now() ELSE switched_at END,
        held_by = CASE WHEN generation = :generation THEN NULL ELSE held_by END
    WHERE {SOURCE} AND (state IN ('live', 'kept') OR generation = :generation)
""")  # noqa: S608
POINT = text(f"UPDATE sources SET live_generation = :generation, pinned_version = NULL WHERE {SOURCE}")  # noqa: S608
READABLE = text(f"""
    SELECT NOT EXISTS (SELECT FROM chunks WHERE {SOURCE} AND generation = :generation AND NOT EXISTS
        (SELECT FROM embeddings WHERE {SOURCE} AND generation = :generation AND embeddings.chunk_id = chunks.chunk_id
         AND space_id = (SELECT space_id FROM bots WHERE org_id = :org_id AND bot_id = :bot_id)))
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Allowed:
    """What became of what was held: sources removed, generations released, and those of another space, which can't be."""

    removed: int
    released: int
    unreadable: int


def allow_removals(chat: Engine, named_id: UUID) -> Allowed:
    """Removes the source if its removal is held, and lets its parked generation go live.

    A bot's id stands for all its sources whose removal is held. Their parked generations stay: each has its own diff.
    """
    values = {"named_id": named_id}
    with chat.connect() as connection:
        held = [Place(*row) for row in connection.execute(HELD, values)]
        parked = connection.execute(PARKED, values).all()
    batches = (held[first : first + AT_ONCE] for first in range(0, len(held), AT_ONCE))
    removed = [place for batch in batches for place in bury(chat, batch, marked=True)]
    released = [_release(chat, row) for row in parked if Place(*row[:3]) not in removed]
    return Allowed(len(removed), released.count(True), released.count(False))


def _release(chat: Engine, parked: Row[Any]) -> bool:
    """Whether the parked generation answers now: not when it was embedded with another model than the bot reads."""
    values = parked._asdict()
    with of_org(chat, parked.org_id).connect() as connection, connection.begin() as transaction:
        if not _switch(connection, values):
            transaction.rollback()
            return False
    return True


def _switch(connection: Connection, values: dict[str, Any]) -> bool:
    if not connection.execute(HOLD_SOURCE, values).scalar():
        return False
    for statement in (SUCCEED, MOVE, POINT):
        connection.execute(statement, values)
    return bool(connection.execute(READABLE, values).scalar())
