"""Ends runs at an operator's word, as the API does at an owner's, and tells the dashboard how its rows stand then."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TextIO
from uuid import UUID

from sqlalchemy import Engine, text

from chat_api.core.database import DATABASE_DOWN, Engines, is_held
from chat_api.core.errors import Cancelled
from chat_api.core.jobs import END_RUNS_OF_SOURCE
from workers.commands.terminal import Bar
from workers.dashboard import TOLD_AT_ONCE, project_status

AT_ONCE = 500
NAMED = """
    (source_id = ANY (CAST(:source_ids AS uuid[])) OR bot_id = CAST(:bot_id AS uuid) OR org_id = CAST(:org_id AS uuid))
"""
KNOWN = text(f"SELECT EXISTS (SELECT FROM sources WHERE {NAMED})")  # noqa: S608  # the condition is this module's own
GOING_ON = text(f"""
    SELECT DISTINCT org_id, source_id FROM training_jobs
    WHERE status IN ('waiting', 'running') AND {NAMED} ORDER BY org_id, source_id
""")  # noqa: S608
HOLD_SOURCES = text("""
    SELECT FROM sources WHERE org_id = :org_id AND source_id = ANY (:source_ids) ORDER BY source_id, bot_id FOR UPDATE
""")
SAY_WHY = text("""
    UPDATE training_jobs SET error_code = :code, error_message = :message, error_retryable = false
    WHERE org_id = :org_id AND job_id = ANY (:job_ids)
""")


@dataclass(frozen=True, slots=True)
class Named:
    """Whose runs: of these sources, of a bot, or of an org."""

    source_ids: Sequence[UUID] | None = None
    bot_id: UUID | None = None
    org_id: UUID | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of `NAMED`."""
        source_ids = list(self.source_ids) if self.source_ids else None
        return {"source_ids": source_ids, "bot_id": self.bot_id, "org_id": self.org_id}


def is_known(chat: Engine, named: Named) -> bool:
    """Whether anything of it was ever queued."""
    with chat.connect() as connection:
        return bool(connection.execute(KNOWN, named.values).scalar())


@dataclass(slots=True)
class Cancellation:
    """How many runs were ended, and how many sources were left because other work held them."""

    runs: int = 0
    held: int = 0


def cancel(engines: Engines, named: Named, output: TextIO) -> Cancellation:
    """Ends the runs that wait or are under way, some hundred sources at a time. What answers goes on answering.

    A worker that has one in hand finds its fence gone and writes nothing more. Nothing trains the source again by
    itself until it is edited or queued.
    """
    with engines.chat.connect() as connection:
        going_on = connection.execute(GOING_ON, named.values).all()
    done = Cancellation()
    if not going_on:
        return done
    bar = Bar("sources", len(going_on), output)
    for org_id, rows in groupby(going_on, key=lambda row: row.org_id):
        source_ids = [row.source_id for row in rows]
        for first in range(0, len(source_ids), AT_ONCE):
            some = source_ids[first : first + AT_ONCE]
            try:
                done.runs += _cancel(engines, org_id, some)
            except DATABASE_DOWN as error:
                if not is_held(error):
                    raise
                done.held += len(some)
            bar.advance(len(some))
    bar.end()
    return done


def _cancel(engines: Engines, org_id: UUID, source_ids: list[UUID]) -> int:
    values = {"org_id": org_id, "source_ids": source_ids}
    with engines.chat.begin() as connection:
        connection.execute(HOLD_SOURCES, values)
        job_ids = list(connection.execute(END_RUNS_OF_SOURCE, values).scalars())
        why = {"code": Cancelled.code, "message": Cancelled().message}
        connection.execute(SAY_WHY, {"org_id": org_id, "job_ids": job_ids, **why})
    with suppress(*DATABASE_DOWN):  # the sweeper tells it then
        while project_status(engines.chat, engines.dashboard, job_ids) == TOLD_AT_ONCE:
            pass
    return len(job_ids)
