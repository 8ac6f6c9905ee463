"""Gives the best passages the chunks before and behind them in their section, as far as there is room for more tokens."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any
from uuid import UUID

from sqlalchemy import text

from chat_api.chat.choose import SEPARATOR
from chat_api.chat.retrieve import Found, Passage
from chat_api.core.database import AsyncEngines

WIDENED = 2
"""Passages that get their neighbours: what an answer is mostly made from. More would cost tokens for little."""
LEAST_OVERLAP, MOST_OVERLAP = 16, 600
"""Characters that one chunk may begin with because the one before ends with them."""

NEIGHBOURS = text("""
    SELECT chunk.chunk_id, chunk.source_id, chunk.document_id, chunk.ordinal, chunk.heading, chunk.text, chunk.tokens
    FROM unnest(CAST(:source_ids AS uuid[]), CAST(:generations AS int[]), CAST(:document_ids AS uuid[]),
                CAST(:ordinals AS int[])) AS beside (source_id, generation, document_id, ordinal)
    JOIN chunks AS chunk ON chunk.org_id = :org_id AND chunk.bot_id = :bot_id
        AND chunk.source_id = beside.source_id AND chunk.generation = beside.generation
        AND chunk.document_id = beside.document_id AND chunk.ordinal = beside.ordinal
""")


async def widened(
    engines: AsyncEngines, org_id: UUID, bot_id: UUID, taken: Sequence[Found], tokens: int
) -> list[Passage]:
    """The passages in their order, the first ones with their neighbours; no more than `tokens` in all."""
    room = tokens - sum(one.tokens for one in taken)
    best = taken[:WIDENED]
    if not best or room <= 0:
        return [one.passage for one in taken]
    places = list(product(best, (1, -1)))
    beside = await _beside(engines, org_id, bot_id, places)
    passages = {one.passage.chunk_id: one.passage for one in taken}
    used = set(passages)
    for one, step in places:
        row = beside.get((one.passage.source_id, one.passage.document_id, one.ordinal + step))
        if row and row.chunk_id not in used and _fits(row, one, room):
            used.add(row.chunk_id)
            room -= row.tokens
            passages[one.passage.chunk_id] = _with(passages[one.passage.chunk_id], row, one.passage, behind=step > 0)
    return list(passages.values())


async def _beside(
    engines: AsyncEngines, org_id: UUID, bot_id: UUID, places: Sequence[tuple[Found, int]]
) -> dict[tuple[UUID, UUID, int], Any]:
    """By source, document and ordinal the chunks that stand so many places from these."""
    wanted = {(one.passage.source_id, one.passage.document_id, one.ordinal + step): one for one, step in places}
    values = {
        "org_id": org_id,
        "bot_id": bot_id,
        "source_ids": [source_id for source_id, _, _ in wanted],
        "generations": [one.generation for one in wanted.values()],
        "document_ids": [document_id for _, document_id, _ in wanted],
        "ordinals": [ordinal for _, _, ordinal in wanted],
    }
    [rows] = await engines.trip(org_id, (NEIGHBOURS, values))
    return {(row.source_id, row.document_id, row.ordinal): row for row in rows}


def _with(passage: Passage, row: Any, own: Passage, *, behind: bool) -> Passage:
    """The passage as widened so far, with one more chunk; `own` is what it was itself."""
    whole = joined(passage.text, row.text) if behind else joined(row.text, passage.text)
    return replace(passage, text=whole, own=own.text)


def _fits(row: Any, beside: Found, room: int) -> bool:
    return row.tokens <= room and _related(row.heading, beside.passage.heading)


def _related(heading: str, other: str) -> bool:
    """Whether two chunks are of one section, or one's section is within the other's."""
    one, two = f"{heading}{SEPARATOR}", f"{other}{SEPARATOR}"
    return one.startswith(two) or two.startswith(one) or not (heading and other)


def joined(before: str, behind: str) -> str:
    """Two chunks that follow each other as one text: what the second repeats of the first stands there once."""
    for size in range(min(len(before), len(behind), MOST_OVERLAP), LEAST_OVERLAP - 1, -1):
        if before.endswith(behind[:size]):
            return before + behind[size:]
    return f"{before}\n\n{behind}"
