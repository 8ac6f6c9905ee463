"""What the chat database already has of a bot: the pages that are live, and the vectors that are paid for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from workers.documents import READER_VERSION
from workers.store.rows import keys_of
from workers.tasks.life import Task


@dataclass(frozen=True, slots=True)
class LivePage:
    """A page of a source's live generation, as far as the next reading of it is compared with it."""

    generation: int
    source_version: str
    url: str
    etag: str | None
    last_modified: str | None
    content_sha256: bytes | None
    chunks: int
    title: str
    cited_url: str | None
    text_sha256: bytes


# The bots are named once more as a value, for the planner: it then looks at their partitions alone.
LIVE_PAGES = text("""
    SELECT task_id, generation, live.source_version, page.url, page.etag,
           page.last_modified, page.content_sha256, page.chunks, document.title, document.url AS cited_url,
           document.text_sha256
    FROM unnest(CAST(:task_ids AS bigint[]), CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[]),
                CAST(:source_ids AS uuid[]), CAST(:urls AS text[]))
         AS given (task_id, org_id, bot_id, source_id, url)
    JOIN sources AS source USING (org_id, bot_id, source_id)
    JOIN generations AS live USING (org_id, bot_id, source_id)
    JOIN bots USING (org_id, bot_id)
    CROSS JOIN LATERAL (
        SELECT url, etag, last_modified, content_sha256, chunks, document_id FROM pages
        WHERE org_id = given.org_id AND bot_id = given.bot_id AND source_id = given.source_id
          AND generation = live.generation AND chunks > 0 AND url = coalesce(given.url, url) LIMIT 1
    ) AS page
    JOIN documents AS document USING (org_id, bot_id, source_id, generation, document_id)
    WHERE live.generation = source.live_generation AND source.deleted_at IS NULL AND live.space_id = bots.space_id
      AND live.reader_version = :reader_version
      AND page.chunks = (SELECT count(*) FROM embeddings
                         WHERE org_id = given.org_id AND bot_id = given.bot_id AND source_id = given.source_id
                           AND generation = live.generation AND space_id = live.space_id
                           AND bot_id = ANY (CAST(:bot_ids AS uuid[])))
""")


def live_pages(connection: Connection, wanted: Sequence[tuple[Task, str | None]]) -> dict[int, LivePage]:
    """By task id, what the live generation has of an address, or of a source that has one page.

    Only where it can be copied: it was read as pages are read now, and has vectors of the space that the bot reads.
    """
    values = keys_of([task for task, _ in wanted]) | {
        "urls": [url for _, url in wanted],
        "reader_version": READER_VERSION,
    }
    rows = connection.execute(LIVE_PAGES, values).all()
    return {row.task_id: LivePage(*row[1:]) for row in rows}


# One scan finds all texts: looked up one by one, a partition without statistics is read as a whole for each. Behind it
# stands one probe of the whole key for each text, which the limits keep from becoming a join of another shape.
KNOWN_VECTORS = """
    WITH found AS MATERIALIZED (
        SELECT embedded_sha256 AS sha, array_agg(source_id) AS source_ids, array_agg(generation) AS generations,
               array_agg(chunk_id) AS chunk_ids
        FROM chunks WHERE org_id = %(org_id)s AND bot_id = %(bot_id)s AND embedded_sha256 = ANY (%(shas)s)
        GROUP BY embedded_sha256
    )
    SELECT sha, vector FROM found CROSS JOIN LATERAL (
        SELECT paid.vector
        FROM unnest(source_ids, generations, chunk_ids) AS place (source_id, generation, chunk_id)
        CROSS JOIN LATERAL (
            SELECT vector FROM embeddings
            WHERE org_id = %(org_id)s AND bot_id = %(bot_id)s AND source_id = place.source_id
              AND generation = place.generation AND chunk_id = place.chunk_id AND space_id = %(space_id)s LIMIT 1
        ) AS paid LIMIT 1
    ) AS one
"""


def known_vectors(
    connection: Connection, org_id: UUID, bot_id: UUID, space_id: int, shas: Sequence[bytes]
) -> dict[bytes, NDArray[np.float32]]:
    """The vectors, shape (dimensions,), that the bot's chunks have in this space, by `embedded_sha256`: paid for already."""
    if not shas:
        return {}
    driver: Any = connection.connection.driver_connection
    values = {"org_id": org_id, "bot_id": bot_id, "space_id": space_id, "shas": list(shas)}
    with driver.cursor(binary=True) as cursor:
        rows = cursor.execute(KNOWN_VECTORS, values).fetchall()
    if not rows:
        return {}
    # A halfvec on the wire: dimensions and a zero, two bytes each, then its numbers, big-endian.
    halves = np.frombuffer(b"".join(raw[4:] for _, raw in rows), ">f2").reshape(len(rows), -1)
    return dict(zip((sha for sha, _ in rows), halves.astype(np.float32), strict=True))
