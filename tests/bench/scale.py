"""Many bots in one database: recall inside a bot, processor time and bytes per chunk, beside one HNSW index for all of them.

SCALE is `small`, `full` (1M chunks of 384 dimensions in 1,000 bots, 200,000 of 1,536; some 10 GB of disk) or a list of
dimensions:bots:chunks. Vectors lie around a centre for each bot; every other question is about what another bot knows.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from psutil import Process
from psycopg import sql
from sqlalchemy.ext.asyncio import create_async_engine

from chat_api.chat.retrieve import search
from chat_api.core.database import CONNECT_ARGS, AsyncEngines
from chat_api.core.embeddings import EmbeddingSpace
from tests.bench.stage import percentile
from tests.servers import copied_database, make_chat_template, running
from workers.store.rows import COPY_HEADER, COPY_TRAILER, KEY_COLUMNS, Build, embedding_rows
from workers.tasks.life import Task

SIZES = {
    "small": "384:100:1000 1536:20:1000 384:1:50000 1536:1:25000",
    "full": "384:1000:1000 1536:200:1000 384:1:100000 1536:1:100000",
}
QUESTIONS, K = 200, 10
SPREAD = 0.05
MEMORY = {"shared_buffers": "4GB", "maintenance_work_mem": "4GB", "max_wal_size": "16GB"}
"""So that neither side reads files, and the index is built at once."""
MODEL = "text-embedding-3-small"
Floats = NDArray[np.float32]
# The index is used however small the table, and all of a question's work is its backend's.
PEER = ("enable_seqscan = off", "max_parallel_workers_per_gather = 0", "hnsw.iterative_scan = relaxed_order")
PEERS = {
    "hnsw": PEER,
    "hnsw_patient": (*PEER, "hnsw.max_scan_tuples = 2000000000", "hnsw.scan_mem_multiplier = 1000"),
}
PEER_SEARCH = "SELECT chunk FROM peer WHERE bot = %s ORDER BY embedding <=> %s::vector LIMIT %s"
BYTES = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('embeddings') WHERE isleaf"


@dataclass(frozen=True, slots=True)
class Size:
    """How many chunks a database has, in how many bots alike."""

    dimensions: int
    bots: int
    chunks: int
    """Of each bot."""

    @property
    def all(self) -> int:
        """Chunks of all bots."""
        return self.bots * self.chunks

    @property
    def space(self) -> EmbeddingSpace:
        """The vectors' space."""
        return EmbeddingSpace(MODEL, self.dimensions)


@dataclass(frozen=True, slots=True)
class Exam:
    """Questions, each to a bot, and the chunks (numbers within the bot) that are nearest."""

    bots: NDArray[np.int64]
    vectors: Floats
    right: list[set[int]]


@dataclass(slots=True)
class Tally:
    """What the questions found, and what that took."""

    found: list[set[int]]
    took_ms: list[float]
    cpu_s: float

    def figures(self, exam: Exam) -> dict[str, float]:
        """Recall@10, milliseconds of the server's processor for a question, and of waiting."""
        shares = [len(one & other) / K for one, other in zip(self.found, exam.right, strict=True)]
        return {
            "recall": float(np.mean(shares)),
            "cpu_ms": 1000 * self.cpu_s / len(shares),
            "p50_ms": percentile(self.took_ms, 50),
            "p99_ms": percentile(self.took_ms, 99),
        }


def measure() -> dict[str, Any]:
    """For each size: recall, processor time and waiting of both sides, bytes per chunk."""
    given = os.environ.get("SCALE", "small")
    sizes = [Size(*map(int, one.split(":"))) for one in SIZES.get(given, given).split()]
    found = {}
    with running(MEMORY) as servers:
        template = make_chat_template(servers.cluster_dsn)
        for size in sizes:
            with copied_database(servers.cluster_dsn, template) as dsn:
                found[f"{size.dimensions}:{size.bots}:{size.chunks}"] = _compared(dsn, size)
    return found


def _compared(dsn: str, size: Size) -> dict[str, Any]:
    centres = _unit(np.random.default_rng(7).standard_normal((size.bots, size.dimensions), np.float32))
    exam = _exam(size, centres)
    _fill(dsn, size, centres)
    ours = asyncio.run(_ours(dsn, size, exam))
    result: dict[str, Any] = {"ours": ours.figures(exam) | {"bytes": _bytes(dsn, BYTES) / size.all}}
    if size.bots > 1:
        built = _fill_peer(dsn, size, centres)
        rest = {"bytes": _bytes(dsn, "SELECT pg_total_relation_size('peer')") / size.all, "build_s": built}
        result |= {name: _peer(dsn, exam, given).figures(exam) | rest for name, given in PEERS.items()}
    return result


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _vectors(size: Size, centres: Floats, bot: int) -> Floats:
    """(chunks, dimensions) the bot's vectors, the same whenever it is asked for them; as halves, as both sides get them."""
    noise = np.random.default_rng([7, bot]).standard_normal((size.chunks, size.dimensions), np.float32)
    return _unit(centres[bot] + np.float32(SPREAD) * noise).astype(np.float16).astype(np.float32)


def _exam(size: Size, centres: Floats) -> Exam:
    dice = np.random.default_rng(11)
    bots = dice.integers(0, size.bots, QUESTIONS)
    strange = _unit(dice.standard_normal((QUESTIONS, size.dimensions), np.float32))
    neighbours = centres[(bots + 1) % size.bots] if size.bots > 1 else strange
    about = np.where((np.arange(QUESTIONS) % 2).astype(bool)[:, None], neighbours, centres[bots])
    noise = dice.standard_normal((QUESTIONS, size.dimensions), np.float32)
    asked = _unit(about + np.float32(SPREAD) * noise).astype(np.float16).astype(np.float32)
    right: dict[int, set[int]] = {}
    for bot in np.unique(bots):
        of_bot = np.flatnonzero(bots == bot)
        scores = _vectors(size, centres, int(bot)) @ asked[of_bot].T
        right |= {int(number): set(np.argsort(-scores[:, row])[:K].tolist()) for row, number in enumerate(of_bot)}
    return Exam(bots, asked, [right[number] for number in range(QUESTIONS)])


# --- ours -------------------------------------------------------------------------------------------------------------


def _key(bot: int) -> tuple[UUID, UUID]:
    """A bot's org and id; its source has the id, too."""
    return UUID(int=2 * bot + 1), UUID(int=(2 * bot + 2) << 64)


def _fill(dsn: str, size: Size, centres: Floats) -> None:
    """Each bot with one source, its chunks written in an order that says nothing of their ids."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        run = connection.execute
        run("SET session_replication_role = replica")  # foreign keys are not checked for each row
        run("INSERT INTO embedding_spaces (model, dimensions) VALUES (%s, %s)", (MODEL, size.dimensions))
        for bot in range(size.bots):
            org_id, bot_id = _key(bot)
            run(
                "INSERT INTO sources (org_id, bot_id, source_id, live_generation) VALUES (%s, %s, %s, 1)",
                (org_id, bot_id, bot_id),
            )
            with connection.cursor().copy(
                _copy("embeddings", [*KEY_COLUMNS, "chunk_id", "space_id", "vector"])
            ) as copy:
                for rows in _embeddings(size, centres, bot):
                    copy.write(rows)
        run(
            "INSERT INTO documents (org_id, bot_id, source_id, generation, document_id, title, media_type, text_sha256)"
            " SELECT org_id, bot_id, source_id, 1, source_id, '', '', '' FROM sources"
        )
        run(
            "INSERT INTO chunks (org_id, bot_id, source_id, generation, chunk_id, document_id, ordinal, heading, text,"
            " tokens, embedded_sha256) SELECT org_id, bot_id, source_id, 1, chunk_id, source_id, 0, '', 'x', 1, ''"
            " FROM embeddings"
        )
        run("VACUUM ANALYZE")


def _copy(table: str, names: list[str]) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table), columns)


def _embeddings(size: Size, centres: Floats, bot: int) -> Iterator[bytes]:
    org_id, bot_id = _key(bot)
    task = Task(1, "read", None, org_id, bot_id, bot_id, "text", 1, 1, False, 0, None, 1, 0, False, None, 0, {}, "bulk")
    order = np.random.default_rng([13, bot]).permutation(size.chunks)
    vectors = _vectors(size, centres, bot)
    yield COPY_HEADER
    yield embedding_rows(Build(task, 1, 1, size.space), [UUID(int=int(number)) for number in order], vectors[order])
    yield COPY_TRAILER


async def _ours(dsn: str, size: Size, exam: Exam) -> Tally:
    """The search of the API, as its role, which sees one org's rows."""
    url, role = dsn.replace("postgresql://", "postgresql+psycopg://"), {"options": "-c role=chat_api"}
    engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={**CONNECT_ARGS, **role})
    engines, tally = AsyncEngines(engine, engine), Tally([], [], 0.0)
    async with engine.connect() as connection:
        backend = Process((await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one())
    for warm in (True, False):
        tally, before = Tally([], [], 0.0), _cpu_s(backend)
        for bot, query in zip(exam.bots[: 20 if warm else None], exam.vectors, strict=False):
            began = time.perf_counter()
            passages = await search(engines, *_key(bot.item()), size.space, query, K)
            tally.took_ms.append(1000 * (time.perf_counter() - began))
            nearest = sorted(passages, key=lambda one: one.vector_rank or 0)[:K]
            tally.found.append({one.passage.chunk_id.int for one in nearest})
        tally.cpu_s = _cpu_s(backend) - before
    await engine.dispose()
    return tally


# --- one HNSW for all -------------------------------------------------------------------------------------------------


def _fill_peer(dsn: str, size: Size, centres: Floats) -> float:
    """The same vectors as pgvector's documentation would have them; seconds to build the index."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE TABLE peer (bot integer, chunk integer, embedding vector({}))").format(size.dimensions)
        )
        for bot in range(size.bots):
            with connection.cursor().copy(_copy("peer", ["bot", "chunk", "embedding"])) as copy:
                copy.write(COPY_HEADER + _peer_rows(_vectors(size, centres, bot), bot) + COPY_TRAILER)
        began = time.perf_counter()
        connection.execute("CREATE INDEX ON peer USING hnsw (embedding vector_cosine_ops)")
        built = time.perf_counter() - began
        connection.execute("VACUUM ANALYZE peer")
        return built


def _peer_rows(vectors: Floats, bot: int) -> bytes:
    count, dimensions = vectors.shape
    layout = [("fields", ">i2"), ("bot_size", ">i4"), ("bot", ">i4"), ("chunk_size", ">i4"), ("chunk", ">i4")]
    layout += [("vector_size", ">i4"), ("dimensions", ">i2"), ("unused", ">i2")]
    rows = np.zeros(count, np.dtype([*layout, ("vector", ">f4", (dimensions,))]))
    rows["fields"], rows["bot_size"], rows["chunk_size"], rows["vector_size"] = 3, 4, 4, 4 + 4 * dimensions
    rows["bot"], rows["chunk"], rows["dimensions"], rows["vector"] = bot, np.arange(count), dimensions, vectors
    return rows.tobytes()


def _peer(dsn: str, exam: Exam, settings: tuple[str, ...]) -> Tally:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for setting in settings:
            connection.execute(f"SET {setting}".encode())
        backend, tally = Process(connection.info.backend_pid), Tally([], [], 0.0)
        for warm in (True, False):
            tally, before = Tally([], [], 0.0), _cpu_s(backend)
            for bot, query in zip(exam.bots[: 20 if warm else None].tolist(), exam.vectors, strict=False):
                began = time.perf_counter()
                rows = connection.execute(PEER_SEARCH, (bot, str(query.tolist()), K)).fetchall()
                tally.took_ms.append(1000 * (time.perf_counter() - began))
                tally.found.append({chunk for (chunk,) in rows})
            tally.cpu_s = _cpu_s(backend) - before
        return tally


def _bytes(dsn: str, query: str) -> float:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    return float(row[0]) if row else 0.0


def _cpu_s(process: Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    names = {
        "ours": "the bot's own vectors, as the API's role",
        "hnsw": "one HNSW for all, iterative scan",
        "hnsw_patient": "the same, until it has found ten",
    }
    lines = []
    for size, sides in result.items():
        dimensions, bots, chunks = map(int, size.split(":"))
        lines.append((f"{bots * chunks:,} chunks of {dimensions} dims in {bots:,} bots", ""))
        for side, found in sides.items():
            took = f"{found['cpu_ms']:.1f} ms CPU, p50 / p99 {found['p50_ms']:.1f} / {found['p99_ms']:.1f} ms"
            lines.append(
                (f"  {names[side]}", f"recall@{K} {found['recall']:.3f}, {took}, {found['bytes']:,.0f} bytes a chunk")
            )
    return lines
