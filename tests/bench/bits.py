"""What a pre-filter by the vectors' sign bits would find, and cost, beside the exact scan that search makes."""

from typing import Any

import numpy as np
import psycopg
from psutil import Process

from tests.bench.contents import Contents, K, real, synthetic
from tests.bench.scale import MEMORY, cpu_s, fill, key
from tests.servers import copied_database, make_chat_template, running

DIMENSIONS, CHUNKS, TIMES = (384, 1536), 100_000, 20
RANKED_AGAIN = (0.01, 0.025, 0.05)
"""Of the chunks, so many that are nearest by their bits are ranked by their vectors."""
TABLE = """
    CREATE TABLE bits AS SELECT org_id, bot_id, source_id, generation, space_id, chunk_id, binary_quantize(vector) AS bits
    FROM embeddings ORDER BY 1, 2, 3, 4, 5, 6;
    ALTER TABLE bits ADD PRIMARY KEY (org_id, bot_id, source_id, generation, space_id, chunk_id)
"""
OF_BOT = "org_id = %(org_id)s AND bot_id = %(bot_id)s AND source_id = %(bot_id)s AND generation = 1 AND space_id = 1"
EXACT = f"SELECT chunk_id FROM embeddings WHERE {OF_BOT} ORDER BY vector <#> %(query)s::halfvec LIMIT {K}"
MADE = f"""
    SELECT chunk_id FROM embeddings WHERE {OF_BOT}
    ORDER BY binary_quantize(vector) <~> binary_quantize(%(query)s::halfvec) LIMIT {K}
"""
KEPT = f"""
    WITH near AS MATERIALIZED (
        SELECT chunk_id FROM bits WHERE {OF_BOT}
        ORDER BY bits <~> binary_quantize(%(query)s::halfvec) LIMIT %(most)s
    )
    SELECT chunk_id FROM near CROSS JOIN LATERAL (
        SELECT vector FROM embeddings WHERE {OF_BOT} AND chunk_id = near.chunk_id LIMIT 1
    ) AS embedding ORDER BY vector <#> %(query)s::halfvec LIMIT {K}
"""
WAYS = {
    "exact": (EXACT, 0.0),
    "bits made while vectors are read": (MADE, 0.0),
    **{f"bits in a table of their own, {share:.1%} ranked again": (KEPT, share) for share in RANKED_AGAIN},
}


def measure() -> dict[str, Any]:
    """Recall on real vectors by how many are ranked again; milliseconds of the server's processor by way."""
    contents, cpu_ms, bytes_each = real(), {}, {}
    with running(MEMORY) as servers:
        template = make_chat_template(servers.cluster_dsn)
        for dimensions in DIMENSIONS:
            with copied_database(servers.cluster_dsn, template) as dsn:
                cpu_ms[str(dimensions)], bytes_each[str(dimensions)] = _costs(dsn, synthetic(dimensions, 1, CHUNKS))
    return {"vectors": contents.chunks, "recall": _recall(contents), "cpu_ms": cpu_ms, "bytes": bytes_each}


def _recall(contents: Contents) -> dict[str, float]:
    """Recall@10 among the chunks of all bots."""
    vectors = np.concatenate([contents.vectors(bot) for bot in range(contents.bots)])
    exact, equal_bits = (
        np.argsort(-(asked @ known.T), axis=1)
        for asked, known in (
            (contents.exam.vectors, vectors),
            (np.where(contents.exam.vectors > 0, 1.0, -1.0), np.where(vectors > 0, 1.0, -1.0)),
        )
    )
    return {
        f"{share:.1%}": float(np.mean([
            len(np.intersect1d(right[:K], near[: round(share * len(vectors))])) / K
            for right, near in zip(exact, equal_bits, strict=True)
        ]))
        for share in RANKED_AGAIN
    }  # fmt: skip


def _costs(dsn: str, contents: Contents) -> tuple[dict[str, float], float]:
    """By way, milliseconds of processor for a question; and bytes of the bits' table for a chunk."""
    fill(dsn, contents)
    org_id, bot_id = key(0)
    took = {}
    # A plan that is made once, for any question, would make the question's bits anew for each row.
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0")
        connection.execute(TABLE.encode())
        connection.execute("VACUUM ANALYZE bits")
        backend = Process(connection.info.backend_pid)
        for name, (query, share) in WAYS.items():
            values = {"org_id": org_id, "bot_id": bot_id, "most": round(share * CHUNKS)}
            for _ in ("warm", "measured"):
                before = cpu_s(backend)
                for asked in contents.exam.vectors[:TIMES]:
                    connection.execute(query.encode(), {**values, "query": str(asked.tolist())}).fetchall()
                took[name] = 1000 * (cpu_s(backend) - before) / TIMES
        row = connection.execute("SELECT pg_total_relation_size('bits')").fetchone()
    return took, float(row[0]) / CHUNKS if row else 0.0


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    recall = ", ".join(f"{share} {found:.3f}" for share, found in result["recall"].items())
    lines = [(f"sign bits of {result['vectors']:,} real vectors, recall@{K} by how many are ranked again", recall)]
    for dimensions, took in result["cpu_ms"].items():
        lines.append(
            (f"{CHUNKS:,} chunks of {dimensions} dims", f"{result['bytes'][dimensions]:.0f} bytes of bits each")
        )
        lines += [(f"  {name}", f"{ms:.0f} ms CPU") for name, ms in took.items()]
    return lines
