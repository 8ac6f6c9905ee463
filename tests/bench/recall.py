"""Recall inside a bot, and processor time of a search: our exact scan as the API's role, beside one HNSW for all bots."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
from numpy.typing import NDArray
from psutil import Process
from sqlalchemy.ext.asyncio import create_async_engine

from chat_api.chat.retrieve import search
from chat_api.core.database import CONNECT_ARGS, AsyncEngines
from chat_api.core.embeddings import EmbeddingSpace
from tests.bench.stage import provider, running_stack
from workers.store.rows import COPY_HEADER, COPY_TRAILER, KEY_COLUMNS, Build, embedding_rows
from workers.tasks.life import Task

BOTS, CHUNKS, DIMENSIONS, QUESTIONS, K = 100, 500, 384, 200, 10
SPACE = EmbeddingSpace("text-embedding-3-small", DIMENSIONS)
Floats = NDArray[np.float32]

PEER = (
    f"CREATE TABLE peer (bot integer, chunk integer, embedding vector({DIMENSIONS}))",
    "SET maintenance_work_mem = '1GB'",
)
PEER_INDEX = "CREATE INDEX ON peer USING hnsw (embedding vector_cosine_ops)"
PEER_SEARCH = "SELECT chunk FROM peer WHERE bot = %s ORDER BY embedding <=> %s::vector LIMIT %s"


def measure_recall() -> dict[str, Any]:
    """Recall@10 and milliseconds of the server's processor for a search, with questions like the bot's text and unlike it."""
    dice = np.random.default_rng(7)
    centres = _unit(dice.standard_normal((BOTS, DIMENSIONS)))
    vectors = _unit(centres[:, None] + 0.05 * dice.standard_normal((BOTS, CHUNKS, DIMENSIONS)))
    bots = dice.integers(0, BOTS, QUESTIONS)
    # Every other question is about what another bot knows.
    about = np.where(np.arange(QUESTIONS) % 2, (bots + 1) % BOTS, bots)
    asked = _unit(centres[about] + 0.05 * dice.standard_normal((QUESTIONS, DIMENSIONS)))
    right = [set(np.argsort(-(vectors[bot] @ query))[:K].tolist()) for bot, query in zip(bots, asked, strict=True)]
    with provider(0) as base_url, running_stack(base_url) as (_, described), resting(described):
        dsn = described["chat_db_dsn"]
        orgs = [(uuid4(), uuid4()) for _ in range(BOTS)]
        _fill(dsn, orgs, vectors)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        ours = asyncio.run(_ours(dsn, orgs, bots, asked))
        _fill_peer(dsn, vectors)
        peer = _peer(dsn, bots, asked)
    return {
        "chunks": BOTS * CHUNKS,
        "bots": BOTS,
        "ours": _figures(*ours, right),
        "hnsw": _figures(*peer, right),
    }


@contextlib.contextmanager
def resting(described: dict[str, Any]) -> Iterator[None]:
    """Holds the workers still: their sweeper would delete sources that the dashboard knows nothing of."""
    workers = [Process(pid) for name, pid in described["pids"].items() if name.startswith("worker")]
    family = [one for worker in workers for one in [worker, *worker.children(recursive=True)]]
    for one in family:
        one.suspend()
    try:
        yield
    finally:
        for one in family:
            one.resume()


def _figures(found: list[set[int]], cpu_s: float, right: list[set[int]]) -> dict[str, float]:
    return {
        "recall": float(np.mean([len(one & other) / K for one, other in zip(found, right, strict=True)])),
        "cpu_ms": 1000 * cpu_s / QUESTIONS,
    }


def _unit(vectors: NDArray[np.float64]) -> Floats:
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def _fill(dsn: str, bots: list[tuple[UUID, UUID]], vectors: Floats) -> None:
    """A bot of one source each; a chunk's id is its number, from 1 on."""
    ids = [UUID(int=number) for number in range(1, CHUNKS + 1)]
    columns = ", ".join([*KEY_COLUMNS, "chunk_id", "space_id", "vector"])
    with psycopg.connect(dsn) as connection:
        run = connection.execute
        run("INSERT INTO embedding_spaces (model, dimensions) VALUES (%s, %s)", (SPACE.model, SPACE.dimensions))
        for (org_id, bot_id), of_bot in zip(bots, vectors, strict=True):
            key = (org_id, bot_id, bot_id)
            run("INSERT INTO sources (org_id, bot_id, source_id, live_generation) VALUES (%s, %s, %s, 1)", key)
            run(
                "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version)"
                " SELECT %s, %s, %s, 1, 'live', space_id, %s, '' FROM embedding_spaces",
                (*key, bot_id),
            )
            task = Task(
                *(
                    1,
                    "read",
                    None,
                    org_id,
                    bot_id,
                    bot_id,
                    "text",
                    1,
                    1,
                    False,
                    0,
                    None,
                    1,
                    0,
                    False,
                    None,
                    0,
                    {},
                    "bulk",
                )
            )
            with connection.cursor().copy(f"COPY embeddings ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(COPY_HEADER + embedding_rows(Build(task, 1, 1, SPACE), ids, of_bot) + COPY_TRAILER)
        run(
            "INSERT INTO documents (org_id, bot_id, source_id, generation, document_id, title, media_type, text_sha256)"
            " SELECT org_id, bot_id, source_id, 1, source_id, '', '', '' FROM sources"
        )
        run(
            "INSERT INTO chunks (org_id, bot_id, source_id, generation, chunk_id, document_id, ordinal, heading, text,"
            " tokens, embedded_sha256) SELECT org_id, bot_id, source_id, 1, chunk_id, source_id, 0, '', 'x', 1, ''"
            " FROM embeddings"
        )


async def _ours(
    dsn: str, bots: list[tuple[UUID, UUID]], numbers: NDArray[np.int64], asked: Floats
) -> tuple[list[set[int]], float]:
    """What each question finds, as the API's role, that sees one org's rows; the backend's processor time in seconds."""
    url, role = dsn.replace("postgresql://", "postgresql+psycopg://"), {"options": "-c role=chat_api"}
    engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={**CONNECT_ARGS, **role})
    engines, found = AsyncEngines(engine, engine), []
    async with engine.connect() as connection:
        backend = Process((await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one())
    before = _cpu_s(backend)
    for number, query in zip(numbers, asked, strict=True):
        org_id, bot_id = bots[number]
        passages = await search(engines, org_id, bot_id, SPACE, query, K)
        found.append({one.passage.chunk_id.int - 1 for one in passages})
    spent = _cpu_s(backend) - before
    await engine.dispose()
    return found, spent


def _fill_peer(dsn: str, vectors: Floats) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in PEER:
            connection.execute(statement.encode())
        with connection.cursor().copy("COPY peer FROM STDIN") as copy:
            for bot, of_bot in enumerate(vectors):
                for chunk, vector in enumerate(of_bot):
                    copy.write_row((bot, chunk, str(vector.tolist())))
        connection.execute(PEER_INDEX)
        connection.execute("VACUUM ANALYZE peer")


def _peer(dsn: str, numbers: NDArray[np.int64], asked: Floats) -> tuple[list[set[int]], float]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET hnsw.iterative_scan = relaxed_order")
        backend = Process(connection.info.backend_pid)
        before = _cpu_s(backend)
        found = [
            {row[0] for row in connection.execute(PEER_SEARCH, (int(number), str(query.tolist()), K))}
            for number, query in zip(numbers, asked, strict=True)
        ]
        return found, _cpu_s(backend) - before


def _cpu_s(process: Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def recall_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    names = {"ours": "exact scan of the bot, as the API's role", "hnsw": "one HNSW for all, iterative scan"}
    return [
        (
            f"{result['chunks']:,} chunks in {result['bots']} bots: {name}",
            f"recall@{K} {result[key]['recall']:.3f}, {result[key]['cpu_ms']:.1f} ms CPU",
        )
        for key, name in names.items()
    ]
