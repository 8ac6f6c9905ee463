"""What a page leads to: addresses as people write them, refreshes, pages of links alone, and pages of far too many."""

import pytest

from chat_api.core.errors import NoText
from tests.workers.extract.files import page
from workers.documents import Document
from workers.extract.dispatch import extract
from workers.extract.html_page import MOST_LINKS

TEXT = "<p>Parcels are packed on the day you order and leave the house on the next working morning, by post.</p>"


def read_page(head: str = "", body: str = TEXT) -> Document:
    """A page with these parts, read."""
    return extract(page(f"<html><head><title>Help</title>{head}</head><body>{body}</body></html>"))


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("/files/Preisliste 2024.pdf", "https://shop.example/files/Preisliste%202024.pdf"),
        ("price list.html?for=small  shops", "https://shop.example/help/price%20list.html?for=small%20%20shops"),
        ("https://other.example/a b#part two", "https://other.example/a%20b"),
        (" /a.html ", "https://shop.example/a.html"),
    ],
)
def test_a_blank_in_an_address_is_escaped(address: str, link: str) -> None:
    document = read_page(f"<link rel='canonical' href='{address}'>", f"<a href='{address}'>It</a>{TEXT}")
    assert (document.links, document.canonical_url) == ((link,), link)


@pytest.mark.parametrize("address", ["https://shop example/a", "http:// shop.example/", "tel: 01632 960417"])
def test_a_blank_in_a_host_or_another_scheme_makes_no_link(address: str) -> None:
    document = read_page(f"<link rel='canonical' href='{address}'>", f"<a href='{address}'>It</a>{TEXT}")
    assert (document.links, document.canonical_url) == ((), None)


@pytest.mark.parametrize(
    ("content", "links"),
    [
        ("0;url=/en/", ("https://shop.example/en/",)),
        ("5; URL = 'en.html?a=1;b=2'", ("https://shop.example/help/en.html?a=1;b=2",)),
        ('0.5, "/en/"', ("https://shop.example/en/",)),
        ("0;/en/", ("https://shop.example/en/",)),
        ("300", ()),
        ("300;", ()),
        ("0;url=#top", ()),
        ("0;url=javascript:go()", ()),
        ("url=/en/", ()),
    ],
)
def test_where_a_page_sends_its_reader_is_a_link(content: str, links: tuple[str, ...]) -> None:
    refresh = f"<meta http-equiv='Refresh' content='{content.replace(chr(39), '&#39;')}'>"
    assert read_page(refresh).links == links
    assert read_page(f"<noscript>{refresh}</noscript>").links == ()


def test_a_page_of_pictures_that_are_links_has_these_and_no_text() -> None:
    body = "<a href='/de/'><img src='de.png'></a><a href='/en/'><img src='en.png'></a><map><area href='/fr/'></map>"
    document = read_page(body=f"{body}<footer>Call us: <a href='tel:+441632960417'>01632 960417</a></footer>")
    assert document.links == ("https://shop.example/de/", "https://shop.example/en/", "https://shop.example/fr/")
    assert (document.blocks, document.contact, document.title) == ((), (), "Help")
    assert read_page("<meta http-equiv=refresh content='0;url=/en/'>", "").links == ("https://shop.example/en/",)
    with pytest.raises(NoText):
        read_page(body="<img src='de.png'>")


def test_of_far_too_many_links_the_first_are_followed() -> None:
    links = "".join(f"<a href='/{number}'></a>" * 2 for number in range(MOST_LINKS))
    assert read_page(body=TEXT + links).warnings == ()
    document = read_page(body=f"{TEXT}{links}<a href='/0'></a><a href='/more'></a>")
    assert document.links == tuple(f"https://shop.example/{number}" for number in range(MOST_LINKS))
    assert document.warnings == ("Only the first 10,000 of the page's links are followed.",)


UNWRITABLE = [*range(1, 9), 0xB, 0xC, *range(0xE, 0x20), 0xFFFE, 0xFFFF]


@pytest.mark.parametrize("code", UNWRITABLE)
@pytest.mark.parametrize("spelled", ["{0}", "&#{1};", "&#x{1:x};", "&#X00{1:X}", "&#{1:07}"])
def test_a_character_that_no_element_may_hold_costs_no_page_its_text(code: int, spelled: str) -> None:
    strange = spelled.format(chr(code), code)
    document = read_page(
        body=f"<p>It costs 19<sup>99</sup>{strange} euros<script></script>{strange} a piece.</p>{TEXT}"
    )
    assert document.blocks[0].text == "It costs 19 99 euros a piece."


@pytest.mark.parametrize(
    ("reference", "char"), [("&#100;", "d"), ("&#x1ff;", "ǿ"), ("&#9;", ""), ("&#x2B;", "+"), ("&#312;", "ĸ")]
)
def test_all_other_references_are_read(reference: str, char: str) -> None:
    assert read_page(body=f"<p>Size {reference}</p>{TEXT}").blocks[0].text == f"Size {char}".strip()
