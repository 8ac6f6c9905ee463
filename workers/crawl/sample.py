"""Looks at a site's first pages before it is crawled, so that all its tasks agree on what is furniture there."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from chat_api.core.errors import TrainingError
from workers.documents import Document, Fetched
from workers.extract.furniture import LEAST_PAGES, furniture_of
from workers.fetch.crawl import Frontier
from workers.fetch.names import identity, link_of
from workers.fetch.urls import parse_url
from workers.reading import Reader

SAMPLED, FETCHES_AT_ONCE = 8, 4
SLOW_S = 1.0
"""A site that asks for longer pauses is not asked for pages twice."""


def sample_furniture(
    frontier: Frontier, reader: Reader, pace_s: float, check: Callable[[], None]
) -> tuple[list[str], str]:
    """The marks of what the crawl's first pages have in common, and the first of them: those that wait, and what it leads to.

    Decided once, before any page is chunked: so it does not depend on which worker reads what, or in which order.
    Raises what `check` raises.
    """
    if pace_s > SLOW_S:
        return [], ""
    urls = [visit.url for visit in frontier.waiting(SAMPLED)]
    if not urls:
        return [], ""
    first = _documents(urls[:1], reader, check)
    others = urls[1:] + [link for document in first for link in _linked(document, frontier, urls)]
    if len(others) < LEAST_PAGES:
        return [], ""
    return furniture_of([*first, *_documents(others, reader, check)]), urls[0]


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


def _documents(urls: Iterable[str], reader: Reader, check: Callable[[], None]) -> list[Document]:
    with ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="sample") as threads:
        fetched = threads.map(lambda url: _fetched(url, reader), islice(urls, SAMPLED))
    found = reader.documents([(one, None) for one in fetched if one], check)
    return [one for one in found if isinstance(one, Document)]


def _fetched(url: str, reader: Reader) -> Fetched | None:
    try:
        return reader.client.get(url)
    except TrainingError:
        return None
