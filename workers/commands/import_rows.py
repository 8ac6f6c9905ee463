"""Writes an exported source's rows into a generation that is being built, under its task's fence, batch by batch."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, IntegrityError

from workers.chunk import embedded_text
from workers.commands.archive import Archive, BadArchive
from workers.receipt import Receipt
from workers.stages import Stages, Vectors
from workers.store.known import known_vectors
from workers.store.rows import COPY_HEADER, COPY_TRAILER, KEY_COLUMNS, Build, document_id, embedding_rows
from workers.store.usage import add_usage
from workers.tasks.lease import Lease, Progress
from workers.tasks.life import LeaseLostError, assert_held, hold

AT_ONCE = 500
COLUMNS = {
    "pages": "url, outcome, message, http_status, fetched_at, content_sha256, etag, last_modified, document_id, chunks,"
    " position, depth, links",
    "documents": "document_id, url, title, media_type, language, pages, published_on, modified_on, text_sha256",
    "chunks": "chunk_id, document_id, ordinal, heading, page, text, tokens, language, embedded_sha256, lexemes",
}
INSERT = {
    table: text(f"""
        INSERT INTO {table} (org_id, bot_id, source_id, generation, {names})
        SELECT :org_id, :bot_id, :source_id, :generation, {names}
        FROM json_populate_recordset(CAST(NULL AS {table}), CAST(:rows AS json))
    """)  # noqa: S608  # names are this module's own
    for table, names in COLUMNS.items()
}
EMBEDDED = ", ".join([*KEY_COLUMNS, "chunk_id", "space_id", "vector"])
STAGE = "CREATE TEMPORARY TABLE staged_import (LIKE embeddings) ON COMMIT DROP"
COPY = f"COPY staged_import ({EMBEDDED}) FROM STDIN (FORMAT BINARY)"
PLACE = f"INSERT INTO embeddings ({EMBEDDED}) SELECT {EMBEDDED} FROM staged_import"  # noqa: S608

Row = dict[str, Any]


@dataclass(slots=True)
class Ids:
    """The exported source's ids as this one's: the same ones for the same source, else made of the new source's id."""

    old: UUID
    new: UUID
    documents: dict[str, UUID] = field(default_factory=dict)
    """By old id, those that its pages name."""

    def page(self, row: Row) -> Row:
        """A row of the ledger; its document gets the id that training would give it."""
        old = row.get("document_id")
        if old is not None and self.old != self.new:
            named = str(document_id(self.old, row["url"])) == old
            made = document_id(self.new, row["url"]) if named else uuid5(self.new, old)
            self.documents[old] = made if named else self.documents.get(old, made)
        return row | {"document_id": None if old is None else self._document(old)}

    def document(self, row: Row) -> Row:
        """A document's row."""
        return row | {"document_id": self._document(row["document_id"])}

    def chunk(self, row: Row) -> Row:
        """A chunk's row."""
        chunk = row["chunk_id"] if self.old == self.new else str(uuid5(self.new, row["chunk_id"]))
        return row | {"chunk_id": chunk, "document_id": self._document(row["document_id"])}

    def _document(self, old: str) -> str:
        return old if self.old == self.new else str(self.documents.get(old) or uuid5(self.new, old))


@dataclass(slots=True)
class Importer:
    """One source on its way from the file into its build. `stages` are None where the file's vectors are taken."""

    archive: Archive
    number: int
    build: Build
    engine: Engine
    """Whose transactions see the source's org."""
    lease: Lease
    progress: Progress
    ids: Ids
    stages: Stages | None
    titles: dict[str, str] = field(default_factory=dict)
    receipt: Receipt = field(default_factory=Receipt)
    """What was embedded; it is on the bot's account already."""

    def write(self) -> None:
        """Writes all rows. Raises BadArchive, LeaseLostError, and what the embedding provider raises."""
        with _as_exported():
            for rows in self._rows("pages"):
                self._insert("pages", [self.ids.page(row) for row in rows])
            for rows in self._rows("documents"):
                self.titles |= {row["document_id"]: row["title"] for row in rows} if self.stages else {}
                self._insert("documents", [self.ids.document(row) for row in rows])
            vectors = self.archive.vectors(self.number)
            for rows in self._rows("chunks"):
                self._chunks(rows, vectors)
            if next(vectors, None) is not None:
                raise BadArchive("The export has more vectors than passages.")

    def _rows(self, table: str) -> Iterator[list[Row]]:
        for rows in self.archive.rows(self.number, table, AT_ONCE):
            self.lease.check()
            yield rows

    def _insert(self, table: str, rows: list[Row]) -> None:
        with self.engine.begin() as connection:
            assert_held(connection, self.build.task)
            _insert(connection, table, self.build, rows)

    def _chunks(self, rows: list[Row], stored: Iterator[NDArray[np.float32]]) -> None:
        taken = list(islice(stored, len(rows)))
        if len(taken) != len(rows):
            raise BadArchive("The export has fewer vectors than passages.")
        if self.stages:
            self._embed(rows, self.stages)
        else:
            self._store(rows, np.stack(taken), _spent(reused=len(rows)))

    def _embed(self, rows: list[Row], stages: Stages) -> None:
        """Stores the rows with vectors of their texts, each paid for once; with those that came, where not all do."""
        texts = [
            embedded_text(self.titles[row["document_id"]], row["heading"], row["text"], _bytes(row["embedded_sha256"]))
            for row in rows
        ]
        shas = [hashlib.sha256(one.encode()).digest() for one in texts]
        with self.engine.begin() as connection:
            come = known_vectors(connection, *self.build.key[:2], self.build.space_id, shas)
        new = {sha: place for place, sha in enumerate(shas) if sha not in come}

        def received(batch: range, vectors: Vectors) -> None:
            come.update(zip(list(new)[batch.start : batch.stop], vectors, strict=True))

        try:
            if new:
                stages.embed(
                    self.build.space, [texts[place] for place in new.values()], self.lease.check, on_batch=received
                )
        finally:
            self._keep(rows, shas, come, [place for place in new.values() if shas[place] in come], stages)

    def _keep(
        self, rows: list[Row], shas: list[bytes], come: Mapping[bytes, Vectors], paid: Sequence[int], stages: Stages
    ) -> None:
        """Stores the rows whose vectors there are; `paid` are the places of those that were embedded for it."""
        there = [place for place, sha in enumerate(shas) if sha in come]
        tokens = sum(int(rows[place]["tokens"]) for place in paid)
        spent = _spent(len(paid), len(there) - len(paid), tokens, stages.cost(self.build.space, tokens))
        if there:
            self._store([rows[place] for place in there], np.array([come[shas[place]] for place in there]), spent)

    def _store(self, rows: Sequence[Row], vectors: Vectors, spent: Receipt) -> None:
        """Writes chunks and what their vectors took, this also where the lease is lost. Raises LeaseLostError."""
        renamed = [self.ids.chunk(row) for row in rows]
        with self.engine.begin() as connection:
            _stage(connection, embedding_rows(self.build, [UUID(row["chunk_id"]) for row in renamed], vectors))
            held = bool(hold(connection, [self.build.task]))
            add_usage(connection, [(self.build, spent)])
            if held:
                _insert(connection, "chunks", self.build, renamed)
                connection.exec_driver_sql(PLACE)
        if not held:
            raise LeaseLostError
        self.receipt.merge(spent)
        self.progress.done += len(rows)


@contextmanager
def _as_exported() -> Iterator[None]:
    """Turns what rows do that `export` has not written into BadArchive."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadArchive("The export has a row that lacks what it needs.") from error
    except (DataError, IntegrityError) as error:
        raise BadArchive("The export has a row that can't be stored.") from error


def _spent(chunks: int = 0, reused: int = 0, tokens: int = 0, cost_microusd: int | None = 0) -> Receipt:
    receipt = Receipt()
    receipt.embedded(chunks=chunks, reused=reused, tokens=tokens, cost_microusd=cost_microusd)
    return receipt


def _insert(connection: Connection, table: str, build: Build, rows: list[Row]) -> None:
    org_id, bot_id, source_id, generation = build.key
    key: Mapping[str, Any] = {"org_id": org_id, "bot_id": bot_id, "source_id": source_id, "generation": generation}
    connection.execute(INSERT[table], {**key, "rows": json.dumps(rows)})


def _stage(connection: Connection, rows: bytes) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.execute(STAGE)
        with cursor.copy(COPY) as copy:
            copy.write(COPY_HEADER + rows + COPY_TRAILER)


def _bytes(column: str) -> bytes:
    return bytes.fromhex(column.removeprefix("\\x"))
