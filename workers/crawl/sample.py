"""Looks at a site's first pages before it is crawled, so that all its tasks agree on what is furniture there."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, text

from chat_api.core.errors import TrainingError
from workers.documents import READER_VERSION, Document, Fetched
from workers.extract.furniture import LEAST_PAGES, furniture_of
from workers.fetch.crawl import Frontier
from workers.fetch.names import identity, link_of
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
    SELECT live.crawl -> 'furniture' AS marks, live.crawl ->> 'example' AS example, page.url, page.etag,
           page.last_modified
    FROM sources AS source
    JOIN generations AS live USING (org_id, bot_id, source_id)
    JOIN pages AS page USING (org_id, bot_id, source_id, generation)
    WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.source_id = :source_id
      AND live.generation = source.live_generation AND live.reader_version = :reader_version
      AND live.crawl IS NOT NULL AND page.chunks > 0 AND coalesce(page.etag, page.last_modified) IS NOT NULL
    ORDER BY page.position LIMIT :at_most
""")


class Known(NamedTuple):
    """What the last crawl found of the site's furniture, and its first pages with their validators."""

    marks: list[str]
    example: str
    pages: Sequence[tuple[str, str | None, str | None]] = ()
    """Address, ETag and Last-Modified of pages that a server can say of whether they have changed."""


def known_furniture(connection: Connection, task: Task) -> Known:
    """What is live of the source; nothing where it was read otherwise than now, or is to be read anew."""
    keys = {"org_id": task.org_id, "bot_id": task.bot_id, "source_id": task.source_id}
    values = {**keys, "reader_version": READER_VERSION, "at_most": SAMPLED}
    rows = [] if task.force else connection.execute(KNOWN, values).all()
    if not rows:
        return Known([], "")
    return Known(rows[0].marks, rows[0].example, [(row.url, row.etag, row.last_modified) for row in rows])


def sample_furniture(
    frontier: Frontier, known: Known, reader: Reader, pace_s: float, check: Callable[[], None]
) -> tuple[list[str], str]:
    """The marks of what the crawl's first pages have in common, and the first of them: those that wait, and what it leads to.

    Decided once, before any page is chunked: so it does not depend on which worker reads what, or in which order. Where
    the servers say that most of the pages that are `known` are as they were, what is known of them holds. Raises what
    `check` raises.
    """
    if pace_s > SLOW_S:
        return [], ""
    urls = [visit.url for visit in frontier.waiting(SAMPLED)]
    if not urls:
        return [], ""
    changed, unchanged = _asked(known, frontier, reader)
    check()
    if unchanged >= LEAST_PAGES and unchanged > MOST * len(known.pages):
        return known.marks, known.example
    first = _documents(urls[:1], changed, reader, check)
    others = urls[1:] + [link for document in first for link in _linked(document, frontier, urls)]
    if len(others) < LEAST_PAGES:
        return [], ""
    return furniture_of([*first, *_documents(others, changed, reader, check)]), urls[0]


def _asked(known: Known, frontier: Frontier, reader: Reader) -> tuple[dict[str, Fetched], int]:
    """By address those of the known pages that have changed, and how many have not."""

    def ask(page: tuple[str, str | None, str | None]) -> Fetched | None:
        return _fetched(page[0], reader, etag=page[1], last_modified=page[2])

    pages = [page for page in known.pages if frontier.would_read(parse_url(page[0]))]
    with ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="sample") as threads:
        answers = dict(zip((url for url, *_ in pages), threads.map(ask, pages), strict=True))
    changed = {url: fetched for url, fetched in answers.items() if fetched and fetched.body}
    return changed, sum(fetched is not None and fetched.status == NOT_MODIFIED for fetched in answers.values())


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
) -> list[Document]:
    """The pages' documents; what is `there` is not asked for again."""
    with ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="sample") as threads:
        fetched = threads.map(lambda url: there.get(url) or _fetched(url, reader), islice(urls, SAMPLED))
    found = reader.documents([(one, None) for one in fetched if one], check)
    return [one for one in found if isinstance(one, Document)]


def _fetched(url: str, reader: Reader, *, etag: str | None = None, last_modified: str | None = None) -> Fetched | None:
    try:
        return reader.client.get(url, etag=etag, last_modified=last_modified)
    except TrainingError:
        return None
