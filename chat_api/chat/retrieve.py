"""Finds a bot's passages for a question: by an exact scan of the bot's live vectors, nobody else's, and by its words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import quote
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from sqlalchemy import TextClause, text

from chat_api.chat.client_frames import Frame
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.postings import Hit
from chat_api.core.quantized import code_of, levels
from chat_api.core.scores import fused, score_of

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
    dated: date | None = None
    """When its document was last changed, or published, by its own word."""

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


OF_LIVE = """
    org_id = :org_id AND bot_id = :bot_id AND source_id = live.source_id AND generation = live.generation
    AND space_id = (SELECT space_id FROM reading WHERE model = :model AND dimensions = :dimensions)
"""
EXACTLY = f"""
    SELECT live.source_id, live.generation, embedding.chunk_id, embedding.distance
    FROM live CROSS JOIN LATERAL (
        SELECT chunk_id, vector <#> CAST(:query AS halfvec) AS distance FROM embeddings WHERE {OF_LIVE} OFFSET 0
    ) AS embedding
"""  # noqa: S608  # the parts are this module's own
# The question's code, how many vectors are compared, and which sources have codes of all of theirs.
ASKED = f"""
    asked AS MATERIALIZED (
        SELECT {code_of("CAST(:query AS halfvec)")} AS code, rescored
        FROM quantized_bots JOIN reading USING (space_id)
        WHERE org_id = :org_id AND bot_id = :bot_id AND rescored > 0 AND model = :model AND dimensions = :dimensions
    ), coded AS MATERIALIZED (
        SELECT source_id, generation FROM live JOIN quantized_generations USING (source_id, generation)
        WHERE org_id = :org_id AND bot_id = :bot_id AND whole AND space_id = (SELECT space_id FROM reading)
            AND EXISTS (SELECT FROM asked)
    ),
"""  # noqa: S608
BY_CODES = f"""
    SELECT live.source_id, live.generation, live.chunk_id, embedding.distance
    FROM (
        SELECT live.source_id, live.generation, quantized.chunk_id
        FROM coded AS live CROSS JOIN LATERAL (
            SELECT chunk_id, code <~> (SELECT code FROM asked) AS distance FROM quantized_embeddings
            WHERE {OF_LIVE} OFFSET 0
        ) AS quantized
        ORDER BY quantized.distance LIMIT (SELECT rescored FROM asked)
    ) AS live CROSS JOIN LATERAL (
        SELECT vector <#> CAST(:query AS halfvec) AS distance FROM embeddings
        WHERE {OF_LIVE} AND chunk_id = live.chunk_id LIMIT 1
    ) AS embedding
    UNION ALL {EXACTLY} WHERE live.source_id NOT IN (SELECT source_id FROM coded)
"""  # noqa: S608


# `nearest` reads the bot's vectors by the primary key, one live generation after the other; `worded` those of the chunks
# that were found by their words. Texts are read for the few that are left. Each table is read in a subquery of its own,
# so that the planner has no joins to weigh: planning is most of what a small bot's search takes. Nor does one search take
# several of the server's processes.
def _searching(near: str, asked: str = "") -> TextClause:
    return text(f"""
    WITH reading AS MATERIALIZED (
        SELECT space_id, model, dimensions FROM embedding_spaces WHERE space_id = coalesce(
            (SELECT space_id FROM bots WHERE org_id = :org_id AND bot_id = :bot_id),
            (SELECT space_id FROM embedding_spaces WHERE model = :model AND dimensions = :dimensions))
    ), live AS MATERIALIZED (
        SELECT source_id, live_generation AS generation FROM sources
        WHERE org_id = :org_id AND bot_id = :bot_id AND deleted_at IS NULL AND live_generation IS NOT NULL
    ), {asked} nearest AS MATERIALIZED (
        SELECT * FROM ({near}) AS near ORDER BY distance LIMIT :k
    ), worded AS MATERIALIZED (
        SELECT hit.source_id, hit.generation, hit.chunk_id, embedding.distance
        FROM unnest(CAST(:source_ids AS uuid[]), CAST(:generations AS int[]), CAST(:chunk_ids AS uuid[]))
             AS hit (source_id, generation, chunk_id)
        CROSS JOIN LATERAL (
            SELECT vector <#> CAST(:query AS halfvec) AS distance FROM embeddings
            WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = hit.source_id AND generation = hit.generation
                AND space_id = (SELECT space_id FROM reading WHERE model = :model AND dimensions = :dimensions)
                AND chunk_id = hit.chunk_id LIMIT 1
        ) AS embedding
        WHERE hit.chunk_id <> ALL (SELECT chunk_id FROM nearest)
            AND (hit.source_id, hit.generation) IN (SELECT source_id, generation FROM live)
    ), candidate AS (
        SELECT *, row_number() OVER (ORDER BY distance, chunk_id) AS vector_rank FROM nearest
        UNION ALL SELECT *, NULL FROM worded
    ), found AS (
        SELECT chunk.chunk_id, chunk.document_id, chunk.source_id, document.title, document.url, document.dated,
               chunk.page, chunk.heading, chunk.text, -candidate.distance AS cosine, candidate.vector_rank,
               candidate.generation, chunk.ordinal, chunk.tokens
        FROM candidate
        CROSS JOIN LATERAL (
            SELECT * FROM chunks WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = candidate.source_id
                AND generation = candidate.generation AND chunk_id = candidate.chunk_id LIMIT 1
        ) AS chunk
        CROSS JOIN LATERAL (
            SELECT title, url, greatest(published_on, modified_on) AS dated FROM documents
            WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = candidate.source_id
                AND generation = candidate.generation AND document_id = chunk.document_id LIMIT 1
        ) AS document
    )
    SELECT reading.model, reading.dimensions, found.* FROM reading LEFT JOIN found ON true
""")  # noqa: S608


SEARCH = _searching(EXACTLY)
SEARCH_BY_CODES = _searching(BY_CODES, ASKED)


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
    quantized: bool = False,
) -> list[Found]:
    """The `k` passages of the bot nearest to `query` (a unit vector of the space) and the best `k` of `hits`, best first.

    All of `hits` count for the scores; those that are not the bot's live passages (any more) are left out. `trust` is
    what a similarity in this space is worth. A bot that is `quantized` is searched by the vectors' codes, where they have
    any. Raises SpaceChangedError when the bot's passages are in another space, SQLAlchemyError.
    """
    values: dict[str, Any] = {
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
    if quantized:
        values["levels"] = levels(space.dimensions)
    [rows] = await engines.trip(org_id, (SEARCH_BY_CODES if quantized else SEARCH, values))
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
        *(row.chunk_id, row.document_id, row.source_id, row.title, row.url, row.page, row.heading, row.text, score),
        dated=row.dated,
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
    in_code = False
    for line in passage.splitlines():
        if line.startswith("```"):
            in_code = not in_code
            continue
        shown = line if in_code else re.sub(r"\*\*|`", "", _MARKS.sub("", line).partition("|")[0])
        if re.search(r"\w", shown):
            return shown.split()[:FRAGMENT_WORDS]
    return []
