"""A generation's rows, and how they are written: by binary COPY into temporary tables and from there into place.

COPY itself is refused on tables with row-level security.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.lexemes import chunk_text, pack
from chat_api.core.storable import storable
from workers.documents import Chunk, Document, Reading
from workers.languages import language_of
from workers.tasks.life import Task

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"

PAGE_COLUMNS = {
    "url": "text", "outcome": "text", "message": "text", "http_status": "int4", "fetched_at": "timestamptz",
    "content_sha256": "bytea", "etag": "text", "last_modified": "text", "document_id": "uuid", "chunks": "int4",
    "position": "int4", "depth": "int4", "links": "text[]",
}  # fmt: skip
DOCUMENT_COLUMNS = {
    "document_id": "uuid", "url": "text", "title": "text", "media_type": "text", "language": "text", "pages": "int4",
    "published_on": "date", "modified_on": "date", "text_sha256": "bytea",
}  # fmt: skip
CHUNK_COLUMNS = {
    "chunk_id": "uuid", "document_id": "uuid", "ordinal": "int4", "heading": "text", "page": "int4", "text": "text",
    "tokens": "int4", "language": "text", "embedded_sha256": "bytea", "lexemes": "bytea",
}  # fmt: skip
KEY_COLUMNS = {"org_id": "uuid", "bot_id": "uuid", "source_id": "uuid", "generation": "int4"}
KEPT_COLUMNS = {"position", "depth", "links"}
# A page that waits, or gave nothing, is read again and gets its outcome; one that has chunks stays as it is.
PAGE_AGAIN = "ON CONFLICT (org_id, bot_id, source_id, generation, url) DO UPDATE SET {} WHERE pages.chunks = 0".format(
    ", ".join(
        f"{name} = coalesce(excluded.{name}, pages.{name})" if name in KEPT_COLUMNS else f"{name} = excluded.{name}"
        for name in PAGE_COLUMNS
        if name != "url"
    )
)


@dataclass(frozen=True, slots=True)
class Build:
    """A generation in the making: whose it is, its number, and the embedding space of its vectors."""

    task: Task
    generation: int
    space_id: int
    space: EmbeddingSpace

    @property
    def key(self) -> tuple[UUID, UUID, UUID, int]:
        """(org, bot, source, generation): what every row of it begins with."""
        return self.task.org_id, self.task.bot_id, self.task.source_id, self.generation


def keys_of(tasks: Sequence[Task]) -> dict[str, Any]:
    """The tasks' keys as a statement's arrays."""
    return {
        "task_ids": [task.task_id for task in tasks],
        "org_ids": [task.org_id for task in tasks],
        "bot_ids": [task.bot_id for task in tasks],
        "source_ids": [task.source_id for task in tasks],
    }


Part = tuple[Build, Sequence[Reading], NDArray[np.float32]]
"""A build, what was read of it, and one unit row for each of its chunks, in their order."""


def stage_readings(connection: Connection, parts: Sequence[Part], *, ledger: bool = True) -> list[str]:
    """Sends the rows of what was read; the statements that put them in place.

    Without `ledger` only chunks and embeddings: further ones of documents that are there. Once in a transaction, the
    caller's, so that no lock is held while the network carries the rows. Each statement takes an array, the ids of the
    sources whose rows may go in. Rows that are there already stay as they are.
    """
    pages = list(_keyed(parts, _page_rows)) if ledger else []
    documents = list(_keyed(parts, _document_rows)) if ledger else []
    tables: list[tuple[str, dict[str, str], list[tuple[Any, ...]]]] = [
        # One statement can't write a row twice: of a page met twice, the first counts.
        ("pages", PAGE_COLUMNS, list({row[:5]: row for row in reversed(pages)}.values())),
        ("documents", DOCUMENT_COLUMNS, documents),
        ("chunks", CHUNK_COLUMNS, list(_keyed(parts, _chunk_rows))),
    ]
    staged = [
        _Staged(table, [*KEY_COLUMNS, *columns], _row_writer(columns, rows)) for table, columns, rows in tables if rows
    ]
    full = [(build, _chunk_ids(build, readings), vectors) for build, readings, vectors in parts if len(vectors)]
    if full:
        body = b"".join(embedding_rows(*part) for part in full)
        names = [*KEY_COLUMNS, "chunk_id", "space_id", "vector"]
        staged.append(_Staged("embeddings", names, lambda copy: copy.write(COPY_HEADER + body + COPY_TRAILER)))
    _send(connection, staged)
    return [one.insert() for one in staged]


def document_id(source_id: UUID, url: str) -> UUID:
    """A document's id: the same over all generations of its source."""
    return uuid5(source_id, url)


def chunk_ids_of(document: UUID, chunks: Sequence[Chunk]) -> list[UUID]:
    """The chunks' ids, made from document and content: the same again when the same text is trained again."""
    ids = []
    for chunk in chunks:
        digest = hashlib.sha256(document.bytes + chunk.embedded_text.encode()).digest()
        ids.append(UUID(bytes=hashlib.sha256(digest + chunk.repeat.to_bytes(4)).digest()[:16]))
    return ids


def embedded_sha256(chunk: Chunk) -> bytes:
    """What the embedding model read of a chunk: with the space of a vector, the chunk's identity to the model."""
    return hashlib.sha256(chunk.embedded_text.encode()).digest()


def text_sha256(document: Document) -> bytes:
    """A document's content, as far as its chunks depend on it."""
    digest = hashlib.sha256(f"{document.language}\0".encode())
    for block in document.blocks:
        kind = f"{block.kind} {block.language}" if block.language else block.kind
        digest.update(f"{kind}\0{block.level}\0{block.page}\0{block.text}\0".encode())
    return digest.digest()


def _keyed(
    parts: Sequence[Part], rows_of: Callable[[UUID, Reading], Iterable[tuple[Any, ...]]]
) -> Iterator[tuple[Any, ...]]:
    for build, readings, _ in parts:
        for reading in readings:
            for row in rows_of(build.task.source_id, reading):
                yield *build.key, *row


def _page_rows(source_id: UUID, reading: Reading) -> Iterator[tuple[Any, ...]]:
    yield (
        storable(reading.url),
        reading.outcome,
        storable(reading.error.message) if reading.error else None,
        *_received(reading),
        document_id(source_id, reading.url) if reading.document else None,
        len(reading.chunks) if reading.chunks_in_all is None else reading.chunks_in_all,
        reading.position,
        reading.depth,
        None if reading.links is None else [storable(link) for link in reading.links],
    )


def _received(reading: Reading) -> tuple[Any, ...]:
    fetched, error = reading.fetched, reading.error
    if fetched is None:
        return error.http_status if error else None, datetime.now(UTC) if error else None, None, None, None
    return (
        fetched.status,
        fetched.fetched_at,
        None if fetched.status == 304 else hashlib.sha256(fetched.body).digest(),
        storable(fetched.etag) if fetched.etag else None,
        storable(fetched.last_modified) if fetched.last_modified else None,
    )


def _document_rows(source_id: UUID, reading: Reading) -> Iterator[tuple[Any, ...]]:
    document = reading.document
    if document:
        yield (
            document_id(source_id, reading.url),
            reading.cited_url,
            document.title,
            document.media_type,
            document.language,
            document.pages,
            document.published_on,
            document.modified_on,
            text_sha256(document),
        )


def _chunk_rows(source_id: UUID, reading: Reading) -> Iterator[tuple[Any, ...]]:
    if not reading.document:
        return
    document = document_id(source_id, reading.url)
    for chunk_id, chunk in zip(chunk_ids_of(document, reading.chunks), reading.chunks, strict=True):
        yield (
            chunk_id,
            document,
            chunk.ordinal,
            chunk.heading,
            chunk.page,
            chunk.text,
            chunk.tokens,
            language_of(chunk.text, reading.document.language),
            embedded_sha256(chunk),
            pack(chunk_text(reading.document.title, chunk.heading, chunk.text)),
        )


def _chunk_ids(build: Build, readings: Sequence[Reading]) -> list[UUID]:
    source = build.task.source_id
    return [one for reading in readings for one in chunk_ids_of(document_id(source, reading.url), reading.chunks)]


def embedding_rows(build: Build, chunk_ids: Sequence[UUID], vectors: NDArray[np.float32]) -> bytes:
    """The rows of `embeddings` in PostgreSQL's binary COPY format, built at once: every field has a fixed width.

    In the order of the key, by which a search reads them: in any other it takes up to twice as long.
    """
    count, dimensions = vectors.shape
    task = build.task
    fields: list[tuple[str, str, Any]] = [
        ("org_id", "V16", np.void(task.org_id.bytes)),
        ("bot_id", "V16", np.void(task.bot_id.bytes)),
        ("source_id", "V16", np.void(task.source_id.bytes)),
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
    return rows[np.argsort(rows["chunk_id"])].tobytes()


@dataclass(frozen=True, slots=True)
class _Staged:
    """Rows on their way into one table, through a temporary one."""

    table: str
    names: list[str]
    write: Callable[[Any], None]

    def insert(self) -> str:
        """The statement that puts them in place."""
        names = ", ".join(self.names)
        return (
            f"INSERT INTO {self.table} ({names}) SELECT {names} FROM staged_{self.table}"  # noqa: S608  # names are this module's own
            f" WHERE source_id = ANY (%s) {PAGE_AGAIN if self.table == 'pages' else 'ON CONFLICT DO NOTHING'}"
        )


def _row_writer(columns: dict[str, str], rows: Sequence[tuple[Any, ...]]) -> Callable[[Any], None]:
    def write(copy: Any) -> None:
        copy.set_types([*KEY_COLUMNS.values(), *columns.values()])
        for row in rows:
            copy.write_row(row)

    return write


def _send(connection: Connection, staged: Sequence[_Staged]) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        made = [f"CREATE TEMPORARY TABLE staged_{one.table} (LIKE {one.table}) ON COMMIT DROP" for one in staged]
        cursor.execute("; ".join(made))
        for one in staged:
            with cursor.copy(f"COPY staged_{one.table} ({', '.join(one.names)}) FROM STDIN (FORMAT BINARY)") as copy:
                one.write(copy)
