"""What a site's pages have in common is told from their text, and costs no page that has not changed."""

import socket
from collections.abc import Iterable, Iterator
from threading import Event

import pytest

from tests.workers.chat_rows import ChatRows
from tests.workers.crawl.crawl_world import Crawls, page
from tests.workers.fetch.loopback import Script, Site, reply, serving

pytestmark = pytest.mark.stack

MENU = "Home and products and contact"
PATHS = ["/", *(f"/p{number}" for number in range(9))]


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/robots.txt": reply(b"User-agent: *\nDisallow:")}) as serves:
        show(serves, MENU)
        yield serves


@pytest.fixture
def crawls(rows: ChatRows, site: Site) -> Crawls:
    return Crawls(rows, site)


def show(site: Site, menu: str) -> None:
    """Gives every page this menu over its own words; they answer 304 to whom has them."""
    for path in PATHS:
        links = [site.url(other) for other in PATHS] if path == "/" else []
        tag = f'"{path} {menu}"'
        site.pages[path] = conditional(site, path, page(menu, f"Words of {path} alone.", *links), tag)


def conditional(site: Site, path: str, body: bytes, tag: str) -> Script:
    """An answer with an ETag, and 304 without a body where the request has it."""

    def write(stream: socket.socket, _over: Event) -> None:
        head = next(head for head in reversed(site.requests) if head.startswith(f"GET {path} ".encode()))
        has = f"If-None-Match: {tag}".encode() in head
        answer = reply(b"", "304 Not Modified", ETag=tag) if has else reply(body, ETag=tag)
        stream.sendall(answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))

    return write


def whole(site: Site, since: int) -> list[bytes]:
    """The site's pages that were asked for as a whole, after so many requests."""
    asked = [head for head in site.requests[since:] if b"If-None-Match" not in head]
    return [target for head in asked if (target := head.split(b" ")[1]).decode() in PATHS]


def with_words(crawls: Crawls, words: str) -> list[str]:
    """The paths whose chunks have these words."""
    return [path for path, texts in crawls.texts().items() if any(words in text for text in texts)]


def test_what_most_pages_repeat_stays_in_one_of_them(crawls: Crawls) -> None:
    crawls.train()
    assert with_words(crawls, MENU) == ["/"]
    assert with_words(crawls, "Words of") == PATHS


def test_an_unchanged_site_is_asked_for_no_page_as_a_whole(crawls: Crawls, site: Site) -> None:
    crawls.train()
    texts, since = crawls.texts(), len(site.requests)
    receipt = crawls.train()["receipt"]
    assert whole(site, since) == []
    assert receipt["pages"]["unchanged"] == len(PATHS)
    assert crawls.texts() == texts


def test_a_page_that_changes_alone_is_read_without_the_old_furniture(crawls: Crawls, site: Site) -> None:
    crawls.train()
    site.pages["/p3"] = conditional(site, "/p3", page(MENU, "Other words."), '"new"')
    since = len(site.requests)
    crawls.train()
    assert whole(site, since) == []
    assert crawls.texts()["/p3"] == ["Other words."]
    assert with_words(crawls, MENU) == ["/"]


def test_a_new_menu_is_furniture_too(crawls: Crawls, site: Site) -> None:
    crawls.train()
    show(site, "Shop and service")
    crawls.train()
    assert with_words(crawls, "Shop and service") == ["/"]
    assert with_words(crawls, MENU) == []


def footed(site: Site, contact: str, paths: Iterable[str] = PATHS, *, tag: str = "") -> None:
    """Gives these pages this in their footers, below their own words."""
    for path in paths:
        links = [site.url(other) for other in PATHS] if path == "/" else []
        body = page(f"Words of {path} alone.", f"contact: {contact}", *links)
        site.pages[path] = conditional(site, path, body, f'"{path} {contact} {tag}"')


def test_contact_in_all_footers_is_learned_once(crawls: Crawls, site: Site) -> None:
    footed(site, "Call 030 123456")
    crawls.train()
    texts, asked = crawls.texts(), len(crawls.vectors.asked)
    assert with_words(crawls, "Call 030") == ["/"]
    footed(site, "Call 030 123456", tag="new bytes")
    crawls.train()
    assert crawls.texts() == texts
    assert len(crawls.vectors.asked) == asked


def test_a_new_footer_costs_one_chunk(crawls: Crawls, site: Site) -> None:
    footed(site, "Call 030 123456")
    crawls.train()
    asked = len(crawls.vectors.asked)
    footed(site, "Call 030 987654")
    receipt = crawls.train()["receipt"]
    assert with_words(crawls, "Call 030") == with_words(crawls, "Call 030 987654") == ["/"]
    assert receipt["pages"]["unchanged"] == len(PATHS) - 1
    assert len(crawls.vectors.asked) - asked == 1


def test_the_first_page_with_a_footer_keeps_it(crawls: Crawls, site: Site) -> None:
    footed(site, "Call 030 123456", PATHS[2:])
    crawls.train()
    assert with_words(crawls, "Call 030") == ["/p1"]


def test_a_double_of_the_page_that_keeps_the_footer_is_still_its_double(crawls: Crawls, site: Site) -> None:
    footed(site, "Call 030 123456")
    site.pages["/p7"] = conditional(site, "/p7", page("Words of / alone.", "contact: Call 030 123456"), '"twin"')
    crawls.train()
    assert crawls.ledger()["/p7"] == "duplicate"
    assert with_words(crawls, "Call 030") == ["/"]


def test_a_small_site_keeps_its_contact_at_the_start(crawls: Crawls, site: Site) -> None:
    site.pages.clear()
    site.pages["/"] = reply(page("Words of all.", site.url("/b"), "contact: Call 030 123456"))
    site.pages["/b"] = reply(page("Words of b.", "contact: Call 030 123456"))
    crawls.train()
    assert with_words(crawls, "Call 030") == ["/"]


def test_a_site_with_a_pace_keeps_its_contact_at_the_start(crawls: Crawls, site: Site) -> None:
    site.pages["/robots.txt"] = reply(b"User-agent: *\nCrawl-delay: 1.1")
    site.pages |= {path: reply(b"", "404 Not Found") for path in PATHS[2:]}
    site.pages["/"] = reply(page("Words of all.", site.url("/p0"), "contact: Call 030 123456"))
    site.pages["/p0"] = reply(page("Words of p0.", "contact: Call 030 123456"))
    crawls.train()
    assert with_words(crawls, "Call 030") == ["/"]


def test_contact_moves_to_a_page_that_has_not_changed(crawls: Crawls, site: Site) -> None:
    footed(site, "Call 030 123456")
    crawls.train()
    site.pages["/"] = conditional(site, "/", page("Words of / alone.", *map(site.url, PATHS)), '"no footer"')
    crawls.train()
    assert with_words(crawls, "Call 030") == ["/p0"]
    footed(site, "Call 030 123456", ["/"], tag="again")
    crawls.train()
    assert with_words(crawls, "Call 030") == ["/p0"]  # it is as it was
    crawls.train(force=True)
    assert with_words(crawls, "Call 030") == ["/"]


def test_force_looks_at_the_site_anew(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    crawls.train()
    rows.sql("UPDATE generations SET crawl = jsonb_set(crawl, '{furniture}', '[]')")
    since = len(site.requests)
    crawls.train(force=True)
    assert set(whole(site, since)) == {path.encode() for path in PATHS}
    assert with_words(crawls, MENU) == ["/"]
