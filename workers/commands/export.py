"""Writes what a bot has learnt into one file: a backup of one tenant, or a bot on its way to another installation."""

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID, uuid4

import numpy as np
from sqlalchemy import Connection, Engine, Row, text

from chat_api.core.database import Engines, of_org
from chat_api.core.errors import ServiceError
from workers.commands.archive import (
    MANIFEST,
    SOURCE,
    TABLES,
    VECTORS,
    ArchiveWriter,
    Definition,
    FileDefinition,
    Manifest,
    Space,
    entry_name,
    new_archive,
)
from workers.commands.rows import Target, find_target
from workers.commands.terminal import Bar

AT_ONCE = 500
LIVE = text("""
    SELECT source_id, generation, build.source_version, build.reader_version, build.crawl
    FROM sources JOIN generations AS build USING (org_id, bot_id, source_id)
    WHERE org_id = :org_id AND bot_id = :bot_id AND deleted_at IS NULL AND generation = live_generation
      AND (CAST(:source_id AS uuid) IS NULL OR source_id = :source_id)
    ORDER BY source_id
""")
BOT = text("""
    SELECT name, space_id, model, dimensions FROM bots JOIN embedding_spaces USING (space_id)
    WHERE org_id = :org_id AND bot_id = :bot_id
""")
GIVEN = text("""
    SELECT source.id, type, url, title, content, options, file.id AS file_id, object_key, filename, content_type, size_bytes
    FROM training_sources AS source
    LEFT JOIN files AS file ON file.id = source.file_id AND file.org_id = source.org_id
    WHERE source.id = :source_id AND source.org_id = :org_id AND source.bot_id = :bot_id
""")
# Of the live generation as it is in this transaction; the keys are the importer's to give.
COUNT = text("""
    SELECT count(*) AS chunks, count(vector.chunk_id) AS vectors
    FROM chunks AS chunk LEFT JOIN embeddings AS vector
      ON (vector.org_id, vector.bot_id, vector.source_id, vector.generation, vector.chunk_id)
       = (chunk.org_id, chunk.bot_id, chunk.source_id, chunk.generation, chunk.chunk_id) AND vector.space_id = :space_id
    WHERE chunk.org_id = :org_id AND chunk.bot_id = :bot_id AND chunk.source_id = :source_id
      AND chunk.generation = :generation
""")
OF = "org_id = %(org_id)s AND bot_id = %(bot_id)s AND source_id = %(source_id)s AND generation = %(generation)s"
ROWS = {
    "pages": f"""
        SELECT convert_to(CAST(row_to_json(row) AS text), 'UTF8') FROM (
            SELECT url, outcome, message, http_status, fetched_at, content_sha256, etag, last_modified, document_id, chunks,
                   position, depth, links
            FROM pages WHERE {OF} ORDER BY url) AS row""",  # noqa: S608  # the condition is this module's own
    "documents": f"""
        SELECT convert_to(CAST(row_to_json(row) AS text), 'UTF8') FROM (
            SELECT document_id, url, title, media_type, language, pages, published_on, modified_on, text_sha256
            FROM documents WHERE {OF} ORDER BY document_id) AS row""",  # noqa: S608
    "chunks": f"""
        SELECT convert_to(CAST(row_to_json(row) AS text), 'UTF8') FROM (
            SELECT chunk_id, document_id, ordinal, heading, page, text, tokens, language, embedded_sha256, lexemes
            FROM chunks WHERE {OF} ORDER BY document_id, ordinal, chunk_id) AS row""",  # noqa: S608
}
VECTORS_OF = f"""
    SELECT vector FROM chunks JOIN embeddings USING (org_id, bot_id, source_id, generation, chunk_id)
    WHERE {OF} AND space_id = %(space_id)s ORDER BY document_id, ordinal, chunk_id
"""  # noqa: S608


class NothingToExport(ServiceError):
    """The bot has learnt nothing yet."""

    code = "bad_command"
    retryable = False


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write it; files of the bucket are not in it")
    parser.add_argument("--bot", type=UUID, required=True, metavar="ID", help="the bot")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")


def export(options: argparse.Namespace, engines: Engines, max_file_mb: int, stream: TextIO) -> bool:
    """Writes `options.file`, source by source, each as it is at one moment; whether every live source is in it.

    Raises NothingToExport, RowsRefused, OSError, and what a database raises that is away.
    """
    if options.file.exists() and not options.overwrite:
        raise NothingToExport(f"{options.file} is there already; --overwrite replaces it.")
    target = find_target(engines.dashboard, options.bot, max_file_mb=max_file_mb)
    bot, sources = _live(engines.chat, target)
    bar, written = Bar("exported", len(sources), stream), 0
    with new_archive(options.file) as archive:
        for row in sources:
            given = _given(engines.dashboard, target, row.source_id)
            if given and _export_source(archive, written, engines.chat, target, bot.space_id, given):
                written += 1
            else:
                bar.say(f"{row.source_id}: left out: the dashboard has no such source any more")
            bar.advance()
        _write(archive, MANIFEST, _manifest(target, bot, written))
    bar.end()
    return written == len(sources)


def _live(chat: Engine, target: Target) -> tuple[Row[Any], Sequence[Row[Any]]]:
    """The bot with its space, and its live generations. Raises NothingToExport."""
    with of_org(chat, target.org_id).connect() as connection:
        bot = connection.execute(BOT, target.key).one_or_none()
        sources = connection.execute(LIVE, {**target.key, "source_id": None}).all()
    if bot is None or not sources:
        raise NothingToExport
    return bot, sources


def _given(dashboard: Engine, target: Target, source_id: UUID) -> Row[Any] | None:
    with dashboard.connect() as connection:
        return connection.execute(GIVEN, {**target.key, "source_id": source_id}).one_or_none()


def _manifest(target: Target, bot: Row[Any], sources: int) -> Manifest:
    return Manifest(
        id=str(uuid4()),
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bot_id=str(target.bot_id),
        bot_name=bot.name,
        space=Space(model=bot.model, dimensions=bot.dimensions),
        sources=sources,
    )


def _export_source(
    archive: ArchiveWriter, number: int, chat: Engine, target: Target, space_id: int, given: Row[Any]
) -> bool:
    """Writes what the source answers from at this moment; False where it does not answer any more."""
    engine = of_org(chat, target.org_id).execution_options(isolation_level="REPEATABLE READ")
    with engine.begin() as connection:
        values = {**target.key, "source_id": given.id, "space_id": space_id}
        live = connection.execute(LIVE, values).one_or_none()
        if live is None:
            return False
        values["generation"] = live.generation
        count = connection.execute(COUNT, values).one()
        if count.chunks != count.vectors:
            raise NothingToExport(f"Source {given.id} has passages without vectors; train it, then try again.")
        _write(archive, entry_name(number, SOURCE), _definition(given, live, count.chunks))
        for table in TABLES:
            archive.write(entry_name(number, f"{table}.ndjson"), _lines(connection, ROWS[table], values))
        archive.write(entry_name(number, VECTORS), _vectors(connection, values))
    return True


def _definition(given: Row[Any], live: Row[Any], chunks: int) -> Definition:
    file = given.file_id and FileDefinition(
        id=str(given.file_id),
        object_key=given.object_key,
        filename=given.filename,
        content_type=given.content_type,
        size_bytes=given.size_bytes,
    )
    return Definition(
        **{name: getattr(given, name) for name in ("type", "url", "title", "content", "options")},
        id=str(given.id),
        file=file or None,
        source_version=live.source_version,
        reader_version=live.reader_version,
        crawl=live.crawl,
        chunks=chunks,
    )


def _write(archive: ArchiveWriter, name: str, model: Manifest | Definition) -> None:
    archive.write(name, [json.dumps(model.model_dump(mode="json")).encode()])


def _lines(connection: Connection, query: str, values: dict[str, Any]) -> Iterator[bytes]:
    for row in _fetched(connection, query, values):
        yield bytes(row[0]) + b"\n"


def _vectors(connection: Connection, values: dict[str, Any]) -> Iterator[bytes]:
    for row in _fetched(connection, VECTORS_OF, values):
        # A halfvec on the wire: dimensions and a zero, two bytes each, then its numbers, big-endian.
        yield np.frombuffer(row[0][4:], ">f2").astype("<f2").tobytes()


def _fetched(connection: Connection, query: str, values: dict[str, Any]) -> Iterator[Any]:
    driver: Any = connection.connection.driver_connection
    with driver.cursor(name="export", binary=True) as cursor:
        cursor.itersize = AT_ONCE
        yield from cursor.execute(query, values)
