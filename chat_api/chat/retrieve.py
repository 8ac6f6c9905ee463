"""Finds a bot's passages for a question: by an exact scan of the bot's live vectors, nobody else's, and by its words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg.halfvec import HalfVectorBinaryDumper
from sqlalchemy import text

from chat_api.chat.messages import Frame
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.postings import Hit
from chat_api.core.scores import fused, score_of

# In binary a question's vector takes a fiftieth of the time that its text takes to write and to parse. Engines made from
# here on know this.
psycopg.adapters.register_dumper(HalfVector, HalfVectorBinaryDumper)

SNIPPET_CHARS = 240
FRAGMENT_WORDS = 8
_MARKS = re.compile(r"^[\s|#>]*(?:(?:[-*+]|\d+[.)])\s+)?")


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found. `score` is 0 to 1, whatever the model."""

    chunk_id: UUID
    document_id: UUID
    source_id: UUID
    title: str
    url: str | None
    page: int | None
    heading: str
    text: str
    score: float
    own: str | None = None
    """The chunk's own text, where `text` has its neighbours' too."""

    def as_source(self, number: int) -> Frame:
        """The passage as the `sources` frame lists it, under the number that citations use."""
        own = self.text if self.own is None else self.own
        return {
            "n": number,
            "source_id": str(self.source_id),
            "document_id": str(self.document_id),
            "chunk_id": str(self.chunk_id),
            "title": self.title,
            "url": deep_link(self.url, self.page, own),
            "page": self.page,
            "heading": self.heading,
            "snippet": snippet(own),
            "score": round(self.score, 4),
        }


@dataclass(frozen=True, slots=True)
class Found:
    """A passage and how it was found: its place among the nearest and among those with the question's words, from 1 on."""

    passage: Passage
    generation: int
    ordinal: int
    tokens: int
    vector_rank: int | None
    lexical_rank: int | None

    @property
    def score(self) -> float:
        """The passage's."""
        return self.passage.score


class SpaceChangedError(Exception):
    """The bot reads `space` now: the question must be embedded in it."""

    def __init__(self, space: EmbeddingSpace) -> None:
        self.space = space
        super().__init__(space)


# `nearest` reads the bot's vectors by the primary key, one live generation after the other; `worded` those of the chunks
# that were found by their words. Texts are read for the few that are left.
SEARCH = text("""
    WITH reading AS MATERIALIZED (
        SELECT space_id, model, dimensions FROM embedding_spaces WHERE space_id = coalesce(
            (SELECT space_id FROM bots WHERE org_id = :org_id AND bot_id = :bot_id),
            (SELECT space_id FROM embedding_spaces WHERE model = :model AND dimensions = :dimensions))
    ), nearest AS MATERIALIZED (
        SELECT embedding.source_id, embedding.generation, embedding.chunk_id,
               embedding.vector <#> CAST(:query AS halfvec) AS distance
        FROM sources AS source
        JOIN embeddings AS embedding ON embedding.org_id = source.org_id AND embedding.bot_id = source.bot_id
            AND embedding.source_id = source.source_id AND embedding.generation = source.live_generation
        WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.deleted_at IS NULL
          AND embedding.org_id = :org_id AND embedding.bot_id = :bot_id
          AND embedding.space_id = (SELECT space_id FROM reading WHERE model = :model AND dimensions = :dimensions)
        ORDER BY distance LIMIT :k
    ), worded AS MATERIALIZED (
        SELECT hit.source_id, hit.generation, hit.chunk_id, embedding.vector <#> CAST(:query AS halfvec) AS distance
        FROM unnest(CAST(:source_ids AS uuid[]), CAST(:generations AS int[]), CAST(:chunk_ids AS uuid[]))
             AS hit (source_id, generation, chunk_id)
        JOIN sources AS source ON source.org_id = :org_id AND source.bot_id = :bot_id
            AND source.source_id = hit.source_id AND source.live_generation = hit.generation
            AND source.deleted_at IS NULL
        JOIN embeddings AS embedding ON embedding.org_id = :org_id AND embedding.bot_id = :bot_id
            AND embedding.source_id = hit.source_id AND embedding.generation = hit.generation
            AND embedding.chunk_id = hit.chunk_id
            AND embedding.space_id = (SELECT space_id FROM reading WHERE model = :model AND dimensions = :dimensions)
        WHERE hit.chunk_id <> ALL (SELECT chunk_id FROM nearest)
    ), candidate AS (
        SELECT *, row_number() OVER (ORDER BY distance, chunk_id) AS vector_rank FROM nearest
        UNION ALL SELECT *, NULL FROM worded
    ), found AS (
        SELECT chunk.chunk_id, chunk.document_id, chunk.source_id, document.title, document.url, chunk.page,
               chunk.heading, chunk.text, -candidate.distance AS cosine, candidate.vector_rank, candidate.generation,
               chunk.ordinal, chunk.tokens
        FROM candidate
        CROSS JOIN LATERAL (
            SELECT * FROM chunks WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = candidate.source_id
                AND generation = candidate.generation AND chunk_id = candidate.chunk_id LIMIT 1
        ) AS chunk
        CROSS JOIN LATERAL (
            SELECT title, url FROM documents WHERE org_id = :org_id AND bot_id = :bot_id
                AND source_id = candidate.source_id AND generation = candidate.generation
                AND document_id = chunk.document_id LIMIT 1
        ) AS document
    )
    SELECT reading.model, reading.dimensions, found.* FROM reading LEFT JOIN found ON true
""")


async def search(
    engines: AsyncEngines,
    org_id: UUID,
    bot_id: UUID,
    space: EmbeddingSpace,
    query: NDArray[np.float32],
    k: int,
    hits: Sequence[Hit] = (),
    *,
    trust: float = 1.0,
) -> list[Found]:
    """The `k` passages of the bot nearest to `query` (a unit vector of the space) and the best `k` of `hits`, best first.

    All of `hits` count for the scores; those that are not the bot's live passages (any more) are left out. `trust` is
    what a similarity in this space is worth. Raises SpaceChangedError when the bot's passages are in another space,
    SQLAlchemyError.
    """
    values = {
        "org_id": org_id,
        "bot_id": bot_id,
        "model": space.model,
        "dimensions": space.dimensions,
        "query": HalfVector(query),
        "k": k,
        "source_ids": [hit.place.source_id for hit in hits[:k]],
        "generations": [hit.place.generation for hit in hits[:k]],
        "chunk_ids": [hit.chunk_id for hit in hits[:k]],
    }
    ranked = {(hit.place.source_id, hit.chunk_id): (rank, hit.coverage) for rank, hit in enumerate(hits, 1)}
    found = []
    [rows] = await engines.trip(org_id, (SEARCH, values))
    for row in rows:
        reading = EmbeddingSpace(row.model, row.dimensions)
        if reading != space:
            raise SpaceChangedError(reading)
        if row.chunk_id is None:  # the space alone: nothing was found in it
            break
        rank, coverage = ranked.get((row.source_id, row.chunk_id), (None, 0.0))
        found.append(_found(row, fused(trust * score_of(space, row.cosine), coverage), rank))
    return sorted(found, key=lambda one: (-one.score, one.passage.chunk_id))


def _found(row: Any, score: float, lexical_rank: int | None) -> Found:
    passage = Passage(
        row.chunk_id, row.document_id, row.source_id, row.title, row.url, row.page, row.heading, row.text, score
    )
    return Found(passage, row.generation, row.ordinal, row.tokens, row.vector_rank, lexical_rank)


def snippet(passage: str) -> str:
    """The beginning of a passage, in one line, cut between words."""
    line = " ".join(passage.split())
    if len(line) <= SNIPPET_CHARS:
        return line
    return line[:SNIPPET_CHARS].rsplit(" ", 1)[0] + " …"


def deep_link(url: str | None, page: int | None, passage: str) -> str | None:
    """`url` with a fragment that leads to the page of a document, or to the passage's first words on a web page."""
    if url is None:
        return None
    if page is not None:
        return f"{url.partition('#')[0]}#page={page}"
    words = first_words(passage)
    if not words:
        return url
    # Dashes and commas have a meaning of their own in a text fragment.
    directive = ":~:text=" + quote(" ".join(words), safe="").replace("-", "%2D")
    return f"{url}{directive}" if "#" in url else f"{url}#{directive}"


def first_words(passage: str) -> list[str]:
    """The first eight words of the first line or table cell with any, without Markdown's marks: as a page shows them."""
    for line in passage.splitlines():
        cell = _MARKS.sub("", line).partition("|")[0]
        if re.search(r"\w", cell) and not line.startswith("```"):
            return re.sub(r"\*\*|`", "", cell).split()[:FRAGMENT_WORDS]
    return []
