"""A site of which one spelling (with `www.`) may not answer: its pages are read under the other, or keep their texts."""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.workers.chat_rows import ChatRows
from tests.workers.crawl.crawl_world import Crawls, fill, page
from tests.workers.fetch.loopback import Site, client_of, redirect, reply

pytestmark = pytest.mark.stack


class Shop(Site):
    """A site with a name."""

    def url(self, path: str = "/", host: str = "shop.example") -> str:
        return super().url(path, host)

    def www(self, path: str) -> str:
        """The address of `path` under the other name."""
        return self.url(path, "www.shop.example")


@pytest.fixture
def shop() -> Iterator[Shop]:
    site = Shop({"/robots.txt": reply(b"")})
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def crawls(rows: ChatRows, shop: Shop) -> Crawls:
    return Crawls(rows, shop)


def train(crawls: Crawls, *, silent: bool) -> tuple[list[str], int]:
    """A run, in which `www.` may be no name; the receipt's warnings, and how many pages it has removed."""

    def resolve(host: str, _port: int) -> list[str]:
        if silent and host.startswith("www."):
            raise socket.gaierror(socket.EAI_NONAME)
        return ["127.0.0.1"]

    with client_of(crawls.site, resolve=resolve) as client:
        crawls.stages = replace(crawls.stages, reader=replace(crawls.stages.reader, client=client))
        receipt = crawls.train()["receipt"]
    return receipt["warnings"], receipt["pages"]["removed"]


def home(shop: Shop, *links: str) -> None:
    shop.pages["/"] = reply(page("Home.", *links))


def test_a_page_whose_spelling_is_silent_keeps_its_text(crawls: Crawls, shop: Shop) -> None:
    fill(shop, {"/p": [], "/q": []})
    home(shop, shop.www("/p"), shop.url("/q"))
    assert train(crawls, silent=False) == ([], 0)
    for change in ([], [shop.url("/new")]):  # the page that leads there is unchanged, or read anew
        home(shop, shop.www("/p"), shop.url("/q"), *change)
        [warning], removed = train(crawls, silent=True)
        assert (shop.www("") in warning, removed) == (True, 0)
        ledger = crawls.ledger()
        assert (ledger[shop.www("/p")], ledger["/q"]) == ("fetch_failed", "unchanged")
        assert crawls.texts()[shop.www("/p")] == ["Words of /p."]
    assert train(crawls, silent=False) == ([], 0)
    assert crawls.ledger()[shop.www("/p")] == "unchanged"


def test_a_page_is_judged_alike_when_what_leads_to_it_is_unchanged(crawls: Crawls, shop: Shop) -> None:
    fill(shop, {"/p": []})
    home(shop, shop.www("/p"))
    train(crawls, silent=False)
    assert train(crawls, silent=False) == ([], 0)
    assert crawls.ledger() == {"/": "unchanged", shop.www("/p"): "unchanged"}


@pytest.mark.parametrize("where", ["/", "/a", "/old"])
def test_the_spelling_that_answers_is_read(crawls: Crawls, shop: Shop, where: str) -> None:
    fill(shop, {"/a": ["/p"] if where == "/a" else [], "/p": []})
    shop.pages["/old"] = redirect(shop.url("/p")) if where == "/old" else reply(page("Old."))
    home(shop, shop.www("/p"), shop.url("/a"), shop.url("/old"), *[shop.url("/p")] * (where == "/"))
    train(crawls, silent=True)
    texts, ledger = crawls.texts(), crawls.ledger()
    assert texts["/old" if where == "/old" else "/p"] == ["Words of /p."]
    assert (ledger[shop.www("/p")], len(texts)) == ("fetch_failed", 3 if where == "/old" else 4)


def test_a_text_is_not_kept_twice_under_two_spellings(crawls: Crawls, shop: Shop) -> None:
    fill(shop, {"/a": [], "/p": []})
    home(shop, shop.www("/p"), shop.url("/a"))
    train(crawls, silent=False)
    fill(shop, {"/a": ["/p"]})
    shop.pages["/a"] = reply(page("Anew.", shop.url("/p")))
    assert train(crawls, silent=True)[1] == 0
    assert {path: texts[0] for path, texts in crawls.texts().items()} == {
        "/": "Home.", "/a": "Anew.", "/p": "Words of /p.",
    }  # fmt: skip
