"""The ledger of a source's run that failed: written where the run had built nothing, kept while it is the newest word.

Its generation is `discarded`, and answers nobody; what a collector leaves of it is the ledger alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, text

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.keys import OF_GENERATION
from workers.documents import Reading
from workers.store.generation import open_generations, write_readings
from workers.store.rows import Part
from workers.tasks.life import Task

NOTHING = np.zeros((0, 0), np.float32)


class Failure(NamedTuple):
    """A run that failed: the version of the source that it was of, and the one page or file that it met."""

    task: Task
    version: str
    met: Reading


def write_failures(connection: Connection, failures: Sequence[Failure], space: EmbeddingSpace) -> None:
    """Opens a generation for each that has the ledger's row alone; none where the fence or the source is gone.

    The end of the run discards it. In the caller's transaction; the bots are known.
    """
    builds = open_generations(connection, [(failure.task, failure.version) for failure in failures], space)
    parts: list[Part] = [
        (builds[failure.task.task_id], [failure.met], NOTHING) for failure in failures if failure.task.task_id in builds
    ]
    if parts:
        write_readings(connection, parts)


LEDGER, NO_LEDGER = "ledger", "no_ledger"
"""What `held_by` says of a discarded generation that has its ledger still, and of one that has had it long enough."""
# The newest run that was not cancelled failed, and this is what it has met.
NEWEST_WORD = """
    EXISTS (
        SELECT FROM training_jobs AS job JOIN sources AS source USING (org_id, bot_id, source_id)
        WHERE job.job_id = old.job_id AND job.status IN ('failed', 'quarantined') AND job.generation = old.generation
          AND source.deleted_at IS NULL
          AND NOT EXISTS (SELECT FROM training_jobs AS newer
                          WHERE newer.org_id = job.org_id AND newer.bot_id = job.bot_id
                            AND newer.source_id = job.source_id AND newer.created_at > job.created_at
                            AND newer.status IN ('succeeded', 'failed', 'quarantined')))
"""
KEEP = text(f"""
    UPDATE generations AS old SET held_by = '{LEDGER}', crawl = NULL
    WHERE {OF_GENERATION} AND held_by IS DISTINCT FROM '{NO_LEDGER}' AND EXISTS (SELECT FROM pages WHERE {OF_GENERATION})
      AND {NEWEST_WORD}
""")  # noqa: S608  # the parts are our own, here and below
LET_GO = text(f"""
    UPDATE generations AS old SET held_by = '{NO_LEDGER}' WHERE old.ctid = ANY (ARRAY(
        SELECT ctid FROM generations AS old WHERE state = 'discarded' AND held_by = '{LEDGER}'
          AND (created_at < now() - make_interval(days => :days) OR NOT {NEWEST_WORD}) LIMIT :limit))
""")  # noqa: S608


def keep_ledger(connection: Connection, key: Mapping[str, Any]) -> bool:
    """Marks a discarded generation whose ledger is still to be seen, in a transaction of its org; whether it is."""
    return bool(connection.execute(KEEP, key).rowcount)


def let_ledgers_go(connection: Connection, days: int, limit: int) -> int:
    """Hands ledgers to the collector that are no newest word any more, or older than so many days; how many."""
    return connection.execute(LET_GO, {"days": days, "limit": limit}).rowcount
