"""What a crawl's tasks tell each other, as JSON in the database: the crawl's state, and what each task has found."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from workers.fetch.crawl import Frontier, Visit
from workers.fetch.names import identity
from workers.fetch.robots import Rules, allowed_by, heard
from workers.fetch.scope import Scope
from workers.fetch.traps import Shapes
from workers.fetch.urls import parse_url
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
    cut_short: bool = False
    """Whether the org's month has fewer pages left than the source may have."""
    accepted: int = 0
    skipped: int = 0
    pending: list[Visit] = field(default_factory=list)
    """Accepted, and in no task yet."""
    made: int = 0
    consumed: int = 0
    """Tasks made, and those whose links are in the ledger."""
    tried_again: bool = False
    """Whether what failed in passing, or whose canonical address gave no text, has had its second try."""
    nonsense: str = ""
    """The sketch of the page that the site answers for an address that it can't have, where it answers with one."""
    furniture: list[str] = field(default_factory=list)
    """The marks of the blocks that the site's pages have in common."""
    example: str = ""
    """The page that keeps them, and what its footer says of how to reach its owner."""
    example_text: str = ""
    """The likeness of that page, by which its doubles are known; empty where it was not looked at before."""
    retry_after: float = 0.0
    """The longest wait in seconds that a server has asked for."""
    shapes: Shapes = field(default_factory=Shapes)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The state that `as_json` wrote."""
        own = {
            "scope": Scope.of(stored["scope"]),
            "robots": _rules_of(stored["robots"]),
            "pending": [Visit(*visit) for visit in stored["pending"]],
            "shapes": Shapes(stored["shapes"]),
        }
        return cls(**{**stored, **own})

    def as_json(self) -> str:
        """The state as it is stored."""
        own = {"scope": self.scope.options, "robots": _stored(self.robots), "shapes": self.shapes.stored}
        return json.dumps({name: getattr(self, name) for name in self.__slots__} | own)

    @property
    def pace_s(self) -> float:
        """Seconds between two requests that the crawl's website asks for."""
        site = parse_url(self.start).site
        delays = [rules.crawl_delay or 0.0 for origin, rules in self.robots.items() if parse_url(origin).site == site]
        return max(delays, default=0.0)

    def begins_at(self, visit: Visit) -> bool:
        """Whether all else of the crawl is found by this visit."""
        return self.follow and visit.url == self.start

    def frontier(self, met: Iterable[str] = ()) -> Frontier:
        """The frontier at this point; `met` are those of the addresses it will be told that are in the ledger."""
        return Frontier(
            self.start,
            self.scope,
            lambda url: allowed_by(self.robots, url),
            exhausted=self.shapes.exhausted,
            accepted=self.accepted,
            skipped=self.skipped,
            met=heard(self.robots, met),
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
    sketch: str | None = None
    """Of its text, where it is known; see `sketch_of`."""


@dataclass(slots=True)
class TaskResult:
    """What a `pages` task has found so far."""

    visited: list[Visited] = field(default_factory=list)
    robots: dict[str, Rules] = field(default_factory=dict)
    """Of origins that no task before it knew."""
    receipt: dict[str, Any] = field(default_factory=dict)
    retry_after: float = 0.0
    """The longest wait in seconds that a server has asked for."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The result that `as_json` wrote."""
        visited = [Visited(*page) for page in stored["visited"]]
        return cls(visited, _rules_of(stored["robots"]), stored["receipt"], stored["retry_after"])

    def as_json(self) -> str:
        """The result as it is stored."""
        own = {"robots": _stored(self.robots)}
        return json.dumps({name: getattr(self, name) for name in self.__slots__} | own)


def same_page(example: str | None, *names: str | None) -> bool:
    """Whether `example` is the page that `names` stand for: its address in the ledger, and where that led."""
    return bool(example) and identity(parse_url(example or "")) in {identity(parse_url(name)) for name in names if name}


def _rules_of(stored: Mapping[str, Any]) -> dict[str, Rules]:
    return {origin: Rules.of(rules) for origin, rules in stored.items()}


def _stored(robots: Mapping[str, Rules]) -> dict[str, Any]:
    return {origin: rules.stored for origin, rules in robots.items()}
