"""`make faults`: runs one scenario or several, prints each figure beside its goal, writes faults.json.

SCENARIO=storm|recovery|zombies|readers|poison|deletes|agreement|broken|all, BREAK=fence|sweeper|switch|tombstone|crashes; see `Size`.
"""

import importlib
import os
import signal
import sys
from pathlib import Path

from tests.faults.report import Figure, table, write
from tests.faults.size import Size

SCENARIOS = ("storm", "recovery", "zombies", "readers", "poison", "deletes", "agreement")


def main() -> int:
    """0 when every promise was kept, if late, 1 when one was broken, 2 for a name that does not exist."""
    size, broken = Size.of(os.environ), os.environ.get("BREAK", "")
    asked = os.environ.get("SCENARIO") or "storm"
    names = SCENARIOS if asked == "all" else tuple(asked.split(","))
    if unknown := set(names) - {*SCENARIOS, "broken"}:
        print(f"SCENARIO={','.join(sorted(unknown))}: one of {', '.join(SCENARIOS)}, broken, all", file=sys.stderr)
        return 2
    results: dict[str, list[Figure]] = {}
    for name in names:
        module = importlib.import_module(f"tests.faults.scenarios.{name}")
        results[name] = module.run(size, broken)
        print(
            f"{name}: seed {size.seed}{f', without {broken}' if broken else ''}\n{table(results[name])}\n", flush=True
        )
    write(Path("faults.json"), size, results)
    return int(any(figure.broken for figures in results.values() for figure in figures))


if __name__ == "__main__":
    # A bench that is told to stop takes its stack down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
