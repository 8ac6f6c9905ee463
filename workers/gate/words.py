"""The words of what a bot knows: its index, of the test questions' terms alone, kept from one source's questions to the next's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from chat_api.core.lexemes import terms_of
from chat_api.core.postings import Place, Postings, Segment, sieved
from chat_api.core.segments import (
    BEGINNING,
    CHUNKS,
    LIVE,
    MOST_CHUNKS,
    PAGE,
    SIZES,
    arrays_of,
    batches,
    ids_of,
    page_of,
    segments_of,
)
from workers.store.rows import Build


@dataclass(frozen=True, slots=True)
class _Known:
    """A bot's live generations, which nobody changes any more: how many chunks each has, and the index of them all."""

    sizes: dict[Place, int] = field(default_factory=dict)
    postings: Postings | None = None


_kept: dict[tuple[UUID, UUID, bytes], _Known] = {}
"""By bot and terms, what was asked of last in this process, and nothing else: a bot's sources are trained one after another."""


@dataclass(frozen=True, slots=True)
class Words:
    """The index of a bot's live generations, and of what they would be with a new one; above so many chunks there is none."""

    live: frozenset[Place]
    """This source's live generation, if it has one."""
    before: Postings | None = None
    after: Postings | None = None

    @classmethod
    def of(cls, build: Build, chat: Engine, questions: Sequence[str], *, most_chunks: int = MOST_CHUNKS) -> Self:
        """For the terms of these questions. Reads the new generation, and of the others what was not live the last time."""
        terms = np.unique(np.concatenate([np.zeros(0, np.uint32), *(terms_of(one)["term"] for one in questions)]))
        reader, new = _Reader(build, chat, terms), Place(build.task.source_id, build.generation)
        live = reader.live()
        mine = frozenset(place for place in live if place.source_id == new.source_id)
        kept_as = (*build.key[:2], terms.tobytes())
        known = _kept.get(kept_as, _Known())
        _kept.clear()
        fresh = reader.sizes([*(live - known.sizes.keys()), new], most_chunks)
        of_new = {new: fresh.pop(new)}
        sizes = {place: size for place, size in known.sizes.items() if place in live} | fresh
        if sum(sizes.values()) + of_new[new] > most_chunks:
            _kept[kept_as] = _Known(sizes)
            return cls(mine)
        unread = fresh if known.postings else sizes
        before = Postings.of(list(reader.segments(unread)), known.postings, known.sizes.keys() - live)
        _kept[kept_as] = _Known(sizes, before)
        return cls(mine, before, Postings.of(list(reader.segments(of_new)), before, mine))


@dataclass(frozen=True, slots=True)
class _Reader:
    build: Build
    chat: Engine
    terms: NDArray[np.uint32]

    @property
    def key(self) -> dict[str, Any]:
        return dict(zip(("org_id", "bot_id"), self.build.key, strict=False))

    def live(self) -> frozenset[Place]:
        """The bot's live generations."""
        with self.chat.begin() as connection:
            return frozenset(Place(*row) for row in connection.execute(LIVE, self.key))

    def sizes(self, places: Iterable[Place], most: int) -> dict[Place, int]:
        """How many chunks each place has; one that has more than `most` has one more."""
        values = {**self.key, **arrays_of(list(places)), "most": most + 1}
        with self.chat.begin() as connection:
            rows = connection.execute(SIZES, values).all()
        return {Place(row.source_id, row.generation): int(row.chunks) for row in rows}

    def segments(self, sizes: dict[Place, int]) -> Iterator[Segment]:
        """The places' chunks, a page in each transaction."""
        for places in batches(sizes):
            after = BEGINNING
            while True:
                with self.chat.begin() as connection:
                    rows = connection.execute(CHUNKS, {**self.key, **page_of(places, after)}).all()
                yield from (sieved(segment, self.terms) for segment in segments_of(rows))
                ids = [chunk_id for row in rows for chunk_id in ids_of(row)]
                if len(places) > 1 or len(ids) < PAGE:
                    break
                after = max(ids)
