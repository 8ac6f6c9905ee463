"""Decides which addresses of a website are visited, in which order, and says of every other one why not."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, Self

from chat_api.core.errors import InvalidUrl, NoText
from workers.fetch.client import SafeClient
from workers.fetch.robots import Robots
from workers.fetch.sitemap import read_sitemaps
from workers.fetch.urls import DEFAULT_PORTS, Url, matches, parse_url

Skip = Literal[
    "invalid_url",
    "other_host",
    "not_a_page",
    "excluded",
    "too_deep",
    "blocked_by_robots",
    "too_many_pages",
    "duplicate",
]

DEFAULT_PAGES: Final = 500
MOST_PAGES: Final = 50_000
DEFAULT_DEPTH: Final = 10
MOST_DEPTH: Final = 100

MAX_INVALID: Final = 200
"""How much of an address that is none is kept, in characters."""
_SKIPPED_AT_MOST: Final = 50_000
_SEEN_AT_MOST: Final = 100_000
_NOT_A_PAGE = re.compile(
    r"\.(7z|aac|apk|avi|avif|bin|bmp|bz2|css|csv|dmg|eot|eps|exe|flac|gif|gz|ico|ics|iso|jar|jpe?g|js|json|m4[av]|map"
    r"|mkv|mov|mp[34]|mpe?g|msi|og[gv]|otf|pkg|png|ps|rar|rpm|rss|svg|tar|tgz|tiff?|ttf|wasm|wav|web[mp]|webmanifest"
    r"|wm[av]|woff2?|xml|xz|zip)\Z",
    re.IGNORECASE,
)
_TRACKING = re.compile(
    r"(utm_.*|_ga|_gl|_hsenc|_hsmi|dclid|fbclid|gbraid|gclid|igshid|mc_[ce]id|mkt_tok|msclkid|srsltid|ttclid|twclid"
    r"|wbraid|yclid)(=|\Z)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """How far a crawl goes."""

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


class Visit(NamedTuple):
    """An address to fetch, and how many links away from the start it is."""

    url: str
    depth: int


class Frontier:
    """The addresses of one crawl: pure, breadth first, and the same for the same calls.

    The driver takes some visits with `next`, fetches them, and in the same order tells where each `landed` and `add`s
    its links. A crawl goes on in another process with how many it `accepted` and `skipped`, and with those of the
    addresses it is about to be told that it has `met`.
    """

    def __init__(
        self,
        start: str,
        scope: Scope,
        allows: Callable[[str], bool] = lambda _: True,
        *,
        accepted: int = 0,
        skipped: int = 0,
        met: Iterable[str] = (),
    ) -> None:
        self._start = without_tracking(parse_url(start))
        self._scope = scope
        self._allows = allows
        self._met: set[str] = set()
        # Links as written: a site's pages repeat most of theirs, and parsing is what costs.
        self._seen: set[int] = set()
        self._waiting: deque[Visit] = deque()
        self._accepted = accepted
        self._room = _SKIPPED_AT_MOST - skipped
        self.skipped: dict[str, Skip] = {}
        """Addresses that are not visited, and why; bounded, so that a hostile site can't fill the memory."""
        self.meet(met)

    @property
    def start(self) -> str:
        """Where the crawl begins, or where that address has led."""
        return str(self._start)

    @property
    def accepted(self) -> int:
        """How many addresses belong to the crawl so far, visited or not."""
        return self._accepted

    def meet(self, urls: Iterable[str]) -> None:
        """Tells of more addresses that the crawl has met."""
        self._met |= {identity(parse_url(url)) for url in urls}

    def add_start(self) -> None:
        """Puts the start itself in the queue, whatever the patterns say: a crawl has to begin somewhere."""
        self._met.add(identity(self._start))
        self._accept(str(self._start), 0)

    def add(self, urls: Iterable[str], depth: int) -> None:
        """Puts those of `urls`, absolute addresses `depth` links away from the start, in the queue that belong there."""
        for text in urls:
            if hash(text) in self._seen:
                continue
            if len(self._seen) < _SEEN_AT_MOST:
                self._seen.add(hash(text))
            url = link_of(text)
            if url is None:
                self._skip(text[:MAX_INVALID], "invalid_url")
                continue
            name = identity(url)
            if name in self._met or len(self._met) >= MOST_PAGES + _SKIPPED_AT_MOST:
                continue
            self._met.add(name)
            reason = self._reason(url, depth)
            if reason:
                self._skip(str(url), reason)
            else:
                self._accept(str(url), depth)

    def next(self) -> Visit | None:
        """The next address to fetch, or None when there is none for now."""
        return self._waiting.popleft() if self._waiting else None

    def landed(self, visit: Visit, url: str) -> Skip | None:
        """Says why the page that `visit` found at `url`, after redirects, is not to be read; None when it is.

        A start that lands on another site moves the crawl there. A reason against the start leaves nothing to read. The
        address of a page that is read under the name of another is a duplicate.
        """
        here = parse_url(url)
        if identity(here) == identity(parse_url(visit.url)):
            return None
        if parse_url(visit.url) == self._start:
            self._start = here
        reason = self._landed(here)
        self._met.add(identity(here))
        if reason:
            self._skip(visit.url, reason)
        else:
            self._skip(str(without_tracking(here)), "duplicate")
        return reason

    def _landed(self, here: Url) -> Skip | None:
        if here.site != self._start.site:
            return "other_host"
        if identity(here) in self._met:
            return "duplicate"
        return None if self._allows(str(here)) else "blocked_by_robots"

    def _reason(self, url: Url, depth: int) -> Skip | None:
        if url.site != self._start.site:
            return "other_host"
        if _NOT_A_PAGE.search(url.path):
            return "not_a_page"
        if not self._scope.covers(url):
            return "excluded"
        if depth > self._scope.max_depth:
            return "too_deep"
        if self._accepted >= self._scope.max_pages:
            return "too_many_pages"
        return None if self._allows(str(url)) else "blocked_by_robots"

    def _accept(self, url: str, depth: int) -> None:
        self._accepted += 1
        self._waiting.append(Visit(url, depth))

    def _skip(self, url: str, reason: Skip) -> None:
        if len(self.skipped) < self._room:
            self.skipped[url] = reason


def site_frontier(url: str, scope: Scope, robots: Robots) -> Frontier:
    """The crawl of the website at `url`, by its links.

    Raises InvalidUrl, BlockedByRobots when `url` itself may not be read, and what `Robots.rules` raises.
    """
    robots.check(url)
    frontier = Frontier(url, scope, robots.allows)
    frontier.add_start()
    return frontier


def sitemap_frontier(url: str, scope: Scope, robots: Robots, client: SafeClient) -> tuple[Frontier, tuple[str, ...]]:
    """The pages that the sitemap at `url` lists, whose links are not followed; and what of it could not be read.

    Raises what `read_sitemaps` raises, and NoText when it lists no page of this site.
    """
    listing = read_sitemaps(client, url)
    frontier = Frontier(url, scope, robots.allows)
    frontier.add(listing.pages, 0)
    if not listing.pages:
        raise NoText("The sitemap lists no pages.")
    return frontier, listing.warnings


def without_tracking(url: Url) -> Url:
    """`url` without the parameters that only say where a visitor came from."""
    kept = [pair for pair in url.query.split("&") if not _TRACKING.match(pair)]
    return replace(url, query="&".join(kept))


def identity(url: Url) -> str:
    """What all spellings of an address have in common: http or https, with and without `www.` and tracking."""
    host, port = url.site
    return f"{host}:{port}{without_tracking(url).target}"


def spellings(url: Url) -> list[str]:
    """All addresses without tracking that have the identity of `url`."""
    host, port = url.site
    ports = DEFAULT_PORTS if port == 0 else dict.fromkeys(DEFAULT_PORTS, port)
    clean = without_tracking(url)
    return [
        str(replace(clean, scheme=scheme, host=name, port=number))
        for scheme, number in ports.items()
        for name in (host, f"www.{host}")
    ]


def link_of(text: str) -> Url | None:
    """A link as the ledger names it, without tracking; None for what is no address."""
    try:
        return without_tracking(parse_url(text))
    except InvalidUrl:
        return None


def _covers(pattern: str, url: Url) -> bool:
    return matches(pattern, url.target if pattern.startswith("/") else str(url))


def _number(value: object, default: int, least: int, most: int) -> int:
    return min(max(value, least), most) if isinstance(value, int) and not isinstance(value, bool) else default


def _patterns(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(pattern.strip() for pattern in values if isinstance(pattern, str) and pattern.strip())
