"""Figures beside their goals: as a table, and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `kept` is None where there is no goal."""

    promise: str
    name: str
    value: float | int | str
    goal: str = ""
    kept: bool | None = None
    timed: bool = False
    """A time, which a busy machine makes longer: told, but nothing is broken by it."""

    @property
    def broken(self) -> bool:
        """Whether the promise was not kept."""
        return self.kept is False and not self.timed


def none_of(promise: str, name: str, found: Sequence[object] | int) -> Figure:
    """A figure that must be 0."""
    count = found if isinstance(found, int) else len(found)
    return Figure(promise, name, count, "0", count == 0)


def at_most(promise: str, name: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure with an upper limit."""
    return Figure(promise, name, round(value, 2), f"≤ {limit:g}{unit}", value <= limit, timed=unit == " s")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def table(figures: Sequence[Figure]) -> str:
    """The figures, one a line."""
    rows = [("", "figure", "measured", "goal", "")]
    rows += [(one.promise, one.name, f"{one.value}", one.goal, _mark(one)) for one in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _mark(figure: Figure) -> str:
    if figure.kept is None:
        return ""
    return "BROKEN" if figure.broken else "kept" if figure.kept else "LATE"


def write(path: Path, size: Any, results: dict[str, list[Figure]]) -> None:
    """All figures of all scenarios."""
    told = {name: [asdict(figure) for figure in figures] for name, figures in results.items()}
    path.write_text(json.dumps({"size": asdict(size), "scenarios": told}, indent=2) + "\n", encoding="utf-8")
