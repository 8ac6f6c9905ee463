"""Runs the benchmarks, prints a table, writes bench.json."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench import training


def main() -> int:
    """All measurements, one after the other; 0 when all could be made."""
    rows: list[tuple[str, str]] = []
    results: dict[str, Any] = {"training": [training.measure(latency) for latency in (0.0, 100.0)]}
    for result in results["training"]:
        rows += _training_rows(result)
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


if __name__ == "__main__":
    sys.exit(main())
