"""Documents to searchable: text files of about 9 kB from the bucket, through the queue, until the last one answers."""

import io
import os
import random
import time
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.client import DashboardClient
from tests.bench import langchain
from tests.bench.stage import DIMENSIONS, counts, cpu_seconds, provider, running_stack

DOCUMENTS = 200
LOOK_S = 0.05
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


def measure() -> dict[str, Any]:
    """Ours, and with LANGCHAIN=1 a LangChain pipeline beside it, with a provider that takes 0 ms and one that takes 100."""
    python = langchain.environment() if os.environ.get("LANGCHAIN") else None
    return {"dimensions": DIMENSIONS, "by_latency": {f"{ms:g}": _measure(ms, python) for ms in (0.0, 100.0)}}


def _measure(latency_ms: float, python: Path | None, documents: int = DOCUMENTS) -> dict[str, Any]:
    """By contestant its Speed; all on one stack, ours first."""
    with provider(latency_ms) as base_url, running_stack(base_url, WORKERS="2") as (client, described):
        postgres = described["pids"]["postgres"]
        bot_id = client.add_bot("Bench", {})
        # What is loaded at first use does not count: these are three claims, so that no worker is left out.
        train(client, described, [_add(client, bot_id, documents + number) for number in range(24)])
        source_ids = [_add(client, bot_id, seed) for seed in range(documents)]
        workers = [pid for name, pid in described["pids"].items() if name.startswith("worker")]
        first, requests = _chunks(described), counts(base_url)["requests"]["embeddings"]
        before = cpu_seconds(workers), cpu_seconds([postgres])
        seconds = train(client, described, source_ids)
        spent = cpu_seconds(workers) - before[0], cpu_seconds([postgres]) - before[1]
        ours = _speed(documents, _chunks(described) - first, seconds, *spent)
        ours["embedding_requests"] = counts(base_url)["requests"]["embeddings"] - requests
        results = {"ours": ours}
        if python:
            files = [text_file(seed) for seed in range(documents)]
            dsn, s3 = described["chat_db_dsn"], described["s3"]
            for way in langchain.WAYS:
                told = langchain.run(python, way, files, dsn, base_url, postgres, s3=s3)
                results[f"langchain, {way}"] = _speed(documents, *told)
    return results


def _speed(documents: int, chunks: int, seconds: float, client_s: float, postgres_s: float) -> dict[str, float]:
    return {
        "documents_per_s": documents / seconds,
        "chunks_per_s": chunks / seconds,
        "chunks_per_document": chunks / documents,
        "worker_cpu_s_per_1000_chunks": 1000 * client_s / chunks,
        "postgres_cpu_s_per_1000_chunks": 1000 * postgres_s / chunks,
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    lines: list[tuple[str, str]] = [
        (
            "text files of 9 kB from S3 to searchable, 2 processes each",
            "one S3, provider and PostgreSQL; CPU without S3's",
        ),
        ("  ours", "queue call to the last switch: claims, parsing in a child, receipts, terms for full-text search"),
        ("  langchain", "download, TextLoader, 1,000 characters with 200 of overlap, PGVector; no full-text search"),
    ]
    for ms, contestants in result["by_latency"].items():
        ours = contestants["ours"]["documents_per_s"]
        for name, speed in contestants.items():
            ratio = f"  (ours {ours / speed['documents_per_s']:.1f} times)" if name != "ours" else ""
            cpu = " + ".join(f"{speed[f'{who}_cpu_s_per_1000_chunks']:.2f}" for who in ("worker", "postgres"))
            lines += [
                (
                    f"text files to searchable, provider at {ms} ms, {name}",
                    f"{speed['documents_per_s']:.1f} documents/s, {speed['chunks_per_s']:.0f} chunks/s{ratio}",
                ),
                ("  CPU per 1,000 chunks, worker + PostgreSQL", f"{cpu} s"),
            ]
    return lines


def _add(client: DashboardClient, bot_id: Any, seed: int) -> Any:
    body = text_file(seed)
    return client.add_file(bot_id, f"article-{seed}.md", io.BytesIO(body), len(body))


def train(client: DashboardClient, described: dict[str, Any], source_ids: list[Any]) -> float:
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
            time.sleep(LOOK_S)


def _chunks(described: dict[str, Any]) -> int:
    with psycopg.connect(described["chat_db_dsn"]) as connection:
        row = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    return int(row[0]) if row else 0
