"""Decides which addresses of a website are visited, in which order, and says of every other one why not."""

import re
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, Literal, NamedTuple

from workers.fetch.names import identity, link_of, plain
from workers.fetch.scope import MOST_PAGES, Scope
from workers.fetch.traps import runs_in_circles
from workers.fetch.urls import Url, parse_url

Skip = Literal[
    "invalid_url",
    "other_host",
    "not_a_page",
    "excluded",
    "too_deep",
    "trap",
    "blocked_by_robots",
    "fetch_failed",
    "too_many_pages",
    "duplicate",
]

UNREAD: Final = "fetch_failed"
"""Of an address whose robots.txt gives no answer: not forbidden, so that its twin may be read and its old text stays."""
MAX_INVALID: Final = 200
"""How much of an address that is none is kept, in characters."""
SKIPPED_AT_MOST: Final = 50_000
"""How many addresses that a crawl leaves out are noted."""
_SEEN_AT_MOST: Final = 100_000
_NOT_A_PAGE = re.compile(
    r"\.(7z|aac|apk|avi|avif|bin|bmp|bz2|css|csv|dmg|eot|eps|exe|flac|gif|gz|ico|ics|iso|jar|jpe?g|js|json|m4[av]|map"
    r"|mkv|mov|mp[34]|mpe?g|msi|og[gv]|otf|pkg|png|ps|rar|rpm|rss|svg|tar|tgz|tiff?|ttf|wasm|wav|web[mp]|webmanifest"
    r"|wm[av]|woff2?|xml|xz|zip)\Z",
    re.IGNORECASE,
)


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
        allows: Callable[[str], bool | None] = lambda _: True,
        *,
        exhausted: Callable[[Url], bool] = lambda _: False,
        accepted: int = 0,
        skipped: int = 0,
        met: Iterable[str] = (),
    ) -> None:
        self._start = plain(parse_url(start))
        self._scope = scope
        self._allows = allows
        self._exhausted = exhausted
        self._met: set[str] = set()
        # Links as written: a site's pages repeat most of theirs, and parsing is what costs.
        self._seen: set[int] = set()
        self._waiting: deque[Visit] = deque()
        self._accepted = accepted
        self._room = SKIPPED_AT_MOST - skipped
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
        """Tells of more addresses that the crawl has met, of which some may be none."""
        self._met |= {identity(url) for url in map(link_of, urls) if url}

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
            if name in self._met or len(self._met) >= MOST_PAGES + SKIPPED_AT_MOST:
                continue
            reason = self._reason(url, depth)
            if reason != UNREAD:
                self._met.add(name)
            if reason:
                self._skip(str(url), reason)
            else:
                self._accept(str(url), depth)

    def would_read(self, url: Url) -> bool:
        """Whether `url` belongs to the crawl, however far it is from the start."""
        return self._reason(url, 0) is None

    def waiting(self, count: int) -> list[Visit]:
        """The next addresses to fetch, so many at most; they go on waiting."""
        return list(islice(self._waiting, count))

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
        begins = parse_url(visit.url) == self._start
        if begins:
            self._start = here
        reason = self._landed(here, wanted=begins or self._scope.covers(here))
        if reason != UNREAD:
            self._met.add(identity(here))
        if reason:
            self._skip(visit.url, reason)
        else:
            self._skip(str(plain(here)), "duplicate")
        return reason

    def _landed(self, here: Url, *, wanted: bool) -> Skip | None:
        if here.site != self._start.site:
            return "other_host"
        if not wanted:
            return "excluded"
        if identity(here) in self._met:
            return "duplicate"
        return self._barred(here)

    def _reason(self, url: Url, depth: int) -> Skip | None:
        if url.site != self._start.site:
            return "other_host"
        if _NOT_A_PAGE.search(url.path):
            return "not_a_page"
        if not self._scope.covers(url):
            return "excluded"
        if depth > self._scope.max_depth:
            return "too_deep"
        if runs_in_circles(url) or self._exhausted(url):
            return "trap"
        if self._accepted >= self._scope.max_pages:
            return "too_many_pages"
        return self._barred(url)

    def _barred(self, url: Url) -> Skip | None:
        allowed = self._allows(str(url))
        if allowed is None:
            return UNREAD
        return None if allowed else "blocked_by_robots"

    def _accept(self, url: str, depth: int) -> None:
        self._accepted += 1
        self._waiting.append(Visit(url, depth))

    def _skip(self, url: str, reason: Skip) -> None:
        if len(self.skipped) < self._room:
            self.skipped[url] = reason
