"""Sitemaps: what they list, in order, within bounds; XML that attacks its reader."""

import gzip
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import BadResponse, FetchFailed, MalformedDocument, NotFound, TooLarge
from tests.workers.fetch.loopback import client_of, reply, serving
from workers.fetch.sitemap import Listing, Sitemap, parse_sitemap, read_sitemaps
from workers.fetch.urls import parse_url

MANY = [f"https://x/{number}" for number in range(50_100)]
NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def urlset(*pages: str) -> bytes:
    """A sitemap of these pages."""
    return f"<urlset {NAMESPACE}>{''.join(f'<url><loc>{page}</loc></url>' for page in pages)}</urlset>".encode()


def index(*sitemaps: str) -> bytes:
    """A sitemap of these sitemaps."""
    listed = "".join(f"<sitemap><loc>{sitemap}</loc></sitemap>" for sitemap in sitemaps)
    return f"<sitemapindex {NAMESPACE}>{listed}</sitemapindex>".encode()


@pytest.mark.parametrize(
    ("body", "pages"),
    [
        (urlset("https://x/a", "https://x/b", "https://x/a"), ("https://x/a", "https://x/b")),
        (b"<urlset><url><loc>\n https://x/a?b=1&amp;c=2 </loc></url></urlset>", ("https://x/a?b=1&c=2",)),
        (b"<urlset><url><loc><![CDATA[https://x/a]]></loc></url></urlset>", ("https://x/a",)),
        (b"<urlset><url><loc>https://x/<!-- c -->a</loc><lastmod>2024</lastmod></url></urlset>", ("https://x/a",)),
        (b"\n\n<?xml version='1.0'?>\n<urlset><url><loc>https://x/a</loc></url></urlset>", ("https://x/a",)),
        (b"\xef\xbb\xbf<urlset><url><loc>https://x/a</loc></url></urlset>", ("https://x/a",)),
        ("<urlset><url><loc>https://x/ü</loc></url></urlset>".encode("utf-16"), ("https://x/ü",)),
        (gzip.compress(urlset("https://x/a")), ("https://x/a",)),
        (b"https://x/a\r\nhttps://x/b\n\n https://x/a ", ("https://x/a", "https://x/b")),
        (b"<urlset><url><loc/></url><loc>https://x/outside</loc></urlset>", ()),
        (b'<urlset xmlns:i="y"><url><i:image><i:loc>https://x/i.png</i:loc></i:image></url></urlset>', ()),
        (b"<rss><channel><link>https://x/a</link></channel></rss>", ()),
        (b"", ()),
    ],
)
def test_pages_are_listed_in_order_once_each(body: bytes, pages: tuple[str, ...]) -> None:
    assert parse_sitemap(body) == Sitemap(pages)


def test_an_index_lists_sitemaps() -> None:
    assert parse_sitemap(index("https://x/1.xml", "https://x/2.xml")).sitemaps == ("https://x/1.xml", "https://x/2.xml")


@pytest.mark.parametrize(
    "body",
    [
        b"<urlset><url>",
        b"<urlset>&undefined;</urlset>",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b'<!DOCTYPE u [<!ENTITY f SYSTEM "file:///etc/passwd">]><urlset><url><loc>&f;</loc></url></urlset>',
        b'<!DOCTYPE u SYSTEM "http://127.0.0.1:1/x.dtd"><urlset/>',
        b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><urlset><url><loc>&b;</loc></url></urlset>',
        b"<a>" * 100_000,
        b"<\x00>",
    ],
)
def test_what_is_no_plain_sitemap_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedDocument) as refused:
        parse_sitemap(body)
    assert refused.value.message.endswith(".")


def test_a_gzip_bomb_is_too_large() -> None:
    with pytest.raises(TooLarge):
        parse_sitemap(gzip.compress(b"\0" * 2_000_000), max_bytes=1_000_000)


@pytest.mark.parametrize("body", [urlset(*MANY), "\n".join(MANY).encode()])
def test_no_more_entries_are_read_than_tell_that_there_are_too_many(body: bytes) -> None:
    assert len(parse_sitemap(body).pages) == 50_001


@given(st.binary(max_size=300) | st.text("<>/&;!urlsetloc ", max_size=100).map(str.encode))
def test_any_bytes_are_a_sitemap_or_one_typed_error(body: bytes) -> None:
    with suppress(MalformedDocument, TooLarge, FetchFailed, BadResponse):
        assert "" not in parse_sitemap(body).pages


# --- over the network ---


def test_the_sitemaps_of_an_index_are_read_in_its_order() -> None:
    with serving() as site, client_of(site) as client:
        site.pages = {
            "/sitemap.xml": reply(index(site.url("/2.xml"), site.url("/1.xml.gz"), "3.txt")),
            "/1.xml.gz": reply(gzip.compress(urlset("https://x/b", "https://x/c")), Content_Type="application/gzip"),
            "/2.xml": reply(urlset("https://x/a", "https://x/b")),
            "/3.txt": reply(b"https://x/d"),
        }
        listing = read_sitemaps(client, [site.url("/sitemap.xml")])
    assert listing.pages == ("https://x/a", "https://x/b", "https://x/c", "https://x/d")
    assert listing.warnings == ()


def test_circles_and_other_hosts_are_not_followed() -> None:
    with serving() as site, client_of(site) as client:
        sitemaps = [site.url("/s.xml"), site.url("/t.xml"), "http://10.0.0.1/s.xml", "http://[bad", site.url("/t.xml")]
        site.pages = {"/s.xml": reply(index(*sitemaps)), "/t.xml": reply(index(site.url("/s.xml")))}
        assert read_sitemaps(client, [site.url("/s.xml")]) == Listing((), (), ("http://10.0.0.1/s.xml",))
        assert len(site.requests) == 2


def test_nesting_ends_at_two_levels() -> None:
    with serving() as site, client_of(site) as client:
        site.pages = {f"/{n}.xml": reply(index(site.url(f"/{n + 1}.xml"))) for n in range(10)}
        listing = read_sitemaps(client, [site.url("/0.xml")])
        assert len(site.requests) == 3
    assert listing.warnings == ("Sitemaps beyond 1,000, or more than 2 levels down, were left out.",)


def test_so_many_files_are_enough_and_the_others_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.fetch.sitemap._MAX_FILES", 3)
    with serving() as site, client_of(site) as client:
        site.pages = {f"/{n}.xml": reply(urlset(f"https://x/{n}")) for n in range(5)}
        warnings = []
        for most in (2, 4):
            site.pages["/s.xml"] = reply(index(*(site.url(f"/{n}.xml") for n in range(most))))
            listing = read_sitemaps(client, [site.url("/s.xml")])
            assert listing.pages == ("https://x/0", "https://x/1")
            warnings.append(listing.warnings)
    assert warnings == [(), ("Sitemaps beyond 3, or more than 2 levels down, were left out.",)]


def test_enough_pages_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.fetch.sitemap._MAX_ENTRIES", 15)
    with serving() as site, client_of(site) as client:
        site.pages = {f"/{n}.xml": reply(urlset(*(f"https://x/{n}/{m}" for m in range(10)))) for n in range(5)}
        site.pages["/s.xml"] = reply(index(*(site.url(f"/{n}.xml") for n in range(5))))
        listing = read_sitemaps(client, [site.url("/s.xml")])
        assert (len(listing.pages), len(site.requests)) == (15, 3)
        assert listing.warnings == ("Of the addresses that the sitemaps list those beyond 15 were left out.",)
        site.pages["/s.xml"] = reply(urlset(*(f"https://x/{n}" for n in range(15))))
        listing = read_sitemaps(client, [site.url("/s.xml")])
        assert (len(listing.pages), listing.warnings) == (15, ())
        site.pages["/full.xml"] = site.pages["/s.xml"]
        site.pages["/away.xml"] = reply(b"", "503 Away")
        site.pages["/s.xml"] = reply(index(site.url("/full.xml"), site.url("/away.xml")))
        listing = read_sitemaps(client, [site.url("/s.xml")])
        assert (len(listing.pages), len(listing.warnings)) == (15, 1)


def test_a_listed_sitemap_that_is_gone_is_a_warning_and_one_that_fails_an_error() -> None:
    with serving() as site, client_of(site) as client:
        site.pages = {
            "/s.xml": reply(index(site.url("/gone.xml"), site.url("/bad.xml"), site.url("/1.xml"))),
            "/bad.xml": reply(b"<urlset>"),
            "/1.xml": reply(urlset("https://x/a")),
        }
        listing = read_sitemaps(client, [site.url("/s.xml")])
        assert listing.pages == ("https://x/a",)
        assert [site.url("/gone.xml") in listing.warnings[0], site.url("/bad.xml") in listing.warnings[1]] == [True] * 2
        site.pages["/gone.xml"] = reply(b"", "503 Away")
        with pytest.raises(FetchFailed):
            read_sitemaps(client, [site.url("/s.xml")])


def test_a_sitemap_that_does_not_exist_is_an_error() -> None:
    with serving() as site, client_of(site) as client, pytest.raises(NotFound):
        read_sitemaps(client, [site.url("/sitemap.xml")])


def test_a_site_s_own_sitemaps_are_read_as_far_as_they_can_be() -> None:
    with serving() as site, client_of(site) as client:
        site.pages = {
            "/a.xml": reply(urlset("https://x/a")),
            "/b.xml": reply(b"", "503 Away"),
            "/c.xml": reply(index(site.url("/gone.xml"), "https://cdn.example/d.xml")),
        }
        named = ["/b.xml", site.url("/a.xml"), "/c.xml", "https://other.example/s.xml", "http://[bad"]
        listing = read_sitemaps(client, named, site=parse_url(site.url()))
    assert listing.pages == ("https://x/a",)
    assert listing.elsewhere == ("https://other.example/s.xml", "https://cdn.example/d.xml")
    assert [site.url(path) in warning for path, warning in zip(("/b.xml", "/gone.xml"), listing.warnings, strict=True)]


def test_sitemaps_that_take_too_long_are_left_out_and_said_so() -> None:
    with serving({"/s.xml": reply(urlset("https://x/a"))}) as site, client_of(site) as client:
        listing = read_sitemaps(client, [site.url("/s.xml")], most_s=0)
        assert (listing.pages, site.requests) == ((), [])
    assert "1 sitemaps were left out" in listing.warnings[0]


def test_whoever_stops_is_heard_between_two_sitemaps() -> None:
    calls = iter(range(1, -1, -1))
    with serving() as site, client_of(site) as client:
        site.pages = {"/s.xml": reply(index(site.url("/t.xml"))), "/t.xml": reply(urlset("https://x/a"))}
        with pytest.raises(ZeroDivisionError):
            read_sitemaps(client, [site.url("/s.xml")], check=lambda: print(1 // next(calls)))
        assert len(site.requests) == 1
