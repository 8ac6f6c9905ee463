"""The generations of a source: which there are, back to the one before, and letting one go live that was held."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.core.database import TIME_LIMITS
from chat_api.core.keys import OF_SOURCE
from chat_api.core.models.dashboard import version_of_row
from chat_api.core.refusals import Conflict
from chat_api.core.releases import HOLD_BOT, HOLD_SOURCE, LOOK, MOVE, POINT, SUCCEED, UNREADABLE
from chat_api.paging import cursor_at, place_of
from chat_api.training.cancel import end_runs
from chat_api.training.pages import MAX_GENERATION, UnknownGeneration

PLACE = TypeAdapter(tuple[Annotated[int, Field(ge=0, le=MAX_GENERATION)]])


class NothingToRollBack(Conflict):
    """There is no earlier generation to go back to."""

    code = "nothing_to_roll_back"


class NotParked(Conflict):
    """This generation is not held back, so there is nothing to release."""

    code = "not_parked"


class OtherSpace(Conflict):
    """This generation was embedded with another model than the bot reads now. Train the source again."""

    code = "other_embedding_space"


class Generation(BaseModel):
    """One complete build of a source. `diff` and `held_by` are of those that were held back."""

    generation: int
    state: str
    created_at: datetime
    switched_at: datetime | None
    documents: int
    chunks: int
    receipt: dict[str, Any] | None
    diff: dict[str, Any] | None
    held_by: str | None


class Generations(BaseModel):
    """What answers now, what answered before, and what is held back; the newest first."""

    generations: list[Generation]
    next_cursor: str | None


GENERATIONS = text(f"""
    SELECT generation, state, created_at, switched_at, receipt, diff, held_by,
           (SELECT count(*) FROM documents WHERE {OF_SOURCE} AND documents.generation = shown.generation) AS documents,
           (SELECT count(*) FROM chunks WHERE {OF_SOURCE} AND chunks.generation = shown.generation) AS chunks
    FROM generations AS shown
    WHERE {OF_SOURCE} AND state IN ('live', 'kept', 'parked') AND generation < :before
    ORDER BY generation DESC LIMIT :limit
""")  # noqa: S608  # the condition is our own
KEPT = text(f"SELECT max(generation) FROM generations WHERE {OF_SOURCE} AND state = 'kept'")  # noqa: S608
ROW_VERSION = text(f"SELECT source_version FROM generations WHERE {OF_SOURCE} AND generation = :live")  # noqa: S608


async def list_generations(
    chat: AsyncSession, source: dict[str, UUID], cursor: str | None = None, limit: int = 100
) -> Generations:
    """A page of the generations that can be read or released; `source` is org_id, bot_id, source_id.

    Raises InvalidRequest for a cursor that is not ours.
    """
    [before] = place_of(cursor, PLACE) if cursor else [MAX_GENERATION]
    rows = (await chat.execute(GENERATIONS, {**source, "before": before, "limit": limit + 1})).all()
    shown = [Generation.model_validate(row, from_attributes=True) for row in rows[:limit]]
    more = cursor_at(shown[-1].generation) if len(rows) > limit else None
    return Generations(generations=shown, next_cursor=more)


async def roll_back(chat: AsyncSession, source: dict[str, UUID]) -> list[UUID]:
    """Makes the kept generation answer again, and the live one the kept one; the ids of the runs that this cancelled.

    The version rolled back from is pinned: only an explicit queue call or an edit trains the source again. Raises
    NothingToRollBack, OtherSpace.
    """
    live = await _lock(chat, source)
    kept = (await chat.execute(KEPT, source)).scalar_one()
    if live is None or kept is None:
        raise NothingToRollBack
    ended = await end_runs(chat, source["org_id"], source["source_id"])
    version: str = (await chat.execute(ROW_VERSION, {**source, "live": live})).scalar_one()
    await _make_live(chat, source, kept, version_of_row(version))
    await chat.commit()
    return ended


async def release(chat: AsyncSession, source: dict[str, UUID], generation: int) -> list[UUID]:
    """Makes a parked generation live and the live one the kept one; the id of the run that thereby succeeded,
    if one has. Raises UnknownGeneration, NotParked, OtherSpace.
    """
    await _lock(chat, source)
    found = (await chat.execute(LOOK, {**source, "generation": generation})).one_or_none()
    if found is None:
        raise UnknownGeneration
    if found.state != "parked":
        raise NotParked
    succeeded = list((await chat.execute(SUCCEED, {**source, "job_id": found.job_id})).scalars())
    await _make_live(chat, source, generation, None)
    await chat.commit()
    return succeeded


async def _lock(chat: AsyncSession, source: dict[str, UUID]) -> int | None:
    """Holds the source's row against switches; its live generation."""
    await chat.execute(text(TIME_LIMITS))
    live: int | None = (await chat.execute(HOLD_SOURCE, source)).scalar_one_or_none()
    return live


async def _make_live(chat: AsyncSession, source: dict[str, UUID], generation: int, pinned_version: str | None) -> None:
    await chat.execute(MOVE, {**source, "generation": generation})
    await chat.execute(POINT, {**source, "generation": generation, "pinned_version": pinned_version})
    space_id = (await chat.execute(HOLD_BOT, source)).scalar_one_or_none()
    if (await chat.execute(UNREADABLE, {**source, "generation": generation, "space_id": space_id})).scalar_one():
        raise OtherSpace
