"""Finds a bot's passages nearest to a question: an exact scan of the bot's live vectors, nobody else's."""

import re
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg.halfvec import HalfVectorBinaryDumper
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.chat.messages import Frame
from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.settings import LOCAL_MODEL

# In binary a question's vector takes a fiftieth of the time that its text takes to write and to parse. Engines made from
# here on know this.
psycopg.adapters.register_dumper(HalfVector, HalfVectorBinaryDumper)

SNIPPET_CHARS = 240
FRAGMENT_WORDS = 8
_MARKS = re.compile(r"^[\s|#>]*(?:(?:[-*+]|\d+[.)])\s+)?")

# For each model, the cosine of a question and a passage that has nothing to do with it (score 0), and that from which on
# a passage is worth offering (score 0.3, the default threshold); a cosine of 1 is a score of 1. MiniLM's were measured
# on the sample company. The others are set low rather than high: a language model that gets a poor passage can still
# say that it does not know, while nobody can answer from one that was held back.
WORTHWHILE = 0.3
CALIBRATION = {
    LOCAL_MODEL: (0.10, 0.31),
    "text-embedding-3-small": (0.05, 0.20),
    "text-embedding-3-large": (0.05, 0.20),
    "text-embedding-ada-002": (0.68, 0.75),
}
UNKNOWN_MODEL = (0.0, 0.20)


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

    def as_source(self, number: int) -> Frame:
        """The passage as the `sources` frame lists it, under the number that citations use."""
        return {
            "n": number,
            "source_id": str(self.source_id),
            "document_id": str(self.document_id),
            "chunk_id": str(self.chunk_id),
            "title": self.title,
            "url": deep_link(self.url, self.page, self.text),
            "page": self.page,
            "heading": self.heading,
            "snippet": snippet(self.text),
            "score": round(self.score, 4),
        }


class SpaceChangedError(Exception):
    """The bot reads `space` now: the question must be embedded in it."""

    def __init__(self, space: EmbeddingSpace) -> None:
        self.space = space
        super().__init__(space)


# The inner query reads the bot's vectors by the primary key, one live generation after the other; texts are read for
# the few that are left.
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
    ), found AS (
        SELECT chunk.chunk_id, chunk.document_id, chunk.source_id, document.title, document.url, chunk.page,
               chunk.heading, chunk.text, -nearest.distance AS cosine
        FROM nearest
        JOIN chunks AS chunk ON chunk.org_id = :org_id AND chunk.bot_id = :bot_id
            AND chunk.source_id = nearest.source_id AND chunk.generation = nearest.generation
            AND chunk.chunk_id = nearest.chunk_id
        JOIN documents AS document ON document.org_id = :org_id AND document.bot_id = :bot_id
            AND document.source_id = nearest.source_id AND document.generation = nearest.generation
            AND document.document_id = chunk.document_id
    )
    SELECT reading.model, reading.dimensions, found.* FROM reading LEFT JOIN found ON true
    ORDER BY found.cosine DESC, found.chunk_id
""")


async def search(
    connection: AsyncConnection,
    org_id: UUID,
    bot_id: UUID,
    space: EmbeddingSpace,
    query: NDArray[np.float32],
    k: int,
) -> list[Passage]:
    """The `k` passages of the bot nearest to `query` (a unit vector of the space), best first.

    Raises SpaceChangedError when the bot's passages are in another space.
    """
    values = {
        "org_id": org_id,
        "bot_id": bot_id,
        "model": space.model,
        "dimensions": space.dimensions,
        "query": HalfVector(query),
        "k": k,
    }
    rows = await connection.execute(SEARCH, values)
    passages = []
    for row in rows:
        found = row._asdict()
        reading = EmbeddingSpace(found.pop("model"), found.pop("dimensions"))
        if reading != space:
            raise SpaceChangedError(reading)
        if found["chunk_id"] is None:  # the space alone: nothing was found in it
            break
        passages.append(Passage(score=score_of(space, found.pop("cosine")), **found))
    return passages


def score_of(space: EmbeddingSpace, cosine: float) -> float:
    """A cosine similarity on the scale of 0 to 1 that means the same for every model: two straight lines."""
    unrelated, worthwhile = CALIBRATION.get(space.model, UNKNOWN_MODEL)
    return float(np.interp(cosine, [unrelated, worthwhile, 1.0], [0.0, WORTHWHILE, 1.0]))


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
