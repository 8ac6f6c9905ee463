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
    values = {
        "org_id": org_id,
        "bot_id": bot_id,
        "source_ids": [one.passage.source_id for one, _ in places],
        "generations": [one.generation for one, _ in places],
        "document_ids": [one.passage.document_id for one, _ in places],
        "ordinals": [one.ordinal + step for one, step in places],
    }
    [rows] = await engines.trip(org_id, (NEIGHBOURS, values))
    beside = {_place(row): row for row in rows}
    passages = {one.passage.chunk_id: one.passage for one in taken}
    used = set(passages)
    for one, step in places:
        own, passage = one.passage, passages[one.passage.chunk_id]
        row = beside.get((own.source_id, own.document_id, one.ordinal + step))
        if row and row.chunk_id not in used and row.tokens <= room and _related(row.heading, own.heading):
            used.add(row.chunk_id)
            room -= row.tokens
            whole = joined(passage.text, row.text) if step > 0 else joined(row.text, passage.text)
            passages[own.chunk_id] = replace(passage, text=whole, own=own.text)
    return list(passages.values())


def _place(row: Any) -> tuple[UUID, UUID, int]:
    return row.source_id, row.document_id, row.ordinal


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
