"""What HTML asks of a crawl: other languages are links, robots' directives are read, charsets are not believed."""

import pytest

from tests.workers.fetch.loopback import client_of, reply, serving
from workers.extract.html import extract_html

URL = "https://shop.example/en/"
TEXT = "<p>" + "Words enough to be the text of a page, in a sentence. " * 8 + "</p>"


def page(head: str = "", body: str = TEXT) -> bytes:
    """An HTML page."""
    return (
        f"<!doctype html><html><head><title>Shop</title>{head}</head><body><main>{body}</main></body></html>".encode()
    )


def test_pages_in_other_languages_are_links() -> None:
    head = (
        '<link rel="alternate" hreflang="de" href="/de/"><link rel="ALTERNATE" hreflang="x-default" href="https://x/">'
        '<link rel="alternate" type="application/rss+xml" href="/feed"><link rel="stylesheet" hreflang="de" href="/s.css">'
    )
    found = extract_html(page(head, TEXT + '<a href="/a">A</a>'), url=URL)
    assert sorted(found.links) == ["https://shop.example/a", "https://shop.example/de/", "https://x/"]


def test_a_single_link_s_nofollow_is_no_word_to_readers() -> None:
    body = TEXT + '<a href="/a" rel="nofollow ugc">A</a><a href="/b" rel="NoFollow">B</a>'
    assert extract_html(page(body=body), url=URL).links == ("https://shop.example/a", "https://shop.example/b")


@pytest.mark.parametrize(("head", "directives"), [
    ('<meta name="robots" content="NOINDEX, follow">', ("noindex", "follow")),
    ('<meta name="Chat_API" content="none">', ("none",)), ('<meta name="googlebot" content="noindex">', ()),
    ('<meta name="robots" content="">', ()), ("", ()),
])  # fmt: skip
def test_directives_for_us_are_read(head: str, directives: tuple[str, ...]) -> None:
    assert extract_html(page(head), url=URL).directives == directives


@pytest.mark.parametrize(("said", "meta", "encoding"), [
    ("utf-8", "utf-8", "cp1252"), ("iso-8859-1", "utf-8", "utf-8"), ("utf-8", "iso-8859-1", "utf-8"),
    (None, "utf-8", "cp1252"), (None, "windows-1251", "utf-8"), ("nonsense", "", "utf-8"), ("ascii", "", "utf-8"),
])  # fmt: skip
def test_a_charset_that_lies_is_not_believed(said: str | None, meta: str, encoding: str) -> None:
    html = f'<html><head><meta charset="{meta}"><title>T</title></head><body><main><p>Größe, café, naïve: „schön“. ' * 1
    body = (html + "Grüße aus München, wo es schön ist. " * 20 + "</p></main></body></html>").encode(encoding)
    kind = f"text/html; charset={said}" if said else "text/html"
    with serving({"/": reply(body, Content_Type=kind)}) as site, client_of(site) as client:
        fetched = client.get(site.url())
    document = extract_html(fetched.body, url=URL, charset=fetched.charset)
    text = " ".join(block.text for block in document.blocks)
    assert "Grüße aus München" in text
    assert "café" in text
