"""The ledger of a source: every URL that a generation met, and what came of it."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.core.errors import UnknownResource
from chat_api.paging import cursor_at, place_of

BIGGEST = 2**31 - 1
UNPLACED = BIGGEST
"""Stands for the place of what was not read: after all that was."""
PLACE = TypeAdapter(
    tuple[
        Annotated[int, Field(ge=0, le=BIGGEST)],
        Annotated[int, Field(ge=0, le=UNPLACED)],
        Annotated[str, Field(pattern=r"^[^\x00]*$")],
    ]
)


class UnknownGeneration(UnknownResource):
    """This source has no generation of this number."""

    code = "unknown_generation"


class LedgerPage(BaseModel):
    """What came of one URL. `chunks` above zero beside an error: the text read before goes on answering."""

    url: str
    outcome: str
    message: str | None
    http_status: int | None
    fetched_at: datetime | None
    content_sha256: str | None
    chunks: int


class Ledger(BaseModel):
    """Pages in the order in which they were read, then the addresses that were not."""

    generation: int | None
    pages: list[LedgerPage]
    next_cursor: str | None


CHOOSE = text("""
    SELECT generation FROM generations JOIN sources USING (org_id, bot_id, source_id)
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND state <> 'discarded'
      AND (CAST(:generation AS bigint) IS NULL OR generation = :generation)
    ORDER BY generation = live_generation DESC NULLS LAST, generation DESC LIMIT 1
""")
PAGES = text(f"""
    SELECT url, outcome, message, http_status, fetched_at, encode(content_sha256, 'hex') AS content_sha256, chunks,
           coalesce(position, {UNPLACED}) AS place
    FROM pages
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = :generation
      AND (coalesce(position, {UNPLACED}), url) > (:place, :url)
    ORDER BY coalesce(position, {UNPLACED}), url LIMIT :limit
""")  # noqa: S608  # a number of this module's own


async def read_ledger(
    chat: AsyncSession, source: dict[str, UUID], generation: int | None, cursor: str | None, limit: int
) -> Ledger:
    """A page of the ledger of one generation: the one asked for, else the live one, or without one the newest.

    `source` is org_id, bot_id, source_id. A cursor stays with its generation, also when another goes live. Raises
    UnknownGeneration, also for a discarded one; InvalidRequest.
    """
    place, url = -1, ""
    if cursor:
        generation, place, url = place_of(cursor, PLACE)
    chosen = (await chat.execute(CHOOSE, {**source, "generation": generation})).scalar_one_or_none()
    if chosen is None:
        if generation is None:
            return Ledger(generation=None, pages=[], next_cursor=None)
        raise UnknownGeneration
    values: dict[str, Any] = {**source, "generation": chosen, "place": place, "url": url, "limit": limit + 1}
    rows = (await chat.execute(PAGES, values)).all()
    pages = [LedgerPage.model_validate(row, from_attributes=True) for row in rows[:limit]]
    more = cursor_at(chosen, rows[limit - 1].place, rows[limit - 1].url) if len(rows) > limit else None
    return Ledger(generation=chosen, pages=pages, next_cursor=more)
