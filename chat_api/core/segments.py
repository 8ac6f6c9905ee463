"""The terms that chunks are stored with, read page by page, as the segments that an index is made from."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from chat_api.core.lexemes import FORMAT, pack
from chat_api.core.postings import Place, Segment

MOST_CHUNKS = 100_000
"""In a bot; above, its vectors answer alone. So many take about 140 MB, and 350 MB for seconds while they are loaded."""
PAGE = 2_000
"""Chunks read by one statement."""
BEGINNING = UUID(int=0)

LIVE = text("""
    SELECT source_id, live_generation FROM sources
    WHERE org_id = :org_id AND bot_id = :bot_id AND deleted_at IS NULL AND live_generation IS NOT NULL
""")
SIZES = text("""
    SELECT wanted.source_id, wanted.generation,
           (SELECT count(*) FROM (
                SELECT FROM chunks WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = wanted.source_id
                    AND generation = wanted.generation LIMIT :most
            ) AS chunk) AS chunks
    FROM unnest(CAST(:source_ids AS uuid[]), CAST(:generations AS int[])) AS wanted (source_id, generation)
""")
# A row for each generation: what many chunks have to say, in few values. Where a chunk's terms are of another format, or
# were never made, its text is read instead.
CHUNKS = text("""
    SELECT wanted.source_id, wanted.generation,
           string_agg(uuid_send(chunk.chunk_id), CAST('' AS bytea)) FILTER (WHERE chunk.known) AS chunk_ids,
           string_agg(chunk.lexemes, CAST('' AS bytea)) FILTER (WHERE chunk.known) AS packed,
           array_agg(chunk.chunk_id) FILTER (WHERE NOT chunk.known) AS text_ids,
           array_agg(chunk.words) FILTER (WHERE NOT chunk.known) AS texts
    FROM unnest(CAST(:source_ids AS uuid[]), CAST(:generations AS int[])) AS wanted (source_id, generation)
    CROSS JOIN LATERAL (
        SELECT chunk_id, lexemes, made.known,
               CASE WHEN NOT made.known THEN concat_ws(chr(10), (
                   SELECT title FROM documents WHERE org_id = :org_id AND bot_id = :bot_id
                       AND source_id = wanted.source_id AND generation = wanted.generation
                       AND document_id = chunks.document_id), heading, text) END AS words
        FROM chunks CROSS JOIN LATERAL (SELECT coalesce(get_byte(lexemes, 0) = :format, false) AS known) AS made
        WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = wanted.source_id
          AND generation = wanted.generation AND chunk_id > :after
        ORDER BY chunk_id LIMIT :page
    ) AS chunk
    GROUP BY wanted.source_id, wanted.generation
""")


def page_of(places: Sequence[Place], after: UUID) -> dict[str, Any]:
    """What `CHUNKS` needs besides `org_id` and `bot_id`, for the places' chunks whose ids follow `after`."""
    return {**arrays_of(places), "after": after, "page": PAGE, "format": FORMAT}


def arrays_of(places: Sequence[Place]) -> dict[str, list[Any]]:
    """The places as statements take them."""
    return {
        "source_ids": [place.source_id for place in places],
        "generations": [place.generation for place in places],
    }


def batches(sizes: dict[Place, int]) -> Iterator[list[Place]]:
    """Places that have no more chunks together than a page; a larger one by itself."""
    batch: list[Place] = []
    chunks = 0
    for place, size in sizes.items():
        if batch and chunks + size > PAGE:
            yield batch
            batch, chunks = [], 0
        batch.append(place)
        chunks += size
    if batch:
        yield batch


def ids_of(row: Row[Any]) -> list[UUID]:
    """All chunks of a row of `CHUNKS`."""
    known = row.chunk_ids or b""
    return [*(UUID(bytes=known[at : at + 16]) for at in range(0, len(known), 16)), *(row.text_ids or [])]


def segments_of(rows: Sequence[Row[Any]]) -> list[Segment]:
    """What `CHUNKS` found; terms that are not stored are made."""
    segments = []
    for row in rows:
        place = Place(row.source_id, row.generation)
        if row.chunk_ids:
            segments.append(Segment(place, row.chunk_ids, row.packed))
        if row.texts:
            ids = b"".join(chunk_id.bytes for chunk_id in row.text_ids)
            segments.append(Segment(place, ids, b"".join(map(pack, row.texts))))
    return segments
