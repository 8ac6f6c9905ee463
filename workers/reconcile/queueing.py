"""Queues runs on nobody's call: for the reconciler, for refreshes and for the operator."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from chat_api.core.jobs import INSERT_RUNS, REMEMBER_SOURCES, UNPIN


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source that is to be trained."""

    org_id: UUID
    bot_id: UUID
    source_id: UUID
    source_type: str
    small: bool


IN_TRAINING = text("""
    SELECT source_id FROM training_jobs WHERE org_id = :org_id AND source_id = ANY (:source_ids)
    AND (status = 'waiting' OR created_at > :seen_at)
""")


def queue_runs(
    chat: Engine,
    wanted: Iterable[Wanted],
    *,
    force: bool = False,
    revive: bool = False,
    request_id: str | None = None,
    seen_at: datetime | None = None,
) -> dict[UUID, UUID]:
    """Bulk runs, org by org, each committed: source id → its run's id.

    A source under a tombstone gets none, unless `revive` lifts it: for an operator who names the source. With `seen_at`, on which the wish is founded, a source gets none either that has been queued since.
    """
    runs: dict[UUID, UUID] = {}
    for org_id, of_org in groupby(sorted(wanted, key=attrgetter("org_id")), key=attrgetter("org_id")):
        with chat.begin() as connection:
            run = {"priority": "bulk", "force": force, "request_id": request_id}
            runs |= _queue(connection, org_id, list(of_org), run, revive=revive, seen_at=seen_at)
    return runs


def _queue(
    connection: Connection,
    org_id: UUID,
    wanted: Sequence[Wanted],
    run: dict[str, Any],
    *,
    revive: bool,
    seen_at: datetime | None,
) -> dict[UUID, UUID]:
    known = {"org_id": org_id, **_arrays(wanted)}
    connection.execute(REMEMBER_SOURCES, {**known, "revive": revive})
    if seen_at:
        queued = set(connection.execute(IN_TRAINING, {**known, "seen_at": seen_at}).scalars())
        wanted = [source for source in wanted if source.source_id not in queued]
    values = {
        "org_id": org_id,
        **_arrays(wanted),
        "job_ids": [uuid4() for _ in wanted],
        "source_types": [source.source_type for source in wanted],
        "smalls": [source.small for source in wanted],
        **run,
    }
    connection.execute(UNPIN, values)
    return {row.source_id: row.job_id for row in connection.execute(INSERT_RUNS, values)}


def _arrays(wanted: Sequence[Wanted]) -> dict[str, list[UUID]]:
    return {
        "bot_ids": [source.bot_id for source in wanted],
        "source_ids": [source.source_id for source in wanted],
    }
