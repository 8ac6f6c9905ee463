"""Which embedding space a bot reads: another is built beside it, read at once when it is whole, the old one collected.

Work and waste are rows of `training_tasks` without a run: `reembed` tasks that wait or run, failed ones (`done`, with
the error), and marks of vectors that nobody reads any more (`done`, with their space).
"""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine, text

from chat_api.core.database import DATABASE_DOWN, of_org, say_org
from chat_api.core.embeddings import EmbeddingSpace

COLLECT_AT_ONCE = 20_000
DUTY_S = 5.0
"""How long one sweep may collect what has piled up."""
log = structlog.get_logger(__name__)

READABLE = "state IN ('live', 'kept', 'parked')"
"""Generations that answer, or may again: all of them change their space together."""
KEY = "org_id = :org_id AND bot_id = :bot_id"
IS_MARK = "status = 'done' AND result ->> 'stale_space_id' IS NOT NULL"


@dataclass(frozen=True, slots=True)
class BotKey:
    """A bot, as every query names it."""

    org_id: UUID
    bot_id: UUID

    @property
    def values(self) -> dict[str, Any]:
        """Its bound parameters."""
        return {"org_id": self.org_id, "bot_id": self.bot_id}


BUILT_BESIDE = text(f"""
    SELECT space.space_id, model, dimensions
    FROM bots JOIN embedding_spaces AS space ON space.space_id = bots.next_space_id WHERE {KEY}
""")  # noqa: S608  # the parts are this module's own


def built_beside(connection: Connection, bot: BotKey) -> tuple[int, EmbeddingSpace] | None:
    """The space that the bot is embedded in anew, with its id; None when it is not."""
    row = connection.execute(BUILT_BESIDE, bot.values).one_or_none()
    return (row.space_id, EmbeddingSpace(row.model, row.dimensions)) if row else None


# --- beginning and giving up ------------------------------------------------------------------------------------------

LOCK_TASKS = text(f"""
    SELECT task_id FROM training_tasks WHERE {KEY} AND kind = 'reembed' AND NOT ({IS_MARK}) ORDER BY task_id FOR UPDATE
""")  # noqa: S608
LOCK_BOT = text(f"""
    SELECT space_id, next_space_id FROM bots WHERE {KEY} AND deleted_at IS NULL FOR UPDATE
""")  # noqa: S608
AIM = text(f"UPDATE bots SET next_space_id = :space_id WHERE {KEY}")  # noqa: S608
DROP_TASKS = text(f"DELETE FROM training_tasks WHERE {KEY} AND kind = 'reembed' AND NOT ({IS_MARK})")  # noqa: S608
DROP_FAILED = text(f"""
    DELETE FROM training_tasks WHERE {KEY} AND kind = 'reembed' AND status = 'done' AND NOT ({IS_MARK})
""")  # noqa: S608
UNMARK = text(f"""
    DELETE FROM training_tasks
    WHERE {KEY} AND kind = 'reembed' AND {IS_MARK} AND CAST(result ->> 'stale_space_id' AS int) = :space_id
""")  # noqa: S608
MARK = text(f"""
    INSERT INTO training_tasks (org_id, bot_id, source_id, kind, priority, status, result)
    SELECT DISTINCT org_id, bot_id, source_id, 'reembed', 'bulk', 'done',
           jsonb_build_object('stale_space_id', CAST(:space_id AS int))
    FROM generations WHERE {KEY} AND {READABLE}
""")  # noqa: S608


def aim(connection: Connection, bot: BotKey, space_id: int | None) -> bool:
    """Has the bot embedded anew in this space, or no longer in any; False when there is nothing to change for it.

    What was built for another space is marked as waste. `settle` then makes the tasks, or switches where none is needed.
    """
    connection.execute(LOCK_TASKS, bot.values)
    row = connection.execute(LOCK_BOT, bot.values).one_or_none()
    if row is None or row.space_id is None:
        return False
    wanted = None if space_id == row.space_id else space_id
    if row.next_space_id == wanted:
        connection.execute(DROP_FAILED, bot.values)
        return wanted is not None
    connection.execute(DROP_TASKS, bot.values)
    if row.next_space_id is not None:
        connection.execute(MARK, {**bot.values, "space_id": row.next_space_id})
    if wanted is not None:
        connection.execute(UNMARK, {**bot.values, "space_id": wanted})
    connection.execute(AIM, {**bot.values, "space_id": wanted})
    return True


# --- switching --------------------------------------------------------------------------------------------------------

# A text that was refused is not tried again while its generation is what it was; a retraining may be rid of it.
REFUSED = """
    EXISTS (SELECT FROM generations AS build
            WHERE build.org_id = task.org_id AND build.bot_id = task.bot_id AND build.source_id = task.source_id
              AND build.state = task.result ->> 'state' AND build.generation = CAST(task.result ->> 'generation' AS int))
"""
UNDER_WAY = text(f"""
    SELECT EXISTS (SELECT FROM training_tasks AS task
                   WHERE {KEY} AND kind = 'reembed' AND NOT ({IS_MARK}) AND (status <> 'done' OR {REFUSED}))
""")  # noqa: S608
LOCK_SOURCES = text(f"SELECT source_id FROM sources WHERE {KEY} ORDER BY source_id FOR UPDATE")  # noqa: S608
INCOMPLETE = text(f"""
    SELECT DISTINCT chunk.source_id
    FROM generations AS build
    JOIN sources AS source USING (org_id, bot_id, source_id)
    JOIN chunks AS chunk ON chunk.org_id = :org_id AND chunk.bot_id = :bot_id
        AND chunk.source_id = build.source_id AND chunk.generation = build.generation
    WHERE build.org_id = :org_id AND build.bot_id = :bot_id AND source.deleted_at IS NULL AND build.{READABLE}
      AND NOT EXISTS (SELECT FROM embeddings AS vector
                      WHERE vector.org_id = :org_id AND vector.bot_id = :bot_id AND vector.space_id = :space_id
                        AND vector.source_id = chunk.source_id AND vector.generation = chunk.generation
                        AND vector.chunk_id = chunk.chunk_id)
""")  # noqa: S608
FORGIVE = text(f"""
    DELETE FROM training_tasks AS task
    WHERE {KEY} AND kind = 'reembed' AND status = 'done' AND NOT ({IS_MARK}) AND NOT {REFUSED}
""")  # noqa: S608
ADD_TASKS = text(f"""
    INSERT INTO training_tasks (org_id, bot_id, source_id, kind, priority)
    SELECT :org_id, :bot_id, source_id, 'reembed', 'bulk' FROM unnest(CAST(:source_ids AS uuid[])) AS given (source_id)
    WHERE NOT EXISTS (SELECT FROM training_tasks AS task WHERE {KEY} AND task.source_id = given.source_id
                      AND kind = 'reembed' AND NOT ({IS_MARK}))
    ORDER BY source_id
""")  # noqa: S608
RENAME = text(f"UPDATE generations SET space_id = :space_id WHERE {KEY} AND {READABLE}")  # noqa: S608
READ_NEXT = text(f"UPDATE bots SET space_id = next_space_id, next_space_id = NULL WHERE {KEY}")  # noqa: S608


def switch_if_whole(connection: Connection, bot: BotKey) -> bool:
    """Switches the bot to the space that was built beside, if that is whole by now; whether it was.

    Where something is missing that nobody is at, tasks are made for it; a text that was refused holds the bot where it
    is. In a transaction of its own, which sees the bot's org: with the bot's sources and then the bot locked, no training can switch meanwhile.
    """
    if connection.execute(UNDER_WAY, bot.values).scalar_one():
        return False
    connection.execute(LOCK_SOURCES, bot.values)
    connection.execute(LOCK_TASKS, bot.values)
    row = connection.execute(LOCK_BOT, bot.values).one_or_none()
    if row is None or row.next_space_id is None:
        return False
    values = {**bot.values, "space_id": row.next_space_id}
    incomplete = list(connection.execute(INCOMPLETE, values).scalars())
    if incomplete:
        connection.execute(FORGIVE, bot.values)
        connection.execute(ADD_TASKS, {**bot.values, "source_ids": incomplete})
        return False
    connection.execute(DROP_TASKS, bot.values)
    connection.execute(RENAME, values)
    connection.execute(READ_NEXT, bot.values)
    connection.execute(MARK, {**bot.values, "space_id": row.space_id})
    log.info("space_switched", bot_id=str(bot.bot_id), space_id=row.next_space_id)
    return True


# --- the sweeper's part -----------------------------------------------------------------------------------------------

BUILDING = text("SELECT org_id, bot_id FROM bots WHERE next_space_id IS NOT NULL AND deleted_at IS NULL")
MARKED = text(f"""
    SELECT task_id, org_id, bot_id, source_id, CAST(result ->> 'stale_space_id' AS int) AS space_id
    FROM training_tasks WHERE job_id IS NULL AND kind = 'reembed' AND {IS_MARK}
    ORDER BY task_id LIMIT 1 FOR UPDATE SKIP LOCKED
""")  # noqa: S608
OF_MARK = f"{KEY} AND source_id = :source_id AND space_id = :space_id"
COLLECT = text(f"""
    DELETE FROM embeddings WHERE {OF_MARK}
    AND ctid = ANY (ARRAY(SELECT ctid FROM embeddings WHERE {OF_MARK} LIMIT :limit))
""")  # noqa: S608
COLLECTED = text("DELETE FROM training_tasks WHERE task_id = :task_id")


def collect_stale_vectors(connection: Connection, limit: int) -> int | None:
    """Removes up to `limit` vectors of one source in a space that its bot does not read; None if there are none."""
    mark = connection.execute(MARKED).mappings().one_or_none()
    if mark is None:
        return None
    say_org(connection, mark["org_id"])
    removed = connection.execute(COLLECT, {**mark, "limit": limit}).rowcount
    if removed < limit:
        connection.execute(COLLECTED, {"task_id": mark["task_id"]})
    return removed


def tend_spaces(engine: Engine) -> None:
    """Looks after bots that are embedded anew, and removes a bounded number of vectors that nobody reads."""
    with engine.connect() as connection:
        bots = [BotKey(*row) for row in connection.execute(BUILDING)]
    for bot in bots:
        try:
            with of_org(engine, bot.org_id).begin() as connection:
                switch_if_whole(connection, bot)
        except DATABASE_DOWN as error:  # its sources are busy: the others need not wait
            log.warning("space_not_settled", bot_id=str(bot.bot_id), error=type(error).__name__)
    left, until = COLLECT_AT_ONCE, time.monotonic() + DUTY_S
    while left > 0 and time.monotonic() < until:
        with engine.begin() as connection:
            removed = collect_stale_vectors(connection, left)
        if removed is None:
            return
        left -= removed
