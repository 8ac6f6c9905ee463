"""How far a crawl goes, as its source's options say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from workers.fetch.urls import Url, matches

DEFAULT_PAGES: Final = 500
MOST_PAGES: Final = 50_000
DEFAULT_DEPTH: Final = 10
MOST_DEPTH: Final = 100


@dataclass(frozen=True, slots=True)
class Scope:
    """The caps and patterns of one crawl."""

    max_pages: int = DEFAULT_PAGES
    max_depth: int = DEFAULT_DEPTH
    """Links away from the start."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Patterns with `*`: over path and query where they begin with `/`, else over the whole address."""

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Self:
        """The scope that a source's options ask for; values that make no sense count as not given."""
        return cls(
            _number(options.get("max_pages"), DEFAULT_PAGES, 1, MOST_PAGES),
            _number(options.get("max_depth"), DEFAULT_DEPTH, 0, MOST_DEPTH),
            _patterns(options.get("include")),
            _patterns(options.get("exclude")),
        )

    @property
    def options(self) -> dict[str, Any]:
        """The options that ask for this scope."""
        include, exclude = list(self.include), list(self.exclude)
        return {"max_pages": self.max_pages, "max_depth": self.max_depth, "include": include, "exclude": exclude}

    def covers(self, url: Url) -> bool:
        """Whether the patterns let `url` through: one of `include`, where there is any, and none of `exclude`."""
        wanted = not self.include or any(_covers(pattern, url) for pattern in self.include)
        return wanted and not any(_covers(pattern, url) for pattern in self.exclude)


def _covers(pattern: str, url: Url) -> bool:
    return matches(pattern, url.target if pattern.startswith("/") else str(url))


def _number(value: object, default: int, least: int, most: int) -> int:
    return min(max(value, least), most) if isinstance(value, int) and not isinstance(value, bool) else default


def _patterns(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(pattern.strip() for pattern in values if isinstance(pattern, str) and pattern.strip())
