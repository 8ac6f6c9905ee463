"""Deletes what was derived from a source, at once and for good, also while it is in training."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal
from chat_api.core.database import TIME_LIMITS
from chat_api.core.jobs import REMEMBER_SOURCES
from chat_api.core.keys import OF_GENERATION, OF_SOURCE
from chat_api.core.standing import Standing
from chat_api.training.cancel import end_runs
from chat_api.training.known import bot_of_source
from chat_api.training.telling import tell


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many documents and chunks answered until now."""

    documents: int
    chunks: int


KNOWN_HERE = text("SELECT bot_id FROM sources WHERE org_id = :org_id AND source_id = :source_id ORDER BY bot_id")
BURY = text(f"""
    UPDATE sources SET deleted_at = now(), live_generation = NULL, removal_held_at = NULL FROM
        (SELECT live_generation FROM sources WHERE {OF_SOURCE} FOR UPDATE) AS before
    WHERE {OF_SOURCE} RETURNING before.live_generation
""")  # noqa: S608  # the condition is our own
COUNT = text(f"""
    SELECT (SELECT count(*) FROM documents WHERE {OF_GENERATION}),
           (SELECT count(*) FROM chunks WHERE {OF_GENERATION})
""")  # noqa: S608
DISCARD = text(f"UPDATE generations SET state = 'discarded' WHERE {OF_SOURCE} AND state <> 'discarded'")  # noqa: S608
NEXT_VERSION = text("SELECT nextval('status_versions')")
TELL_LATER = text("""
    UPDATE training_jobs SET status_version = :version WHERE job_id =
        (SELECT job_id FROM training_jobs WHERE org_id = :org_id AND source_id = :source_id
         ORDER BY created_at DESC LIMIT 1)
""")
"""Has the sweeper tell the dashboard, should it not hear it now."""


async def delete_source(chat: AsyncSession, dashboard: AsyncSession, principal: Principal, source_id: UUID) -> Deleted:
    """Buries the source under a tombstone. Raises UnknownSource when neither database knows it, ForbiddenBot.

    Whoever may delete it where it is now also deletes what is left of it under the bots it was moved from. From the
    commit on no search finds it; its rows are left to the collector.
    """
    await chat.execute(text(TIME_LIMITS))
    bot_id = await bot_of_source(chat, dashboard, principal, source_id)
    bot_ids = await _places(chat, principal.org_id, source_id, bot_id)
    keys = [{"org_id": principal.org_id, "bot_id": bot_id, "source_id": source_id} for bot_id in bot_ids]
    live = [(await chat.execute(BURY, key)).scalar_one_or_none() for key in keys]
    await end_runs(chat, principal.org_id, source_id)
    documents = chunks = 0
    for key, generation in zip(keys, live, strict=True):
        if generation is not None:
            counts = (await chat.execute(COUNT, {**key, "generation": generation})).one()
            documents, chunks = documents + counts[0], chunks + counts[1]
        await chat.execute(DISCARD, key)
    version = (await chat.execute(NEXT_VERSION)).scalar_one()
    await chat.execute(TELL_LATER, {"org_id": principal.org_id, "source_id": source_id, "version": version})
    await chat.commit()
    await tell(dashboard, [Standing(source_id, principal.org_id, version, "pending")])
    return Deleted(documents, chunks)


async def _places(chat: AsyncSession, org_id: UUID, source_id: UUID, bot_id: UUID) -> list[UUID]:
    """The bots under which the source is held: its own, which is made known if it is none, and those it was moved from."""
    values = {"org_id": org_id, "source_id": source_id}
    known = list((await chat.execute(KNOWN_HERE, values)).scalars())
    if known:
        return known
    await chat.execute(REMEMBER_SOURCES, {**values, "bot_ids": [bot_id], "source_ids": [source_id], "revive": False})
    return [bot_id]
