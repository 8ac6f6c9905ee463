"""What a run did, for its owner: counts, failures by name, tokens and cost, seconds by stage."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from chat_api.core.storable import storable
from workers.documents import Reading
from workers.extract.told import ADDRESSED

NAMED_FAILURES = 20
PAGES = ("found", "fetched", "unchanged", "changed", "removed", "failed")
CHUNKS = ("total", "embedded", "reused")


@dataclass(slots=True)
class Receipt:
    """What a run, or a task of it, did. `merge` adds another task's to it."""

    pages: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PAGES, 0))
    chunks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHUNKS, 0))
    tokens: int = 0
    """Of what was embedded."""
    cost_microusd: int | None = 0
    """None when the model has no price."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage, and `total`."""
    warnings: list[str] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    def count(self, reading: Reading) -> None:
        """Adds one page or file: what was found, fetched and read of it."""
        self.pages["found"] += 1
        self.pages["fetched"] += reading.fetched is not None
        self.pages["unchanged"] += reading.unchanged
        if reading.error:
            self.pages["failed"] += 1
            named = {"url": reading.url, "code": reading.error.code, "message": reading.error.message}
            self.failures = [*self.failures, {name: storable(value) for name, value in named.items()}][:NAMED_FAILURES]
        if reading.document:
            self.pages["changed"] += 1
            for warning in reading.document.warnings:
                self.warn(f"{reading.url}: {warning}")
        self.chunks["total"] += len(reading.chunks)

    def warn(self, words: str) -> None:
        """Adds a sentence for the owner, where there is room."""
        self.warnings = _told([*self.warnings, storable(words)])

    def embedded(self, *, chunks: int, reused: int, tokens: int, cost_microusd: int | None) -> None:
        """Adds chunks that were embedded, and that had their vectors already."""
        self.chunks["embedded"] += chunks
        self.chunks["reused"] += reused
        self.tokens += tokens
        self.cost_microusd = _sum(self.cost_microusd, cost_microusd)

    def copied(self, chunks: int) -> None:
        """Adds chunks of unchanged pages."""
        self.chunks["total"] += chunks
        self.chunks["reused"] += chunks

    def spent(self, seconds: Mapping[str, float], total: float) -> None:
        """Adds time: by stage, and in all."""
        for stage, took in [*seconds.items(), ("total", total)]:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + took

    def merge(self, other: Self) -> None:
        """Adds what another task of the same run did."""
        for mine, theirs in ((self.pages, other.pages), (self.chunks, other.chunks)):
            for name in mine:
                mine[name] += theirs[name]
        self.tokens += other.tokens
        self.cost_microusd = _sum(self.cost_microusd, other.cost_microusd)
        for stage, took in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + took
        self.warnings = _told([*self.warnings, *other.warnings])
        self.failures = [*self.failures, *other.failures][:NAMED_FAILURES]

    def as_dict(self) -> dict[str, Any]:
        """The receipt as it is stored and shown; `cost` in USD."""
        return {
            "pages": self.pages,
            "chunks": self.chunks,
            "tokens": self.tokens,
            "cost": None if self.cost_microusd is None else self.cost_microusd / 1_000_000,
            "seconds": {stage: round(took, 3) for stage, took in self.seconds.items()},
            "warnings": self.warnings,
            "failures": self.failures,
        }

    def as_json(self) -> str:
        """`as_dict` as JSON."""
        return json.dumps(self.as_dict())

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """A receipt from `as_dict`, as a task left it in its result."""
        cost = stored["cost"]
        return cls(
            pages=dict(stored["pages"]),
            chunks=dict(stored["chunks"]),
            tokens=stored["tokens"],
            cost_microusd=None if cost is None else round(cost * 1_000_000),
            seconds=dict(stored["seconds"]),
            warnings=list(stored["warnings"]),
            failures=list(stored["failures"]),
        )


def _told(warnings: list[str]) -> list[str]:
    """As many as there is room for, first those of text that speaks to a language model."""
    return sorted(warnings, key=lambda words: ADDRESSED not in words)[:NAMED_FAILURES]


def _sum(mine: int | None, theirs: int | None) -> int | None:
    return None if mine is None or theirs is None else mine + theirs
