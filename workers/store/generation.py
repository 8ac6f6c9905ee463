"""Builds a generation beside the live one: opened, written under its task's fence, and what is unchanged copied over.

Rows are locked in one order by everybody: sources, tasks, jobs, generations and what is in them, bots.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import EmbeddingUnavailable, SourceDeleted
from chat_api.core.models.dashboard import DashboardBot
from workers.documents import READER_VERSION
from workers.store.rows import Build, Part, keys_of, stage_readings
from workers.tasks.life import LeaseLostError, Task, assert_held, hold

# --- opening ----------------------------------------------------------------------------------------------------------

REMEMBER_BOT = text("""
    INSERT INTO bots (org_id, bot_id, name, config, allowed_origins)
    VALUES (:org_id, :bot_id, :name, CAST(:config AS jsonb), :allowed_origins)
    ON CONFLICT (org_id, bot_id) DO NOTHING
""")


def remember_bot(connection: Connection, bot: DashboardBot) -> None:
    """Makes the bot known, with a first snapshot of its configuration."""
    values = {
        "org_id": bot.org_id,
        "bot_id": bot.id,
        "name": bot.name,
        "config": json.dumps(bot.config if isinstance(bot.config, dict) else {}),
        "allowed_origins": bot.allowed_origins or [],
    }
    connection.execute(REMEMBER_BOT, values)


LOCK_SOURCES = text("""
    SELECT org_id, bot_id, source_id FROM sources
    JOIN unnest(CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]))
         AS given (org_id, bot_id, source_id) USING (org_id, bot_id, source_id)
    WHERE sources.deleted_at IS NULL
    ORDER BY source_id, bot_id FOR UPDATE OF sources
""")
SPACES_OF_BOTS = text("""
    SELECT bot.org_id, bot.bot_id, space_id, model, dimensions
    FROM bots AS bot JOIN embedding_spaces AS space USING (space_id)
    WHERE (bot.org_id, bot.bot_id) IN (SELECT * FROM unnest(CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[])))
""")
OPEN = text("""
    WITH given AS (
        SELECT * FROM unnest(CAST(:task_ids AS bigint[]), CAST(:job_ids AS uuid[]), CAST(:org_ids AS uuid[]),
                             CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:space_ids AS int[]),
                             CAST(:versions AS text[]))
               AS given (task_id, job_id, org_id, bot_id, source_id, space_id, source_version)
    ), numbered AS (
        UPDATE sources SET last_generation = last_generation + 1 FROM given
        WHERE sources.org_id = given.org_id AND sources.bot_id = given.bot_id AND sources.source_id = given.source_id
        RETURNING given.*, last_generation AS generation
    ), opened AS (
        INSERT INTO generations (org_id, bot_id, source_id, generation, space_id, job_id, source_version,
                                 reader_version, crawl)
        SELECT org_id, bot_id, source_id, generation, space_id, job_id, source_version, :reader_version,
               CAST(:crawl AS jsonb)
        FROM numbered
    ), named AS (
        UPDATE training_jobs AS job SET generation = numbered.generation, source_version = numbered.source_version
        FROM numbered WHERE job.job_id = numbered.job_id
    )
    SELECT task_id, generation FROM numbered
""")


def open_generations(
    connection: Connection,
    wanted: Sequence[tuple[Task, str]],
    space: EmbeddingSpace,
    *,
    crawl: Mapping[str, Any] | None = None,
) -> dict[int, Build]:
    """Begins a generation for each (task, source version), by task id; none where the fence or the source is gone.

    It is of the space that the bot reads, or of `space` where the bot reads none yet. Unfinished ones of earlier attempts
    are left until the switch: their vectors are known.
    """
    versions = {task.task_id: version for task, version in wanted}
    tasks = _held_and_alive(connection, [task for task, _ in wanted])
    if not tasks:
        return {}
    spaces = _spaces(connection, tasks, space)
    values = keys_of(tasks) | {
        "job_ids": [task.job_id for task in tasks],
        "space_ids": [spaces[task.bot_id][0] for task in tasks],
        "versions": [versions[task.task_id] for task in tasks],
        "reader_version": READER_VERSION,
        "crawl": None if crawl is None else json.dumps(crawl),
    }
    numbers = {row.task_id: row.generation for row in connection.execute(OPEN, values)}
    return {task.task_id: Build(task, numbers[task.task_id], *spaces[task.bot_id]) for task in tasks}


def open_generation(
    connection: Connection,
    task: Task,
    space: EmbeddingSpace,
    source_version: str,
    *,
    crawl: Mapping[str, Any] | None = None,
) -> Build:
    """As `open_generations`, for one task. Raises SourceDeleted, LeaseLostError."""
    builds = open_generations(connection, [(task, source_version)], space, crawl=crawl)
    if task.task_id not in builds:
        assert_held(connection, task)
        raise SourceDeleted
    return builds[task.task_id]


def alive_sources(connection: Connection, tasks: Sequence[Task]) -> set[UUID]:
    """Holds the tasks' sources until the transaction ends; the ids of those without a tombstone."""
    return {row.source_id for row in connection.execute(LOCK_SOURCES, keys_of(tasks))}


def _held_and_alive(connection: Connection, tasks: Sequence[Task]) -> list[Task]:
    alive = alive_sources(connection, tasks)
    held = hold(connection, tasks)
    return [task for task in tasks if task.source_id in alive and task.task_id in held]


def _spaces(
    connection: Connection, tasks: Sequence[Task], space: EmbeddingSpace
) -> dict[UUID, tuple[int, EmbeddingSpace]]:
    """By bot, the space that its builds write."""
    rows = connection.execute(SPACES_OF_BOTS, keys_of(tasks)).all()
    found = {row.bot_id: (int(row.space_id), EmbeddingSpace(row.model, row.dimensions)) for row in rows}
    without = {task.bot_id for task in tasks} - set(found)
    if without:
        first = ensure_space(connection, space), space
        found |= dict.fromkeys(without, first)
    return found


ENSURE_SPACE = text("""
    INSERT INTO embedding_spaces (model, dimensions) VALUES (:model, :dimensions) ON CONFLICT DO NOTHING
""")
FIND_SPACE = text("SELECT space_id FROM embedding_spaces WHERE model = :model AND dimensions = :dimensions")


def ensure_space(connection: Connection, space: EmbeddingSpace) -> int:
    """The space's id, made on first use."""
    values = {"model": space.model, "dimensions": space.dimensions}
    found = connection.execute(FIND_SPACE, values).scalar_one_or_none()
    if found is None:
        connection.execute(ENSURE_SPACE, values)
        found = connection.execute(FIND_SPACE, values).scalar_one()
    return int(found)


FIND_BUILD = text("""
    SELECT generation, space_id, model, dimensions FROM generations JOIN embedding_spaces USING (space_id)
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = :generation
      AND job_id = :job_id AND state = 'building'
""")


def find_build(connection: Connection, task: Task) -> Build:
    """The generation that the task's run has opened. Raises LeaseLostError when it was given up."""
    values = {
        **{"org_id": task.org_id, "bot_id": task.bot_id, "source_id": task.source_id},
        "generation": task.generation,
        "job_id": task.job_id,
    }
    row = connection.execute(FIND_BUILD, values).one_or_none()
    if row is None:
        raise LeaseLostError
    return Build(task, row.generation, row.space_id, EmbeddingSpace(row.model, row.dimensions))


# --- writing ----------------------------------------------------------------------------------------------------------


def write_readings(connection: Connection, parts: Sequence[Part], *, ledger: bool = True) -> set[int]:
    """Adds what was read to the generations, in the caller's transaction, once in it; the ids of the tasks still held.

    Of the others nothing is written. Each part's vectors are unit rows, one for each chunk of its readings, in their
    order. Without `ledger` only chunks and embeddings are written: further ones of documents that are there.
    """
    staged = stage_readings(connection, parts, ledger=ledger)
    tasks = [build.task for build, _, _ in parts]
    held = hold(connection, tasks)
    sources = [task.source_id for task in tasks if task.task_id in held]
    for insert in staged if held else []:
        connection.exec_driver_sql(insert, (sources,))
    return held


# What a page's row says already, such as the server's new validators, stays; what it lacks comes from the live one.
# The bots are named once more as a value, for the planner: it then looks at their partitions alone.
COPY_PAGES = text("""
    WITH given AS (
        SELECT * FROM unnest(CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]),
                             CAST(:generations AS int[]), CAST(:space_ids AS int[]), CAST(:live_generations AS int[]),
                             CAST(:urls AS text[]))
               AS given (org_id, bot_id, source_id, generation, space_id, live_generation, url)
    ), page AS (
        INSERT INTO pages (org_id, bot_id, source_id, generation, url, outcome, http_status, fetched_at, content_sha256,
                           etag, last_modified, document_id, chunks, position, depth, links)
        SELECT org_id, bot_id, source_id, given.generation, url, :outcome, http_status, fetched_at, content_sha256,
               etag, last_modified, document_id, chunks, position, depth, links
        FROM given JOIN pages AS live USING (org_id, bot_id, source_id, url)
        WHERE live.generation = given.live_generation
        ON CONFLICT (org_id, bot_id, source_id, generation, url) DO UPDATE
        SET outcome = :outcome, document_id = excluded.document_id, chunks = excluded.chunks,
            http_status = coalesce(pages.http_status, excluded.http_status),
            fetched_at = coalesce(pages.fetched_at, excluded.fetched_at),
            content_sha256 = coalesce(pages.content_sha256, excluded.content_sha256),
            etag = coalesce(pages.etag, excluded.etag),
            last_modified = coalesce(pages.last_modified, excluded.last_modified),
            position = coalesce(pages.position, excluded.position), depth = coalesce(pages.depth, excluded.depth),
            links = coalesce(pages.links, excluded.links)
        WHERE pages.chunks = 0
        RETURNING org_id, bot_id, source_id, generation, url, document_id
    ), copied AS (
        SELECT page.*, given.live_generation, given.space_id
        FROM page JOIN given USING (org_id, bot_id, source_id, generation, url)
    ), document AS (
        INSERT INTO documents (org_id, bot_id, source_id, generation, document_id, url, title, media_type, language, pages,
                               published_on, modified_on, text_sha256)
        SELECT org_id, bot_id, source_id, copied.generation, document_id, live.url, title, media_type, language, pages,
               published_on, modified_on, text_sha256
        FROM copied JOIN documents AS live USING (org_id, bot_id, source_id, document_id)
        WHERE live.generation = copied.live_generation
        ON CONFLICT DO NOTHING
    ), live AS (
        SELECT copied.generation AS new_generation, copied.space_id, chunks.*
        FROM copied JOIN chunks USING (org_id, bot_id, source_id, document_id)
        WHERE chunks.generation = copied.live_generation AND chunks.bot_id = ANY (CAST(:bot_ids AS uuid[]))
    ), chunk AS (
        INSERT INTO chunks (org_id, bot_id, source_id, generation, chunk_id, document_id, ordinal, heading, page, text,
                            tokens, language, embedded_sha256, lexemes)
        SELECT org_id, bot_id, source_id, new_generation, chunk_id, document_id, ordinal, heading, page, text, tokens,
               language, embedded_sha256, lexemes
        FROM live
        ON CONFLICT DO NOTHING
    ), embedding AS (
        INSERT INTO embeddings (org_id, bot_id, source_id, generation, space_id, chunk_id, vector)
        SELECT live.org_id, live.bot_id, live.source_id, new_generation, old.space_id, live.chunk_id, vector
        FROM live JOIN bots ON bots.org_id = live.org_id AND bots.bot_id = live.bot_id
        CROSS JOIN LATERAL (
            SELECT space_id, vector FROM embeddings
            WHERE org_id = live.org_id AND bot_id = live.bot_id AND source_id = live.source_id
              AND generation = live.generation AND chunk_id = live.chunk_id
              AND space_id IN (live.space_id, bots.next_space_id) AND bot_id = ANY (CAST(:bot_ids AS uuid[]))
        ) AS old
        ON CONFLICT DO NOTHING
        RETURNING org_id, bot_id, source_id, generation, space_id
    )
    SELECT (SELECT count(*) FROM live) AS chunks,
           (SELECT count(*) FROM embedding JOIN (SELECT DISTINCT org_id, bot_id, source_id, generation, space_id FROM given)
            AS wanted USING (org_id, bot_id, source_id, generation, space_id)) AS vectors
""")
SPACE_CHANGED = "The bot's embedding model was changed meanwhile. Training goes on by itself."


def copy_unchanged(
    connection: Connection, build: Build, live_generation: int, urls: Sequence[str], outcome: str
) -> int:
    """Copies the rows of pages from the live generation inside the database; how many chunks.

    In the caller's transaction, which holds the task. Raises EmbeddingUnavailable when they lack vectors of the build's
    space.
    """
    return copy_pages(connection, [(build, live_generation, url) for url in urls], outcome)


def copy_pages(connection: Connection, pages: Sequence[tuple[Build, int, str]], outcome: str) -> int:
    """As `copy_unchanged`, of (build, live generation, url), for several builds at once."""
    if not pages:
        return 0
    values = keys_of([build.task for build, _, _ in pages]) | {
        "generations": [build.generation for build, _, _ in pages],
        "space_ids": [build.space_id for build, _, _ in pages],
        "live_generations": [live for _, live, _ in pages],
        "urls": [url for _, _, url in pages],
        "outcome": outcome,
    }
    copied = connection.execute(COPY_PAGES, values).one()
    if copied.vectors != copied.chunks:
        raise EmbeddingUnavailable(SPACE_CHANGED)
    return int(copied.chunks)
