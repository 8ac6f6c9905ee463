"""Gives the best passages what stands around them, as far as there is room for more tokens.

That is the chunks before and behind them in their section, and how the section begins that theirs is a part of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self
from uuid import UUID

from sqlalchemy import text

from chat_api.chat.choose import SEPARATOR
from chat_api.chat.retrieve import Found, Passage
from chat_api.core.database import AsyncEngines

WIDENED = 2
"""Passages that get their neighbours: what an answer is mostly made from. More would cost tokens for little."""
WITHIN = 50
"""Chunks before a passage among which its parent section's beginning is looked for."""
GAP = "\n\n[…]\n\n"
"""What stands between two chunks that do not follow each other."""
LEAST_OVERLAP, MOST_OVERLAP = 16, 600
"""Characters that one chunk may begin with because the one before ends with them."""

NEIGHBOURS = text("""
    SELECT chunk.chunk_id, chunk.source_id, chunk.document_id, chunk.ordinal, chunk.heading, chunk.text, chunk.tokens
    FROM unnest(CAST(:source_ids AS uuid[]), CAST(:generations AS int[]), CAST(:document_ids AS uuid[]),
                CAST(:ordinals AS int[])) AS beside (source_id, generation, document_id, ordinal)
    JOIN chunks AS chunk ON chunk.org_id = :org_id AND chunk.bot_id = :bot_id
        AND chunk.source_id = beside.source_id AND chunk.generation = beside.generation
        AND chunk.document_id = beside.document_id AND chunk.ordinal = beside.ordinal
    UNION
    SELECT beginning.* FROM unnest(
        CAST(:source_ids AS uuid[]), CAST(:generations AS int[]), CAST(:document_ids AS uuid[]),
        CAST(:ordinals AS int[]), CAST(:parents AS text[])
    ) AS part (source_id, generation, document_id, ordinal, parent)
    CROSS JOIN LATERAL (
        SELECT chunk_id, source_id, document_id, ordinal, heading, text, tokens FROM chunks
        WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = part.source_id AND generation = part.generation
            AND document_id = part.document_id AND ordinal BETWEEN part.ordinal - :within AND part.ordinal
            AND (heading = part.parent OR starts_with(heading, part.parent || :separator))
        ORDER BY ordinal LIMIT 1
    ) AS beginning WHERE part.parent <> '' AND heading = part.parent
""")


@dataclass(slots=True)
class _Room:
    """How many tokens more an answer may be made from, and the chunks that it is made from already."""

    tokens: int
    used: set[UUID]

    @classmethod
    def beside(cls, taken: Sequence[Found], tokens: int) -> Self:
        """What these leave of so many tokens."""
        return cls(tokens - sum(one.tokens for one in taken), {one.passage.chunk_id for one in taken})

    def take(self, row: Any) -> bool:
        """Whether there was room for the chunk, which nobody else has then."""
        if row.chunk_id in self.used or row.tokens > self.tokens:
            return False
        self.used.add(row.chunk_id)
        self.tokens -= row.tokens
        return True


async def widened(
    engines: AsyncEngines, org_id: UUID, bot_id: UUID, taken: Sequence[Found], tokens: int
) -> list[Passage]:
    """The passages in their order, the first ones with what stands around them; no more than `tokens` in all."""
    room = _Room.beside(taken, tokens)
    best = taken[:WIDENED]
    if not best or room.tokens <= 0:
        return [one.passage for one in taken]
    places = list(product(best, (1, -1)))
    around = await _around(engines, org_id, bot_id, places)
    beside = {(row.source_id, row.document_id, row.ordinal): row for row in around}
    passages = {one.passage.chunk_id: one.passage for one in taken}
    begins_at = {one.passage.chunk_id: one.ordinal for one in best}
    for one, step in places:
        row = beside.get((one.passage.source_id, one.passage.document_id, one.ordinal + step))
        if row and _related(row.heading, one.passage.heading) and room.take(row):
            passages[one.passage.chunk_id] = _with(passages[one.passage.chunk_id], row, one.passage, behind=step > 0)
            begins_at[one.passage.chunk_id] += min(step, 0)
    for one in best:
        row = _beginning(around, one)
        if row and room.take(row):
            text = _begun(row, passages[one.passage.chunk_id].text, begins_at[one.passage.chunk_id])
            passages[one.passage.chunk_id] = replace(one.passage, text=text, own=one.passage.text)
    return list(passages.values())


async def _around(
    engines: AsyncEngines, org_id: UUID, bot_id: UUID, places: Sequence[tuple[Found, int]]
) -> Sequence[Any]:
    """The chunks that stand so many places from these, and those with which their parent sections begin."""
    values = {
        "org_id": org_id,
        "bot_id": bot_id,
        "source_ids": [one.passage.source_id for one, _ in places],
        "generations": [one.generation for one, _ in places],
        "document_ids": [one.passage.document_id for one, _ in places],
        "ordinals": [one.ordinal + step for one, step in places],
        "parents": [_parent(one.passage.heading) for one, _ in places],
        "within": WITHIN,
        "separator": SEPARATOR,
    }
    [rows] = await engines.trip(org_id, (NEIGHBOURS, values))
    return rows


def _parent(heading: str) -> str:
    """The heading path of the section that this one's is a part of; '' for that of none."""
    return heading.rpartition(SEPARATOR)[0]


def _beginning(around: Sequence[Any], one: Found) -> Any | None:
    """The chunk with which the section begins that the passage's is a part of."""
    key = (one.passage.source_id, one.passage.document_id, _parent(one.passage.heading))
    before = [
        row
        for row in around
        if row.heading and row.ordinal < one.ordinal and (row.source_id, row.document_id, row.heading) == key
    ]
    return min(before, key=lambda row: row.ordinal, default=None)


def _begun(row: Any, behind: str, ordinal: int) -> str:
    """The chunk's text, and what is behind it and begins with the chunk in that place."""
    return joined(row.text, behind) if row.ordinal == ordinal - 1 else row.text + GAP + behind


def _with(passage: Passage, row: Any, own: Passage, *, behind: bool) -> Passage:
    """The passage as widened so far, with one more chunk; `own` is what it was itself."""
    whole = joined(passage.text, row.text) if behind else joined(row.text, passage.text)
    return replace(passage, text=whole, own=own.text)


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
