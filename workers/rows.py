"""A generation's rows, and how they are written: by binary COPY into a temporary table and from there into place.

COPY itself is refused on tables with row-level security.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from chat_api.core.embeddings import EmbeddingSpace
from workers.documents import Chunk, Document, Reading
from workers.runs import Run, storable

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"

PAGE_COLUMNS = {
    "url": "text", "outcome": "text", "message": "text", "http_status": "int4", "fetched_at": "timestamptz",
    "content_sha256": "bytea", "etag": "text", "last_modified": "text", "document_id": "uuid", "chunks": "int4",
}  # fmt: skip
DOCUMENT_COLUMNS = {
    "document_id": "uuid", "url": "text", "title": "text", "media_type": "text", "language": "text", "pages": "int4",
    "text_sha256": "bytea",
}  # fmt: skip
CHUNK_COLUMNS = {
    "chunk_id": "uuid", "document_id": "uuid", "ordinal": "int4", "heading": "text", "page": "int4", "text": "text",
    "tokens": "int4", "language": "text", "embedded_sha256": "bytea",
}  # fmt: skip
KEY_COLUMNS = {"org_id": "uuid", "bot_id": "uuid", "source_id": "uuid", "generation": "int4"}


@dataclass(frozen=True, slots=True)
class Build:
    """A generation in the making: whose it is, its number, and the embedding space of its vectors."""

    run: Run
    generation: int
    space_id: int
    space: EmbeddingSpace

    @property
    def key(self) -> tuple[UUID, UUID, UUID, int]:
        """(org, bot, source, generation): what every row of it begins with."""
        return self.run.org_id, self.run.bot_id, self.run.source_id, self.generation


def stage_readings(
    connection: Connection, build: Build, readings: Sequence[Reading], vectors: NDArray[np.float32]
) -> list[str]:
    """Sends ledger rows, documents, chunks and embeddings; the statements that put them in place.

    Both in the caller's transaction, so that no lock is held while the network carries the rows. `vectors` has one unit
    row per chunk of `readings`, in their order. Rows that are there already stay as they are.
    """
    source = build.run.source_id
    pages = [_page_row(source, reading) for reading in readings]
    documents = [_document_row(source, reading, reading.document) for reading in readings if reading.document]
    chunks = [row for reading in readings for row in _chunk_rows(source, reading, build.space)]
    staged = [
        _copy_rows(connection, build, table, columns, rows)
        for table, columns, rows in (
            ("pages", PAGE_COLUMNS, pages),
            ("documents", DOCUMENT_COLUMNS, documents),
            ("chunks", CHUNK_COLUMNS, chunks),
        )
        if rows
    ]
    if chunks:
        staged.append(_copy_embeddings(connection, build, [row[0] for row in chunks], vectors))
    return staged


def document_id(source_id: UUID, url: str) -> UUID:
    """A document's id: the same over all generations of its source."""
    return uuid5(source_id, url)


def chunk_ids_of(document: UUID, chunks: Sequence[Chunk]) -> list[UUID]:
    """The chunks' ids, made from document and content: the same again when the same text is trained again."""
    seen: dict[bytes, int] = {}
    ids = []
    for chunk in chunks:
        digest = hashlib.sha256(document.bytes + chunk.embedded_text.encode()).digest()
        nth = seen[digest] = seen.get(digest, -1) + 1
        ids.append(UUID(bytes=hashlib.sha256(digest + nth.to_bytes(4)).digest()[:16]))
    return ids


def embedded_sha256(space: EmbeddingSpace, chunk: Chunk) -> bytes:
    """A chunk's identity to the embedding model: what it is, and what it read."""
    return hashlib.sha256(f"{space.model}\0{space.dimensions}\0{chunk.embedded_text}".encode()).digest()


def _page_row(source_id: UUID, reading: Reading) -> tuple[Any, ...]:
    fetched, error = reading.fetched, reading.error
    return (
        storable(reading.url),
        reading.outcome,
        storable(error.message) if error else None,
        fetched.status if fetched else None,
        fetched.fetched_at if fetched else None,
        hashlib.sha256(fetched.body).digest() if fetched else None,
        storable(fetched.etag) if fetched and fetched.etag else None,
        storable(fetched.last_modified) if fetched and fetched.last_modified else None,
        document_id(source_id, reading.url) if reading.document else None,
        len(reading.chunks),
    )


def _document_row(source_id: UUID, reading: Reading, document: Document) -> tuple[Any, ...]:
    digest = hashlib.sha256("\0".join(block.text for block in document.blocks).encode()).digest()
    return (
        document_id(source_id, reading.url),
        reading.cited_url,
        document.title,
        document.media_type,
        document.language,
        document.pages,
        digest,
    )


def _chunk_rows(source_id: UUID, reading: Reading, space: EmbeddingSpace) -> list[tuple[Any, ...]]:
    if not reading.document:
        return []
    document = document_id(source_id, reading.url)
    return [
        (
            chunk_id,
            document,
            chunk.ordinal,
            chunk.heading,
            chunk.page,
            chunk.text,
            chunk.tokens,
            reading.document.language,
            embedded_sha256(space, chunk),
        )
        for chunk_id, chunk in zip(chunk_ids_of(document, reading.chunks), reading.chunks, strict=True)
    ]


def _copy_rows(
    connection: Connection, build: Build, table: str, columns: dict[str, str], rows: list[tuple[Any, ...]]
) -> str:
    def write(copy: Any) -> None:
        copy.set_types([*KEY_COLUMNS.values(), *columns.values()])
        for row in rows:
            copy.write_row((*build.key, *row))

    return _copy(connection, table, [*KEY_COLUMNS, *columns], write)


def _copy_embeddings(connection: Connection, build: Build, chunk_ids: list[UUID], vectors: NDArray[np.float32]) -> str:
    body = COPY_HEADER + embedding_rows(build, chunk_ids, vectors) + COPY_TRAILER
    return _copy(
        connection, "embeddings", [*KEY_COLUMNS, "chunk_id", "space_id", "vector"], lambda copy: copy.write(body)
    )


def embedding_rows(build: Build, chunk_ids: Sequence[UUID], vectors: NDArray[np.float32]) -> bytes:
    """The rows of `embeddings` in PostgreSQL's binary COPY format, built at once: every field has a fixed width."""
    count, dimensions = vectors.shape
    fields: list[tuple[str, str, Any]] = [
        ("org_id", "V16", np.void(build.run.org_id.bytes)),
        ("bot_id", "V16", np.void(build.run.bot_id.bytes)),
        ("source_id", "V16", np.void(build.run.source_id.bytes)),
        ("generation", ">i4", build.generation),
        ("chunk_id", "V16", np.frombuffer(b"".join(chunk.bytes for chunk in chunk_ids), "V16")),
        ("space_id", ">i4", build.space_id),
    ]
    layout: list[Any] = [("fields", ">i2")]
    for name, kind, _ in fields:
        layout += [(f"{name}_size", ">i4"), (name, kind)]
    layout += [("vector_size", ">i4"), ("dimensions", ">i2"), ("unused", ">i2"), ("vector", ">f2", (dimensions,))]
    rows = np.zeros(count, np.dtype(layout))
    rows["fields"] = len(fields) + 1
    for name, kind, value in fields:
        rows[f"{name}_size"] = np.dtype(kind).itemsize
        rows[name] = value
    rows["vector_size"], rows["dimensions"], rows["vector"] = 4 + 2 * dimensions, dimensions, vectors
    return rows.tobytes()


def _copy(connection: Connection, table: str, columns: list[str], write: Callable[[Any], None]) -> str:
    names = ", ".join(columns)
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE staged_{table} (LIKE {table}) ON COMMIT DROP")
        with cursor.copy(f"COPY staged_{table} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            write(copy)
    return f"INSERT INTO {table} ({names}) SELECT {names} FROM staged_{table} ON CONFLICT DO NOTHING"  # noqa: S608  # names are this module's own
