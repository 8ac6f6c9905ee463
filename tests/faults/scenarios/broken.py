"""The bench can fail: each mechanism is taken out in turn, and the scenario that must notice has to turn red."""

import importlib
from dataclasses import replace

from tests.faults.report import Figure, table
from tests.faults.size import Size

MUST_NOTICE = {
    "fence": ("zombies", "rows written by those that woke"),
    "sweeper": ("storm", "sources stuck"),
    "switch": ("readers", "answers empty"),
    "tombstone": ("deletes", "sources that answer again"),
    "crashes": ("poison", "killers quarantined"),
}


def run(size: Size, broken: str = "") -> list[Figure]:
    """One figure for each mechanism (or for `broken` alone): what the scenario measured without it."""
    small = replace(Size(), seed=size.seed)
    figures = []
    for mechanism, (scenario, name) in MUST_NOTICE.items():
        if broken in {"", mechanism}:
            found = importlib.import_module(f"tests.faults.scenarios.{scenario}").run(small, mechanism)
            print(f"{scenario}, without {mechanism}\n{table(found)}\n", flush=True)
            figure = next(one for one in found if one.name == name)
            figures.append(
                Figure("", f"without {mechanism}: {name}", figure.value, f"not {figure.goal}", figure.kept is False)
            )
    return figures
