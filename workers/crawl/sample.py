"""Looks at a site's first pages before it is crawled, so that all its tasks agree on what is furniture, and who keeps it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, text

from chat_api.core.errors import TrainingError
from workers.crawl.pages import likeness
from workers.crawl.state import same_page
from workers.documents import READER_VERSION, Document, Fetched
from workers.extract.furniture import LEAST_PAGES, furniture_of, with_contact
from workers.fetch.crawl import Frontier
from workers.fetch.names import identity, link_of
from workers.fetch.robots import NOINDEX
from workers.fetch.urls import parse_url
from workers.reading import Reader
from workers.tasks.life import Task

SAMPLED, FETCHES_AT_ONCE = 8, 4
NOT_MODIFIED = 304
SLOW_S = 1.0
"""A site that asks for longer pauses is not asked for pages twice."""
MOST = 0.5
"""Of the pages that were there at the last crawl so many are as they were, where the site looks as it did."""

KNOWN = text("""
    SELECT live.crawl -> 'furniture' AS marks, live.crawl ->> 'example' AS example,
           live.crawl ->> 'example_text' AS example_text, page.url, page.etag, page.last_modified
    FROM sources AS source
    JOIN generations AS live USING (org_id, bot_id, source_id)
    JOIN pages AS page USING (org_id, bot_id, source_id, generation)
    WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.source_id = :source_id
      AND live.generation = source.live_generation AND live.reader_version = :reader_version
      AND live.crawl IS NOT NULL AND page.chunks > 0 AND coalesce(page.etag, page.last_modified) IS NOT NULL
    ORDER BY page.position LIMIT :at_most
""")


class Shared(NamedTuple):
    """What the pages of a site have in common, and which of them keeps it."""

    marks: list[str]
    example: str
    example_text: str = ""
    """See `likeness`; empty where that page was not looked at."""


class Known(NamedTuple):
    """What the last crawl found of the site's furniture, and its first pages with their validators."""

    shared: Shared
    pages: Sequence[tuple[str, str | None, str | None]] = ()
    """Address, ETag and Last-Modified of pages that a server can say of whether they have changed."""


def known_furniture(connection: Connection, task: Task) -> Known:
    """What is live of the source; nothing where it was read otherwise than now, or is to be read anew."""
    keys = {"org_id": task.org_id, "bot_id": task.bot_id, "source_id": task.source_id}
    values = {**keys, "reader_version": READER_VERSION, "at_most": SAMPLED}
    rows = [] if task.force else connection.execute(KNOWN, values).all()
    if not rows:
        return Known(Shared([], ""))
    first = rows[0]
    return Known(
        Shared(first.marks, first.example, first.example_text), [(row.url, row.etag, row.last_modified) for row in rows]
    )


def sample_furniture(
    frontier: Frontier, known: Known, reader: Reader, pace_s: float, check: Callable[[], None]
) -> Shared:
    """What the crawl's first pages have in common: those that wait, and what the first of them leads to.

    It is kept by the first whose footer says how to reach its owner, else by the first.

    Decided once, before any page is chunked: so it does not depend on which worker reads what, or in which order. Where
    the servers say that most of the pages that are `known` are as they were, what is known of them holds. Raises what
    `check` raises.
    """
    urls = [visit.url for visit in frontier.waiting(SAMPLED)]
    if not urls or pace_s > SLOW_S:
        return Shared([], next(iter(urls), ""))
    changed, unchanged = _asked(known, frontier, reader)
    check()
    if _stands(known, unchanged):
        return known.shared
    met = _documents(urls[:1], changed, reader, check)
    others = urls[1:] + [link for _, document in met for link in _linked(document, frontier, urls)]
    if len(others) < LEAST_PAGES:
        return Shared([], *next(_keepers(met, frontier), urls[:1]))
    met += _documents(others, changed, reader, check)
    return Shared(furniture_of([document for _, document in met]), *next(_keepers(met, frontier), urls[:1]))


def _stands(known: Known, unchanged: Collection[str]) -> bool:
    """Whether most pages are as they were, and the one that keeps the furniture, as far as its server can say that."""
    if len(unchanged) < LEAST_PAGES or len(unchanged) <= MOST * len(known.pages):
        return False
    asked = [url for url, *_ in known.pages if same_page(known.shared.example, url)]
    return all(url in unchanged for url in asked)


def _keepers(met: Iterable[tuple[str, Document]], frontier: Frontier) -> Iterator[tuple[str, str]]:
    """Address and likeness of those pages that can be learned, and whose footer says how to reach its owner.

    Of those behind the first, what their own text says in any case is no reason to keep the furniture there.
    """
    for place, (url, document) in enumerate(met):
        if place and with_contact(document) is document:
            continue
        canonical = document.canonical_url or url
        elsewhere = not same_page(frontier.start, url) and link_of(canonical) and not same_page(url, canonical)
        if document.contact and not elsewhere and not NOINDEX.intersection(document.directives):
            yield url, likeness(document)


def _asked(known: Known, frontier: Frontier, reader: Reader) -> tuple[dict[str, Fetched], set[str]]:
    """By address those of the known pages that have changed, and the addresses of those that have not."""

    def ask(page: tuple[str, str | None, str | None]) -> Fetched | None:
        return _fetched(page[0], reader, etag=page[1], last_modified=page[2])

    pages = [page for page in known.pages if frontier.would_read(parse_url(page[0]))]
    with ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="sample") as threads:
        answers = dict(zip((url for url, *_ in pages), threads.map(ask, pages), strict=True))
    changed = {url: fetched for url, fetched in answers.items() if fetched and fetched.body}
    return changed, {url for url, fetched in answers.items() if fetched and fetched.status == NOT_MODIFIED}


def _linked(document: Document, frontier: Frontier, known: Iterable[str]) -> Iterator[str]:
    """The addresses that the page leads to within the crawl, as far as the sample wants more."""
    met = {identity(parse_url(url)) for url in known}
    wanted = SAMPLED - len(met)
    for link in document.links:
        url = link_of(link)
        if wanted and url and identity(url) not in met and frontier.would_read(url):
            met.add(identity(url))
            wanted -= 1
            yield str(url)


def _documents(
    urls: Iterable[str], there: Mapping[str, Fetched], reader: Reader, check: Callable[[], None]
) -> list[tuple[str, Document]]:
    """The pages' documents, each with where it stands; what is `there` is not asked for again."""
    with ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="sample") as threads:
        answers = threads.map(lambda url: there.get(url) or _fetched(url, reader), islice(urls, SAMPLED))
    fetched = [one for one in answers if one]
    found = reader.documents([(one, None) for one in fetched], check)
    return [(one.url, document) for one, document in zip(fetched, found, strict=True) if isinstance(document, Document)]


def _fetched(url: str, reader: Reader, *, etag: str | None = None, last_modified: str | None = None) -> Fetched | None:
    try:
        return reader.client.get(url, etag=etag, last_modified=last_modified)
    except TrainingError:
        return None
