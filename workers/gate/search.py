"""Searches what a bot knows twice, by vectors and by words as the chat does: with a source's live generation, and its new."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from sqlalchemy import Engine, Row, text

from chat_api.core.lexemes import terms_of
from chat_api.core.postings import Hit, Place, Postings
from chat_api.core.scores import CANDIDATES, HITS, fused, score_of, trust_in
from chat_api.core.segments import arrays_of
from workers.gate.words import Words
from workers.store.rows import Build

BEST = 3
"""Passages that a question's answer has to be among."""

NEAREST = """
    (SELECT embedding.source_id, embedding.generation, embedding.chunk_id,
            embedding.vector <#> CAST(:query AS halfvec) AS distance
     FROM sources AS source
     JOIN embeddings AS embedding ON embedding.org_id = source.org_id AND embedding.bot_id = source.bot_id
         AND embedding.source_id = source.source_id AND embedding.generation = {generation}
     WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.deleted_at IS NULL AND {which}
       AND embedding.org_id = :org_id AND embedding.bot_id = :bot_id AND embedding.space_id = :space_id
     ORDER BY distance LIMIT :k)
"""
# What is nearest of the other sources if they are asked, of this one's live generation and of its new one, and what has
# the words.
FIND = text(f"""
    WITH candidate AS MATERIALIZED (
        {NEAREST.format(generation="source.live_generation", which="CAST(:others AS boolean) AND source.source_id <> :source_id")}
        UNION
        {NEAREST.format(generation="source.live_generation", which="source.source_id = :source_id")}
        UNION
        {NEAREST.format(generation=":generation", which="source.source_id = :source_id")}
        UNION
        SELECT hit.source_id, hit.generation, hit.chunk_id, embedding.vector <#> CAST(:query AS halfvec)
        FROM unnest(CAST(:source_ids AS uuid[]), CAST(:generations AS int[]), CAST(:chunk_ids AS uuid[]))
             AS hit (source_id, generation, chunk_id)
        JOIN embeddings AS embedding ON embedding.org_id = :org_id AND embedding.bot_id = :bot_id
            AND embedding.source_id = hit.source_id AND embedding.generation = hit.generation
            AND embedding.chunk_id = hit.chunk_id AND embedding.space_id = :space_id
    )
    SELECT candidate.*, document.document_id, document.url
    FROM candidate
    CROSS JOIN LATERAL (
        SELECT document_id FROM chunks WHERE org_id = :org_id AND bot_id = :bot_id
            AND source_id = candidate.source_id AND generation = candidate.generation
            AND chunk_id = candidate.chunk_id LIMIT 1
    ) AS chunk
    CROSS JOIN LATERAL (
        SELECT document_id, url FROM documents WHERE org_id = :org_id AND bot_id = :bot_id
            AND source_id = candidate.source_id AND generation = candidate.generation
            AND document_id = chunk.document_id LIMIT 1
    ) AS document
""")  # noqa: S608  # the parts are this module's own


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found: where it is, and its score from 0 to 1."""

    place: Place
    chunk_id: UUID
    document_id: UUID
    url: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Answers:
    """The three best passages for a question, best first: as things are, and once the new generation is live."""

    before: Sequence[Passage]
    after: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Search:
    """A bot's live chunks and a new generation's, and for the words of some questions which of them have them."""

    build: Build
    chat: Engine
    words: Words

    @classmethod
    def over(cls, build: Build, chat: Engine, questions: Sequence[str]) -> Self:
        """An index for these questions. A bot with too many chunks is searched by vectors alone, as in the chat."""
        return cls(build, chat, Words.of(build, chat, questions))

    def ask(self, question: str, vector: NDArray[np.float32], *, alone: bool = False) -> Answers:
        """What the question finds, of the build's source `alone` or of all; `vector` is its unit vector in the build's space.

        A passage has the same score either way.
        """
        hits_before, hits_after = _hits(self.words.before, question), _hits(self.words.after, question)
        listed = {(hit.place, hit.chunk_id) for hit in [*hits_before[:CANDIDATES], *hits_after[:CANDIDATES]]}
        if alone:
            listed = {one for one in listed if one[0].source_id == self.build.task.source_id}
        values = {
            **key_of(self.build),
            **arrays_of([place for place, _ in listed]),
            "chunk_ids": [chunk_id for _, chunk_id in listed],
            "space_id": self.build.space_id,
            "query": HalfVector(vector).to_text(),
            "k": CANDIDATES,
            "others": not alone,
        }
        with self.chat.begin() as connection:
            rows = connection.execute(FIND, values).all()
        new = _new(self.build)
        before = [row for row in rows if _place(row) != new]
        after = [row for row in rows if _place(row) not in self.words.live]
        return Answers(self._best(question, before, hits_before), self._best(question, after, hits_after))

    def _best(self, question: str, rows: Sequence[Row[Any]], hits: Sequence[Hit]) -> list[Passage]:
        space = self.build.space
        trust, coverage = trust_in(space, question), {(hit.place, hit.chunk_id): hit.coverage for hit in hits}
        passages = []
        for row in rows:
            place = _place(row)
            score = fused(trust * score_of(space, -row.distance), coverage.get((place, row.chunk_id), 0.0))
            passages.append(Passage(place, row.chunk_id, row.document_id, row.url, score))
        return sorted(passages, key=lambda one: (-one.score, one.chunk_id))[:BEST]


def key_of(build: Build) -> dict[str, Any]:
    """The build's key as statements name it."""
    return dict(zip(("org_id", "bot_id", "source_id", "generation"), build.key, strict=True))


def _new(build: Build) -> Place:
    return Place(build.task.source_id, build.generation)


def _place(row: Row[Any]) -> Place:
    return Place(row.source_id, row.generation)


def _hits(words: Postings | None, question: str) -> list[Hit]:
    return words.find(terms_of(question)["term"], HITS) if words else []
