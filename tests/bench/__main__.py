"""Runs the benchmarks, all or those named, prints a table, writes bench.json: `python -m tests.bench [name …]`."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import chat, documents, office, reading, relearning, scale, sharing, training

Part = tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], list[tuple[str, str]]]]
PARTS: dict[str, Part] = {
    "training": (training.measure, training.rows),
    "relearning": (relearning.measure, relearning.rows),
    "fairness": (sharing.fairness, sharing.fairness_rows),
    "fanout": (sharing.fanout, sharing.fanout_rows),
    "chat": (chat.measure, chat.rows),
    "reading": (reading.measure, reading.rows),
    "scale": (scale.measure, scale.rows),
    "files": (documents.measure, documents.rows),
    "office": (office.measure, office.rows),
}


def main(names: Sequence[str]) -> int:
    """The measurements, one after the other; 0 when all could be made."""
    if unknown := set(names) - set(PARTS):
        print(f"bench: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    lines: list[tuple[str, str]] = []
    for name in names or PARTS:
        measure, rows = PARTS[name]
        results[name] = measure()
        lines += rows(results[name])
    width = max(len(label) for label, _ in lines)
    print("\n".join(f"{label:<{width}}  {value}" for label, value in lines))
    Path("bench.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
