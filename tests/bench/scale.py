"""Many bots in one database: recall inside a bot, processor time and bytes per chunk, beside one HNSW index for all of them.

SCALE is `small`, `full` (1M chunks of 384 dimensions in 1,000 bots, 200,000 of 1,536; some 10 GB of disk) or a list of
dimensions:bots:chunks, whose vectors lie around a centre for each bot; `xquad`: real sentences and questions, from the
folder XQUAD_DIR; and manuals:chunks, in one bot: real sentences, asked for by headings, and with a third number so many
times turned, which makes as many times the dimensions. Where there are several bots, every other question is about what
another one knows. A large bot is measured twice: with all vectors compared, and by their codes.
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
from psycopg.types.json import Jsonb
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from chat_api.chat.retrieve import search
from chat_api.core.database import CONNECT_ARGS, AsyncEngines, begin_work
from tests.bench.contents import Contents, Exam, K, manuals, real, synthetic
from tests.bench.stage import percentile
from tests.servers import copied_database, make_chat_template, running
from workers.quantize import LARGE, Quantizer
from workers.store.rows import COPY_HEADER, COPY_TRAILER, KEY_COLUMNS, Build, embedding_rows
from workers.tasks.life import Task

SIZES = {
    "small": "384:100:1000 1536:20:1000 384:1:50000 1536:1:25000",
    "full": "384:1000:1000 1536:200:1000 384:1:100000 1536:1:100000",
}
MEMORY = {"shared_buffers": "4GB", "maintenance_work_mem": "4GB", "max_wal_size": "16GB"}
"""So that neither side reads files, and the index is built at once."""
# The index is used however small the table, and all of a question's work is its backend's.
PEER = ("enable_seqscan = off", "max_parallel_workers_per_gather = 0", "hnsw.iterative_scan = relaxed_order")
PEERS = {
    "hnsw": PEER,
    "hnsw_patient": (*PEER, "hnsw.max_scan_tuples = 2000000000", "hnsw.scan_mem_multiplier = 1000"),
}
PEER_SEARCH = "SELECT chunk FROM peer WHERE bot = %s ORDER BY embedding <=> %s::vector LIMIT %s"
CODE_BYTES = "SELECT pg_total_relation_size('quantized_embeddings')"
BYTES = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('embeddings') WHERE isleaf"


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
    found = {}
    with running(MEMORY) as servers:
        template = make_chat_template(servers.cluster_dsn)
        for one in SIZES.get(given, given).split():
            contents = _contents(one)
            with copied_database(servers.cluster_dsn, template) as dsn:
                found[contents.name] = _compared(dsn, contents)
    return found


def _contents(size: str) -> Contents:
    kind, *numbers = size.split(":")
    if kind == "xquad":
        return real()
    return manuals(*map(int, numbers)) if kind == "manuals" else synthetic(int(kind), *map(int, numbers))


def _compared(dsn: str, contents: Contents) -> dict[str, Any]:
    fill(dsn, contents)
    ours = asyncio.run(_ours(dsn, contents))
    result: dict[str, Any] = {"ours": ours.figures(contents.exam) | {"bytes": _bytes(dsn, BYTES) / contents.chunks}}
    if contents.chunks > LARGE * contents.bots:
        rescored = _quantize(dsn)
        ours = asyncio.run(_ours(dsn, contents, quantized=True))
        rest = {"bytes": _bytes(dsn, CODE_BYTES) / contents.chunks, "rescored": rescored}
        result["by_codes"] = ours.figures(contents.exam) | rest
    if contents.bots > 1:
        built = _fill_peer(dsn, contents)
        rest = {"bytes": _bytes(dsn, "SELECT pg_total_relation_size('peer')") / contents.chunks, "build_s": built}
        for name, given in PEERS.items():
            result[name] = _peer(dsn, contents.exam, given).figures(contents.exam) | rest
    return result


# --- ours -------------------------------------------------------------------------------------------------------------


def key(bot: int) -> tuple[UUID, UUID]:
    """A bot's org and id; its source has the id, too."""
    return UUID(int=2 * bot + 1), UUID(int=(2 * bot + 2) << 64)


def fill(dsn: str, contents: Contents) -> None:
    """Each bot with one source, its chunks written in an order that says nothing of their ids."""
    space = contents.space
    with psycopg.connect(dsn, autocommit=True) as connection:
        run = connection.execute
        run("SET session_replication_role = replica")  # foreign keys are not checked for each row
        run("INSERT INTO embedding_spaces (model, dimensions) VALUES (%s, %s)", (space.model, space.dimensions))
        for bot in range(contents.bots):
            org_id, bot_id = key(bot)
            run(
                "INSERT INTO sources (org_id, bot_id, source_id, live_generation) VALUES (%s, %s, %s, 1)",
                (org_id, bot_id, bot_id),
            )
            run("INSERT INTO bots (org_id, bot_id, space_id) VALUES (%s, %s, 1)", (org_id, bot_id))
            run(
                "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version,"
                " receipt) VALUES (%s, %s, %s, 1, 'live', 1, %s, '', %s)",
                (org_id, bot_id, bot_id, bot_id, Jsonb({"chunks": {"total": contents.chunks // contents.bots}})),
            )
            with connection.cursor().copy(
                _copy("embeddings", [*KEY_COLUMNS, "chunk_id", "space_id", "vector"])
            ) as copy:
                for rows in _embeddings(contents, bot):
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


def _embeddings(contents: Contents, bot: int) -> Iterator[bytes]:
    org_id, bot_id = key(bot)
    task = Task(1, "read", None, org_id, bot_id, bot_id, "text", 1, 1, False, 0, None, 1, 0, False, None, 0, {}, "bulk")
    vectors = contents.vectors(bot)
    order = np.random.default_rng([13, bot]).permutation(len(vectors))
    yield COPY_HEADER
    yield embedding_rows(Build(task, 1, 1, contents.space), [UUID(int=int(number)) for number in order], vectors[order])
    yield COPY_TRAILER


def _quantize(dsn: str) -> int:
    """What the sweeper does for large bots, as the workers' role; how many vectors are compared in the last one."""
    url, role = dsn.replace("postgresql://", "postgresql+psycopg://"), {"options": "-c role=chat_workers"}
    engine = create_engine(url, connect_args={**CONNECT_ARGS, **role})
    event.listen(engine, "begin", begin_work)
    quantizer = Quantizer(engine)
    while quantizer.quantize():
        pass
    engine.dispose()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE quantized_embeddings")
        row = connection.execute("SELECT rescored FROM quantized_bots ORDER BY bot_id DESC").fetchone()
    return int(row[0]) if row else 0


async def _ours(dsn: str, contents: Contents, *, quantized: bool = False) -> Tally:
    """The search of the API, as its role, which sees one org's rows."""
    url, role = dsn.replace("postgresql://", "postgresql+psycopg://"), {"options": "-c role=chat_api"}
    engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={**CONNECT_ARGS, **role})
    engines, tally, exam = AsyncEngines(engine, engine), Tally([], [], 0.0), contents.exam
    async with engine.connect() as connection:
        backend = Process((await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one())
    for warm in (True, False):
        tally, before = Tally([], [], 0.0), cpu_s(backend)
        for bot, query in zip(exam.bots[: 20 if warm else None], exam.vectors, strict=False):
            began = time.perf_counter()
            passages = await search(engines, *key(bot.item()), contents.space, query, K, quantized=quantized)
            tally.took_ms.append(1000 * (time.perf_counter() - began))
            nearest = sorted(passages, key=lambda one: one.vector_rank or 0)[:K]
            tally.found.append({one.passage.chunk_id.int for one in nearest})
        tally.cpu_s = cpu_s(backend) - before
    await engine.dispose()
    return tally


# --- one HNSW for all -------------------------------------------------------------------------------------------------


def _fill_peer(dsn: str, contents: Contents) -> float:
    """The same vectors as pgvector's documentation would have them; seconds to build the index."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE TABLE peer (bot integer, chunk integer, embedding vector({}))").format(
                contents.space.dimensions
            )
        )
        for bot in range(contents.bots):
            with connection.cursor().copy(_copy("peer", ["bot", "chunk", "embedding"])) as copy:
                copy.write(COPY_HEADER + _peer_rows(contents.vectors(bot), bot) + COPY_TRAILER)
        began = time.perf_counter()
        connection.execute("CREATE INDEX ON peer USING hnsw (embedding vector_cosine_ops)")
        built = time.perf_counter() - began
        connection.execute("VACUUM ANALYZE peer")
        return built


def _peer_rows(vectors: NDArray[np.float32], bot: int) -> bytes:
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
            tally, before = Tally([], [], 0.0), cpu_s(backend)
            for bot, query in zip(exam.bots[: 20 if warm else None].tolist(), exam.vectors, strict=False):
                began = time.perf_counter()
                rows = connection.execute(PEER_SEARCH, (bot, str(query.tolist()), K)).fetchall()
                tally.took_ms.append(1000 * (time.perf_counter() - began))
                tally.found.append({chunk for (chunk,) in rows})
            tally.cpu_s = cpu_s(backend) - before
        return tally


def _bytes(dsn: str, query: str) -> float:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    return float(row[0]) if row else 0.0


def cpu_s(process: Process) -> float:
    """Processor time of one process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    names = {
        "ours": "the bot's own vectors, as the API's role",
        "by_codes": "the same by their codes",
        "hnsw": "one HNSW for all, iterative scan",
        "hnsw_patient": "the same, until it has found ten",
    }
    lines = []
    for contents, sides in result.items():
        lines.append((contents, ""))
        for side, found in sides.items():
            took = f"{found['cpu_ms']:.1f} ms CPU, p50 / p99 {found['p50_ms']:.1f} / {found['p99_ms']:.1f} ms"
            rest = f", {found['rescored']:,} compared" if "rescored" in found else ""
            lines.append((
                f"  {names[side]}",
                f"recall@{K} {found['recall']:.3f}, {took}, {found['bytes']:,.0f} bytes a chunk{rest}",
            ))  # fmt: skip
    return lines
