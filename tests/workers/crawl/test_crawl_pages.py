"""Which links a page gives to its crawl, whatever becomes of the page itself; and how many wait to be written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from chat_api.core.errors import TrainingError
from tests.workers.fetch.loopback import Site, client_of, reply, serving
from workers.crawl.pages import PagesReader
from workers.crawl.state import Crawl, TaskResult
from workers.crawl.writing import MOST_LINKS, PagesWriter
from workers.documents import Document, Fetched, Reading
from workers.extract.dispatch import extract
from workers.fetch.crawl import Visit
from workers.fetch.scope import Scope
from workers.reading import ChunkSizes, Reader
from workers.tasks.lease import Progress

TEXT = "<p>Parcels are packed on the day you order and leave the house on the next working morning, by post.</p>"


class InProcess:
    """An extractor that reads in this very process."""

    def extract_many(
        self, items: Sequence[tuple[Fetched, str | None]], *, check: Callable[[], None] | None = None
    ) -> list[Document | TrainingError]:
        """The documents, or why there is none."""
        return [_read(fetched) for fetched, _ in items]


def _read(fetched: Fetched) -> Document | TrainingError:
    try:
        return extract(fetched)
    except TrainingError as error:
        return error


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/robots.txt": reply(b"")}) as serves:
        yield serves


def page(site: Site, path: str, body: str, *links: str, head: str = "") -> None:
    """Puts an HTML page there, with linked pictures."""
    leads = "".join(f"<a href='{link}'><img src='x.png'></a>" for link in links)
    markup = f"<html><head><title>Shop</title>{head}</head><body>{body}{leads}</body></html>"
    site.pages[path] = reply(markup.encode(), Content_Type="text/html")


def pages_of(site: Site, *, tried_again: bool = False) -> PagesReader:
    """A reader of the site's pages."""
    with client_of(site) as client:
        sizes = ChunkSizes(lambda words: len(words.split()), target=50, maximum=100)
        reader = Reader(client, lambda _key, _most: Fetched("", 200, b""), InProcess(), sizes, max_file_mb=1)
    crawl = Crawl(site.url("/"), Scope(), {}, follow=True, tried_again=tried_again)
    return PagesReader(reader, crawl, {}, (), lambda _urls: [])


def reading_of(site: Site, path: str, *, tried_again: bool = False) -> tuple[str, list[str]]:
    """What becomes of the page, and where it leads on the site."""
    pages = pages_of(site, tried_again=tried_again).read([Visit(site.url(path), 1)], Progress(), lambda: None)
    ((reading,),) = pages
    return reading.outcome, [link.removeprefix(site.url("")) for link in reading.links or ()]


@pytest.mark.parametrize("path", ["/", "/choose"])
def test_a_page_of_linked_pictures_has_no_text_and_leads_on(site: Site, path: str) -> None:
    page(site, path, "", "/de/", "/en/")
    assert reading_of(site, path) == ("no_text", ["/de/", "/en/"])


def test_a_page_that_only_sends_its_reader_on_leads_there(site: Site) -> None:
    page(site, "/", "", head="<meta http-equiv='refresh' content='0;url=/en/'>")
    assert reading_of(site, "/") == ("no_text", ["/en/"])


def test_a_page_without_text_and_links_has_none(site: Site) -> None:
    page(site, "/empty", "")
    assert reading_of(site, "/empty") == ("no_text", [])


def test_a_listing_s_further_page_leads_to_what_only_it_lists(site: Site) -> None:
    canonical = f"<link rel='canonical' href='{site.url('/shop')}'>"
    links = ["/shop", "/shop/", "/shop?p=3", "/list?p=4", "/list/?p=5", "/glass", "/files/a b.pdf", "/glass#top"]
    page(site, "/list?p=2", TEXT, *links, head=canonical)
    assert reading_of(site, "/list?p=2") == ("duplicate", ["/shop", "/glass", "/files/a%20b.pdf"])
    assert "/list?p=4" in reading_of(site, "/list?p=2", tried_again=True)[1]


def test_a_double_that_asks_for_it_leads_to_its_canonical_page_alone(site: Site) -> None:
    said = f"<link rel='canonical' href='{site.url('/shop')}'><meta name='robots' content='nofollow'>"
    page(site, "/list?p=2", TEXT, "/glass", head=said)
    assert reading_of(site, "/list?p=2") == ("duplicate", ["/shop"])


def test_a_server_s_word_on_the_canonical_page_counts_where_the_page_says_nothing(site: Site) -> None:
    for head, outcome in (("", "duplicate"), (f"<link rel='canonical' href='{site.url('/own')}'>", "indexed")):
        markup = f"<html><head><title>Shop</title>{head}</head><body>{TEXT}</body></html>"
        site.pages["/own"] = reply(markup.encode(), Content_Type="text/html", Link='</guide>; rel="canonical"')
        assert reading_of(site, "/own")[0] == outcome


@dataclass(slots=True)
class Batches(PagesWriter):
    """A writer that notes what it would write at once."""

    written: list[list[int]] = field(default_factory=list)
    """Of each batch, how many links its pages have."""

    def write(self) -> None:
        """Notes what waits, and lets it go."""
        self.written.append([len(one.links or ()) for one in self._waiting])
        self._waiting = []


def test_pages_of_many_links_are_written_before_there_are_too_many(site: Site) -> None:
    links = tuple(f"/{number}" for number in range(MOST_LINKS // 4))
    pages = [Reading(str(number), links=links) for number in range(9)]
    writer = Batches(None, None, Progress(), lambda: None, {}, {}, pages_of(site), TaskResult())  # type: ignore[arg-type]
    writer.add(pages[:2])
    assert writer.written == []
    writer.add(pages[2:])
    assert writer.written == [[len(links)] * 4] * 2
