"""Reads some pages of a crawl: fetched four at a time, told apart from what is unchanged, extracted, cut into chunks."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from hashlib import sha256
from threading import Event

from chat_api.core.errors import CrashedRepeatedly, FetchFailed, NotFound, TrainingError
from chat_api.core.storable import storable
from workers.crawl.nonsense import SOFT, TITLED, says_not_found, sketch_of_document
from workers.crawl.state import Before, Crawl, same_page
from workers.documents import Document, Fetched, Reading
from workers.extract.furniture import with_contact, without_furniture
from workers.fetch.crawl import MAX_INVALID, Frontier, Visit
from workers.fetch.names import identity, link_of
from workers.fetch.robots import NOFOLLOW, NOINDEX, Robots, Rules, asked_of_robots, heard
from workers.fetch.urls import parse_url
from workers.reading import Reader, same_bytes
from workers.store.known import LivePage
from workers.store.rows import text_sha256
from workers.tasks.lease import Progress

FETCHES_AT_ONCE = 4
GROUP_PAGES = 10
"""Half a task's: a child of the sandbox costs as much processor time as reading a small page."""
GROUP_BYTES = 8 * 2**20
TICK_S = 1.0
"""How often `check` is called while servers are slow."""
ASKED_AT_MOST, WAITED_AT_MOST_S = 5, 120.0
"""How often, and over how long, a page is asked for whose server asks us to wait; then it is left to a second try."""
GIVEN_UP = "Reading this page ended its worker several times. It is left out until the source is trained again."

Met = tuple[Visit, Fetched | TrainingError]
"""An address and what its server gave."""


class PagesReader:
    """Reads pages for one task. It writes nothing; what it says of duplicates the crawl's advance says again.

    `before` has, by address, what may be unchanged; `given_up` the addresses that no worker survived; `met_of` gives
    those of some addresses that the ledger has.
    """

    def __init__(
        self,
        reader: Reader,
        crawl: Crawl,
        before: Mapping[str, Before],
        given_up: Sequence[str],
        met_of: Callable[[list[str]], list[str]],
    ) -> None:
        self._reader, self._crawl, self._before, self._given_up, self._met_of = reader, crawl, before, given_up, met_of
        self._robots = Robots(reader.client, crawl.robots)
        self._frontier = Frontier(crawl.start, crawl.scope, self._robots.allows)
        self._stopping = Event()
        self.retry_after = 0.0
        """The longest wait in seconds that a server has asked for."""
        # Links as written → as the ledger names them: a site's pages repeat most of theirs.
        self._names: dict[str, str] = {}

    @property
    def robots(self) -> dict[str, Rules]:
        """The rules of the origins that the crawl did not know yet."""
        return {origin: rules for origin, rules in self._robots.known.items() if origin not in self._crawl.robots}

    def read(self, visits: Sequence[Visit], progress: Progress, check: Callable[[], None]) -> Iterator[list[Reading]]:
        """The pages in order, a few at a time, with position None.

        Raises the error of the crawl's start where a retry can help, since nothing can be read without it; and what
        `check` raises.
        """
        self._stopping.clear()
        threads = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch")
        try:
            for group in _groups(self._fetch_all(visits, threads, progress, check)):
                check()
                yield self._readings(group, progress, check)
        finally:  # whoever stops does not wait for servers that are slow
            self._stopping.set()
            threads.shutdown(wait=False, cancel_futures=True)

    def _fetch_all(
        self, visits: Sequence[Visit], threads: ThreadPoolExecutor, progress: Progress, check: Callable[[], None]
    ) -> Iterator[Met]:
        waiting, flying = deque(visits), deque[tuple[Visit, Future[Fetched]]]()
        while waiting or flying:
            while waiting and len(flying) < FETCHES_AT_ONCE:
                visit = waiting.popleft()
                flying.append((visit, threads.submit(self._fetch, visit.url)))
            visit, future = flying.popleft()
            with progress.at("fetch"):
                while not wait([future], TICK_S).done:
                    check()
                try:
                    found: Fetched | TrainingError = future.result()
                except TrainingError as error:
                    if error.retryable and self._crawl.begins_at(visit):
                        raise
                    found = error
            yield visit, found

    def _fetch(self, url: str) -> Fetched:
        """The page; asked for again after the wait that its server wants, while that is not too long."""
        if url in self._given_up:
            raise CrashedRepeatedly(GIVEN_UP)
        waited = 0.0
        for _ in range(ASKED_AT_MOST - 1):
            try:
                return self._fetch_once(url)
            except FetchFailed as error:
                pause = error.retry_after
                self.retry_after = max(self.retry_after, pause or 0.0)
                if pause is None or waited + pause > WAITED_AT_MOST_S or self._stopping.wait(pause):
                    raise
                waited += pause
        return self._fetch_once(url)

    def _fetch_once(self, url: str) -> Fetched:
        live, client = self._same(url), self._reader.client
        if live is None:
            return client.get(url)
        fetched = client.get(url, etag=live.etag, last_modified=live.last_modified)
        # The validators are of another page when the address leads elsewhere now.
        return client.get(url) if fetched.status == 304 and fetched.url != live.cited_url else fetched

    def _same(self, url: str) -> LivePage | None:
        """What the page has not changed from when its bytes are the same: nothing says so of what scripts bring."""
        return None if self._crawl.render else self._live(url)

    def _live(self, url: str) -> LivePage | None:
        before = self._before.get(url)
        return before.live if before and before.comparable else None

    def _readings(self, group: Sequence[Met], progress: Progress, check: Callable[[], None]) -> list[Reading]:
        self._meet_redirects(group)
        readings = [self._judged(visit, found) for visit, found in group]
        new = {place: fetched for place, reading in enumerate(readings) if (fetched := _to_read(reading))}
        with progress.at("extract"):
            items = [(fetched, None) for fetched in new.values()]
            to_render = {fetched.url for fetched in new.values()} if self._crawl.render else ()
            outcomes = self._reader.documents(items, check, to_render)
        with progress.at("chunk"):
            for place, outcome in zip(new, outcomes, strict=True):
                readings[place] = self._extracted(readings[place], outcome)
        with progress.at("fetch"):
            return [self._linked(reading) for reading in readings]

    def _meet_redirects(self, group: Sequence[Met]) -> None:
        """Tells the frontier which of the places that addresses have led to are in the ledger."""
        redirects = [found.url for visit, found in group if isinstance(found, Fetched) and led(visit.url, found)]
        if redirects:
            self._frontier.meet(heard(self._robots.known, self._met_of(redirects)))

    def _judged(self, visit: Visit, found: Fetched | TrainingError) -> Reading:
        if isinstance(found, TrainingError):
            return Reading(visit.url, error=found)
        reading = Reading(visit.url, cited_url=found.url, fetched=found)
        if reason := self._frontier.landed(visit, found.url):
            return replace(reading, skipped=reason)
        if asked_of_robots(found.robots) & NOINDEX:  # said with the answer, whatever the page says itself
            return replace(reading, skipped="noindex") if found.status == 304 else reading
        return replace(reading, unchanged=same_bytes(reading, self._same(visit.url)))

    def _extracted(self, reading: Reading, outcome: Document | TrainingError) -> Reading:
        if isinstance(outcome, TrainingError):
            return replace(reading, error=outcome)
        document, example = replace(outcome, title=storable(outcome.title)), self._is_example(reading, outcome)
        if not example:
            document = without_furniture(document, self._crawl.furniture)
        asked = asked_of_robots(reading.fetched.robots if reading.fetched else None) | set(document.directives)
        if self._crawl.follow:
            reading = replace(reading, links=() if asked & NOFOLLOW else self._names_of(document.links))
        if asked & NOINDEX:
            return replace(reading, skipped="noindex")
        if canonical := self._canonical(reading, document):
            return replace(reading, skipped="duplicate", links=(canonical, *_beyond(reading, canonical)))
        if denied := self._denied(reading, document):
            return replace(reading, error=denied)
        return self._compared(reading, with_contact(document) if example else document)

    def _is_example(self, reading: Reading, document: Document) -> bool:
        """Whether the page keeps what all have; so does its double, as the two would else not be the same."""
        crawl = self._crawl
        return same_page(crawl.example, reading.url, reading.cited_url) or likeness(document) == crawl.example_text

    def _compared(self, reading: Reading, document: Document) -> Reading:
        """The reading with its chunks, unless title, address and text are as they are live."""
        live = self._live(reading.url)
        same = (document.title, reading.cited_url, text_sha256(document))
        if live and same == (live.title, live.cited_url, live.text_sha256):
            return replace(reading, unchanged=True)
        return self._reader.chunk(replace(reading, document=document))

    def _canonical(self, reading: Reading, document: Document) -> str | None:
        """The address that the page wants to be known by, where that is another page of the crawl.

        A website's front page is named by many that are not it; whether one is, its text will tell. A canonical page
        that gave no text is believed no more: what has named it is read again at the second try.
        """
        url = link_of(document.canonical_url or "")
        if url is None or url.target == "/" or self._crawl.tried_again or reading.url == self._crawl.start:
            return None
        own = {identity(parse_url(known)) for known in (reading.url, reading.cited_url) if known}
        return str(url) if identity(url) not in own and self._frontier.would_read(url) else None

    def _denied(self, reading: Reading, document: Document) -> NotFound | None:
        """The error of a page that only seems to exist; the start is taken as it is."""
        url, nonsense = parse_url(reading.url), self._crawl.nonsense
        if str(url) == self._crawl.start:
            return None
        if nonsense and sketch_of_document(document, url) == nonsense:
            return NotFound(SOFT)
        return NotFound(TITLED) if says_not_found(document) else None

    def _linked(self, reading: Reading) -> Reading:
        """A page that can't be read now keeps the links it had, as one that is unchanged does: what it leads to stays."""
        before = self._before.get(reading.url) if self._crawl.follow else None
        stays = reading.unchanged or reading.skipped == "noindex"
        stays = stays or (reading.error is not None and reading.outcome != NotFound.code)
        if before and stays and reading.links is None:
            return replace(reading, links=self._names_of(before.links))
        return reading

    def _names_of(self, links: Sequence[str]) -> tuple[str, ...]:
        site = parse_url(self._frontier.start).site
        return tuple(dict.fromkeys(self._name(link, site) for link in links))

    def _name(self, link: str, site: tuple[str, int]) -> str:
        """A link as the ledger names it; the rules of its origin are read where they are not known."""
        if link not in self._names:
            url = link_of(link)
            self._names[link] = str(url) if url else link[:MAX_INVALID]
            if url and url.site == site:
                self._robots.allows(str(url))
        return self._names[link]


def likeness(document: Document) -> str:
    """What a page and its double under another address have in common: a checksum of title and text."""
    return sha256(storable(document.title).encode() + text_sha256(document)).hexdigest()


def led(url: str, fetched: Fetched) -> bool:
    """Whether `url` led to another page than its own."""
    return identity(parse_url(fetched.url)) != identity(parse_url(url))


def _beyond(reading: Reading, canonical: str) -> Iterator[str]:
    """A double's links to other paths than its own and its canonical page's: to those, its filters and orders lead."""
    names = (reading.url, reading.cited_url or reading.url, canonical)
    own = {parse_url(name).path.removesuffix("/") for name in names}
    for link in reading.links or ():
        url = link_of(link)
        if url and url.path.removesuffix("/") not in own:
            yield link


def _to_read(reading: Reading) -> Fetched | None:
    return reading.fetched if reading.outcome == "indexed" else None


def _groups(pages: Iterator[Met]) -> Iterator[list[Met]]:
    """Pages that are extracted together: ten at most, or 8 MiB."""
    group: list[Met] = []
    size = 0
    for visit, found in pages:
        group.append((visit, found))
        size += len(found.body) if isinstance(found, Fetched) else 0
        if len(group) >= GROUP_PAGES or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
