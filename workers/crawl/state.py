"""What a crawl's tasks tell each other, as JSON in the database: the crawl's state, and what each task has found."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from workers.fetch.crawl import Frontier, Scope, Visit
from workers.fetch.robots import Rules, allowed_by
from workers.store.known import LivePage


@dataclass(slots=True)
class Crawl:
    """What holds for all tasks of a crawl, as `generations.crawl` has it."""

    start: str
    scope: Scope
    robots: dict[str, Rules]
    """By origin: read once, so that all judge alike."""
    follow: bool
    """Whether links are followed: not those of a sitemap's pages."""
    render: bool = False
    """Whether pages' JavaScript is run where they are empty without it."""
    warnings: list[str] = field(default_factory=list)
    accepted: int = 0
    skipped: int = 0
    pending: list[Visit] = field(default_factory=list)
    """Accepted, and in no task yet."""
    made: int = 0
    consumed: int = 0
    """Tasks made, and those whose links are in the ledger."""
    tried_again: bool = False

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The state that `as_json` wrote."""
        robots = {origin: Rules.of(patterns) for origin, patterns in stored["robots"].items()}
        pending = [Visit(*visit) for visit in stored["pending"]]
        return cls(**{**stored, "scope": Scope.of(stored["scope"]), "robots": robots, "pending": pending})

    def as_json(self) -> str:
        """The state as it is stored."""
        robots = {origin: rules.patterns for origin, rules in self.robots.items()}
        plain = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(plain | {"scope": self.scope.options, "robots": robots})

    def begins_at(self, visit: Visit) -> bool:
        """Whether all else of the crawl is found by this visit."""
        return self.follow and visit.url == self.start

    def frontier(self, met: Iterable[str] = ()) -> Frontier:
        """The frontier at this point; `met` are those of the addresses it will be told that are in the ledger."""
        return Frontier(
            self.start,
            self.scope,
            lambda url: allowed_by(self.robots, url),
            accepted=self.accepted,
            skipped=self.skipped,
            met=met,
        )


@dataclass(frozen=True, slots=True)
class Before:
    """A page as the live generation has it, with its links."""

    live: LivePage
    links: tuple[str, ...]
    comparable: bool
    """Whether it may be taken as it is: it was read as it would be now, and nobody asks for it to be read anew."""


class Visited(NamedTuple):
    """A page that a task has read: where it landed, if elsewhere, and which addresses it links to that are new."""

    url: str
    depth: int
    landed: str | None
    links: list[str]


@dataclass(slots=True)
class TaskResult:
    """What a `pages` task has found so far."""

    visited: list[Visited] = field(default_factory=list)
    robots: dict[str, Rules] = field(default_factory=dict)
    """Of origins that no task before it knew."""
    receipt: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The result that `as_json` wrote."""
        robots = {origin: Rules.of(patterns) for origin, patterns in stored["robots"].items()}
        return cls([Visited(*page) for page in stored["visited"]], robots, stored["receipt"])

    def as_json(self) -> str:
        """The result as it is stored."""
        robots = {origin: rules.patterns for origin, rules in self.robots.items()}
        return json.dumps({"visited": self.visited, "robots": robots, "receipt": self.receipt})
