"""Documents to searchable: text files of about 9 kB from the bucket, through the queue, until the last one answers."""

import io
import random
import time
from typing import Any

import psycopg

from deploy.local.client import DashboardClient
from tests.bench.stage import DIMENSIONS, counts, cpu_seconds, provider, running_stack

DOCUMENTS = 200
WORDS = [
    "kettle", "delivery", "warranty", "heating", "element", "lid", "handle", "water", "litre", "minute", "boil", "switch",
    "cable", "socket", "descale", "filter", "return", "refund", "invoice", "courier", "parcel", "tracking", "service",
    "customer", "workshop", "repair", "spare", "part", "number", "colour", "steel", "glass", "copper", "temperature",
]  # fmt: skip


def text_file(seed: int, size: int = 9_000) -> bytes:
    """A Markdown file of about `size` bytes: headings over paragraphs, different for each seed."""
    dice, parts, length = random.Random(seed), [f"# Article {seed}"], 0
    while length < size:
        sentences = [
            " ".join(dice.choices(WORDS, k=dice.randint(8, 18))).capitalize() + f" {dice.randint(1, 99_999)}."
            for _ in range(dice.randint(4, 8))
        ]
        parts.append(f"## {dice.choice(WORDS).capitalize()} {dice.randint(1, 999)}\n\n{' '.join(sentences)}")
        length += len(parts[-1])
    return "\n\n".join(parts).encode()


def measure(latency_ms: float, documents: int = DOCUMENTS) -> dict[str, Any]:
    """Documents and chunks per second to searchable, and CPU seconds per 1,000 chunks, by who spent them."""
    with provider(latency_ms) as base_url, running_stack(base_url) as (client, described):
        bot_id = client.add_bot("Bench", {})
        _train(client, described, [_add(client, bot_id, -1)])  # what is loaded at first use does not count
        source_ids = [_add(client, bot_id, seed) for seed in range(documents)]
        workers = [pid for name, pid in described["pids"].items() if name.startswith("worker")]
        before = cpu_seconds(workers), cpu_seconds([described["pids"]["postgres"]])
        seconds = _train(client, described, source_ids)
        spent = cpu_seconds(workers) - before[0], cpu_seconds([described["pids"]["postgres"]]) - before[1]
        chunks = _chunks(described)
        requests = counts(base_url)["requests"]
    return {
        "latency_ms": latency_ms,
        "documents": documents,
        "documents_per_s": documents / seconds,
        "chunks_per_s": chunks / seconds,
        "worker_cpu_s_per_1000_chunks": 1000 * spent[0] / chunks,
        "postgres_cpu_s_per_1000_chunks": 1000 * spent[1] / chunks,
        "embedding_requests": requests,
        "dimensions": DIMENSIONS,
    }


def _add(client: DashboardClient, bot_id: Any, seed: int) -> Any:
    body = text_file(seed)
    return client.add_file(bot_id, f"article-{seed}.md", io.BytesIO(body), len(body))


def _train(client: DashboardClient, described: dict[str, Any], source_ids: list[Any]) -> float:
    """Seconds from the queue call until every source is trained; RuntimeError when one is not."""
    began = time.perf_counter()
    client.queue_many(source_ids)
    with psycopg.connect(described["chat_db_dsn"], autocommit=True) as connection:
        while True:
            rows = connection.execute("SELECT status, count(*) FROM training_jobs GROUP BY 1").fetchall()
            waiting = {status: count for status, count in rows if status != "succeeded"}
            if not waiting:
                return time.perf_counter() - began
            if set(waiting) - {"waiting", "running"} or time.perf_counter() - began > 300:
                raise RuntimeError(f"not all sources were trained: {waiting}")
            time.sleep(0.02)


def _chunks(described: dict[str, Any]) -> int:
    with psycopg.connect(described["chat_db_dsn"]) as connection:
        row = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    return int(row[0]) if row else 0
