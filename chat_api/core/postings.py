"""An inverted index of a bot's chunks as arrays: which chunks have a term, how often, and BM25 over them. Pure."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from chat_api.core.lexemes import RECORD, unpack

K1, B = 1.2, 0.75
"""BM25's usual constants: how soon further occurrences of a term count less, how much a long chunk's do."""
MAX_TERMS = 64
"""Terms of a question that are looked up, the rarest ones; more would be a pasted page."""
LEAST_WEIGHT = 3
"""What a question's terms weigh at least, in terms that one chunk alone has: "how are you" is no evidence."""
BLOCK = 1 << 20
MOST_COUNT = 255
"""What one record can count."""
MAX_CHUNKS = 1 << 24
"""What a chunk's number may have in a posting while it is sorted."""


@dataclass(frozen=True, slots=True)
class Place:
    """A generation of a source."""

    source_id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Chunks of a place: their ids (16 bytes each) and their packed terms, both in one order."""

    place: Place
    chunk_ids: bytes
    packed: bytes


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that has words of the question.

    `coverage` is its BM25 score over that of a chunk of average length which has every word once: 0 to about 1, the same
    scale for all bots and questions. Words that no chunk has count as the rarest.
    """

    place: Place
    chunk_id: UUID
    coverage: float


@dataclass(frozen=True, slots=True)
class Postings:
    """The index. Chunks have numbers; a term's postings lie together, by chunk."""

    places: tuple[Place, ...]
    place_of: NDArray[np.int32]
    """(chunks,) where in `places`."""
    chunk_ids: NDArray[np.void]
    """(chunks,) 16 bytes each."""
    norms: NDArray[np.float32]
    """(chunks,) BM25's weight of the chunk's length."""
    terms: NDArray[np.uint32]
    """(terms,) ascending, each once."""
    starts: NDArray[np.int64]
    """(terms + 1,) where each term's postings begin."""
    chunks: NDArray[np.uint32]
    """(postings,)"""
    counts: NDArray[np.uint8]
    """(postings,)"""

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        arrays = (self.place_of, self.chunk_ids, self.norms, self.terms, self.starts, self.chunks, self.counts)
        return sum(array.nbytes for array in arrays)

    def chunks_without(self, gone: Set[Place]) -> int:
        """How many chunks are not of these places."""
        counts = np.bincount(self.place_of, minlength=len(self.places))
        return sum(int(count) for place, count in zip(self.places, counts, strict=True) if place not in gone)

    @classmethod
    def of(cls, segments: Sequence[Segment], before: Self | None = None, gone: Set[Place] = frozenset()) -> Self:
        """The index of the segments, and of what `before` has of other places than those that are `gone`.

        Takes about 13 bytes a posting, and what is given, while it runs. ValueError for more than 16 million chunks.
        """
        places = list(dict.fromkeys(segment.place for segment in segments))
        numbers = {place: number for number, place in enumerate(places)}
        ids = [np.frombuffer(segment.chunk_ids, "V16") for segment in segments]
        place_of = [
            np.full(len(one), numbers[segment.place], np.int32) for one, segment in zip(ids, segments, strict=True)
        ]
        starts = accumulate(map(len, ids), initial=0)
        keys = [_keys(segment, start) for segment, start in zip(segments, starts, strict=False)]
        if before is not None:
            kept = ~np.isin(before.place_of, [n for n, place in enumerate(before.places) if place in gone])
            keys.append(before._keys_of(kept, sum(map(len, ids))))
            ids.append(before.chunk_ids[kept])
            place_of.append(before.place_of[kept] + np.int32(len(places)))
            places += before.places
        if sum(map(len, ids)) > MAX_CHUNKS:
            raise ValueError("too many chunks for one index")
        of_place = np.concatenate([np.zeros(0, np.int32), *place_of])
        return cls._sorted(*_used(places, of_place), np.concatenate([np.zeros(0, "V16"), *ids]), _joined(keys))

    @classmethod
    def _sorted(
        cls, places: tuple[Place, ...], place_of: NDArray[np.int32], ids: NDArray[np.void], keys: NDArray[np.uint64]
    ) -> Self:
        keys.sort()
        first, terms = _first(keys)
        chunks, counts = np.empty(len(keys), np.uint32), np.empty(len(keys), np.uint8)
        for start in range(0, len(keys), BLOCK):  # in blocks, so that no further copy of all is made
            block = keys[start : start + BLOCK]
            chunks[start : start + BLOCK] = (block >> np.uint64(8)) & np.uint64(0xFFFFFF)
            counts[start : start + BLOCK] = block & np.uint64(0xFF)
        lengths = np.bincount(chunks, counts, len(ids))
        mean = max(1.0, float(lengths.mean())) if len(ids) else 1.0
        norms = (K1 * (1 - B + B * lengths / mean)).astype(np.float32)
        return cls(places, place_of, ids, norms, terms, first, chunks, counts)

    def _keys_of(self, kept: NDArray[np.bool_], offset: int) -> NDArray[np.uint64]:
        """The postings of the chunks that are kept, as keys; the chunks' numbers begin at `offset`."""
        numbers = (np.cumsum(kept) - 1 + offset).astype(np.uint64)
        of_kept = kept[self.chunks]
        terms = np.repeat(self.terms, np.diff(self.starts))[of_kept]
        return _key(terms, numbers[self.chunks[of_kept]], self.counts[of_kept])

    def find(self, terms: NDArray[np.uint32], most: int) -> list[Hit]:
        """The chunks that have the most of what the terms weigh, at most so many, best first."""
        if not len(self.terms) or not len(terms):
            return []
        scores, ideal = self._scores(terms)
        found = np.flatnonzero(scores)
        if len(found) > most:
            found = found[np.argpartition(-scores[found], most - 1)[:most]]
        found = found[np.lexsort((found, -scores[found]))]
        return [
            Hit(self.places[self.place_of[at]], UUID(bytes=self.chunk_ids[at].tobytes()), float(scores[at]) / ideal)
            for at in found
        ]

    def _scores(self, terms: NDArray[np.uint32]) -> tuple[NDArray[np.float32], float]:
        """Each chunk's BM25 score, and what `coverage` is measured by."""
        at = np.minimum(np.searchsorted(self.terms, terms), len(self.terms) - 1)
        frequency = np.where(self.terms[at] == terms, self.starts[at + 1] - self.starts[at], 0)
        weights = np.log1p((len(self.chunk_ids) - frequency + 0.5) / (frequency + 0.5))
        scores = np.zeros(len(self.chunk_ids), np.float32)
        for term in np.argsort(frequency, kind="stable")[:MAX_TERMS]:
            if frequency[term]:
                postings = slice(self.starts[at[term]], self.starts[at[term] + 1])
                chunks, counts = self.chunks[postings], self.counts[postings].astype(np.float32)
                scores[chunks] += np.float32(weights[term] * (K1 + 1)) * counts / (counts + self.norms[chunks])
        least = LEAST_WEIGHT * np.log1p((len(self.chunk_ids) - 0.5) / 1.5)
        return scores, float(max(weights.sum(), least))


def sieved(segment: Segment, terms: NDArray[np.uint32]) -> Segment:
    """The segment with nothing but these terms: an index of it finds for them what that of the whole one would.

    What the chunks' other words add to their lengths stands under one term, which stands for no word.
    """
    records = unpack(segment.packed)
    heads = records["count"] == 0
    wanted = heads | np.isin(records["term"], terms)
    of_chunk = np.cumsum(heads) - 1
    others = np.bincount(of_chunk[~wanted], records["count"][~wanted], int(heads.sum())).astype(np.int64)
    fillers = -(-others // MOST_COUNT)
    filler = np.zeros(int(fillers.sum()), RECORD)
    filler["count"] = MOST_COUNT
    last = np.cumsum(fillers)[fillers > 0] - 1
    filler["count"][last] = (others[fillers > 0] - 1) % MOST_COUNT + 1
    kept = np.concatenate([records[wanted], filler])
    numbers = np.concatenate([of_chunk[wanted], np.repeat(np.arange(len(others)), fillers)])
    return Segment(segment.place, segment.chunk_ids, kept[np.argsort(numbers, kind="stable")].tobytes())


def _keys(segment: Segment, offset: int) -> NDArray[np.uint64]:
    """The segment's postings as keys: sorting them sorts by term, then by chunk. The chunks' numbers begin at `offset`."""
    records = unpack(segment.packed)
    heads = records["count"] == 0
    numbers = (np.cumsum(heads) - 1 + offset).astype(np.uint64)
    postings = ~heads
    return _key(records["term"][postings], numbers[postings], records["count"][postings])


def _key(terms: NDArray[np.uint32], chunks: NDArray[np.uint64], counts: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return (terms.astype(np.uint64) << np.uint64(32)) | (chunks << np.uint64(8)) | counts


def _joined(keys: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """All keys in one array; the list is emptied on the way."""
    joined = np.empty(sum(map(len, keys)), np.uint64)
    end = len(joined)
    while keys:
        part = keys.pop()
        joined[end - len(part) : end] = part
        end -= len(part)
    return joined


def _first(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Where each term's keys begin, with the end of all; and the terms."""
    found = [np.zeros(min(1, len(keys)), np.int64)]
    for start in range(1, len(keys), BLOCK):
        terms = keys[start - 1 : start + BLOCK] >> np.uint64(32)
        found.append(np.flatnonzero(terms[1:] != terms[:-1]) + start)
    first = np.concatenate(found)
    return np.append(first, len(keys)), (keys[first] >> np.uint64(32)).astype(np.uint32)


def _used(places: Sequence[Place], place_of: NDArray[np.int32]) -> tuple[tuple[Place, ...], NDArray[np.int32]]:
    """The places that have chunks, and the chunks' places among them."""
    used, again = np.unique(place_of, return_inverse=True)
    return tuple(places[number] for number in used), again.astype(np.int32)
