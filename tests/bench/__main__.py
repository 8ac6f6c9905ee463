"""Runs the benchmarks, prints a table, writes bench.json."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench import chat, training


def main() -> int:
    """All measurements, one after the other; 0 when all could be made."""
    rows: list[tuple[str, str]] = []
    results: dict[str, Any] = {"training": [training.measure(latency) for latency in (0.0, 100.0)]}
    for result in results["training"]:
        rows += _training_rows(result)
    results["chat"] = chat.measure()
    rows += _chat_rows(results["chat"])
    width = max(len(label) for label, _ in rows)
    print("\n".join(f"{label:<{width}}  {value}" for label, value in rows))
    Path("bench.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _training_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    at = f"provider at {result['latency_ms']:g} ms"
    return [
        (f"documents to searchable, {at}", f"{result['documents_per_s']:.1f}/s"),
        (f"chunks to searchable, {at}", f"{result['chunks_per_s']:.0f}/s"),
        (f"worker CPU per 1,000 chunks, {at}", f"{result['worker_cpu_s_per_1000_chunks']:.2f} s"),
        (f"PostgreSQL CPU per 1,000 chunks, {at}", f"{result['postgres_cpu_s_per_1000_chunks']:.2f} s"),
    ]


def _chat_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    def pair(name: str) -> str:
        return f"{result[name]['p50']:.1f} / {result[name]['p99']:.1f} ms"

    ratio = result["peer_search_ms"]["p50"] / result["search_ms"]["p50"]
    return [
        (f"search in {result['chunks']:,} chunks of {result['dimensions']} dims, p50 / p99", pair("search_ms")),
        ("  the same with pgvector's defaults", f"{pair('peer_search_ms')}  ({ratio:.1f} times ours)"),
        ("first piece of an answer, provider at 0 ms, p50 / p99", pair("first_delta_ms")),
        ("  the provider's calls alone", pair("provider_alone_ms")),
        ("  of it ours, p50", f"{result['first_delta_overhead_p50_ms']:.1f} ms"),
        ("first piece with 50 chats at once, p50 / p99", pair("first_delta_50_at_once_ms")),
    ]


if __name__ == "__main__":
    sys.exit(main())
