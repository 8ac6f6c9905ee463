"""robots.txt as RFC 9309 has it: which group counts, which rule wins, what a missing or failing file means."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import BlockedAddress, BlockedByRobots, FetchFailed
from tests.workers.fetch.loopback import client_of, redirect, reply, serving
from workers.fetch.manners import Manners
from workers.fetch.robots import UNANSWERED, Robots, Rules, asked_of_robots, parse_robots

RULES = """
User-agent: other
Disallow: /

User-agent: *
Disallow: /private/
Allow: /private/open
Disallow: /*.pdf$
Disallow: /search?
Disallow: /a/*/z
Allow: /same
Disallow: /same
Disallow: /%7euser
Disallow: /ü
Disallow:
"""


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/", True),
        ("/private", True),
        ("/private/", False),
        ("/private/x", False),
        ("/private/open/x", True),
        ("/file.pdf", False),
        ("/file.pdf?x", True),
        ("/file.pdfs", True),
        ("/search", True),
        ("/search?q=1", False),
        ("/a/b/c/z", False),
        ("/a/z", True),
        ("/same", True),
        ("/~user", False),
        ("/%C3%BC", False),
    ],
)
def test_the_longest_rule_that_fits_decides(target: str, allowed: bool) -> None:
    assert parse_robots(RULES.encode()).allows(target) is allowed


GROUPS = [
    ("User-agent: *\nDisallow: /\n\nUser-agent: chat_api\nDisallow: /a", "/b", True),
    ("User-agent: *\nDisallow: /\n\nUser-agent: chat_api\nDisallow: /a", "/a", False),
    ("User-agent: *\nDisallow: /\n\nUser-agent: Chat_API/2.0\nDisallow:", "/a", True),
    ("User-agent: chat_api\n\nUser-agent: *\nDisallow: /", "/a", False),
    ("User-agent: x\nUser-agent: chat_api\nDisallow: /", "/a", False),
    ("User-agent: chat_api\nUser-agent: x\nDisallow: /", "/a", False),
    ("User-agent: chat_api\nDisallow: /a\n\nUser-agent: x\nDisallow: /b\n\nUser-agent: chat_api\nDisallow: /c", "/c", False),
    ("User-agent: chat_api\nDisallow: /a\n\nUser-agent: x\nDisallow: /b\n\nUser-agent: chat_api\nDisallow: /c", "/b", True),
    ("User-agent: chat_apis\nDisallow: /", "/a", True),
    ("User-agent: chat\nDisallow: /", "/a", True),
    ("Disallow: /", "/a", True),
    ("user-AGENT :*\r\nDISALLOW :/a # comment\r\n", "/a", False),
    ("User-agent: *\rDisallow: /a", "/a", False),
    ("\ufeffUser-agent: *\nDisallow: /", "/a", False),
    ("User-agent: *\nDisallow: a", "/a", False),
    ("User-agent: *\nDisallow: *a", "/xa", False),
    ("User-agent: *\nSitemap: https://x/\nDisallow: /a", "/a", False),
    ("User-agent: *\nnonsense\nDisallow: /a", "/a", False),
    ("<html><body>not robots</body></html>", "/a", True),
    ("", "/a", True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "target", "allowed"), GROUPS)
def test_our_own_group_counts_else_everybody_s(text: str, target: str, allowed: bool) -> None:
    assert parse_robots(text.encode()).allows(target) is allowed


def test_delays_are_bounded_and_sitemaps_collected() -> None:
    text = (
        "Sitemap: https://x/1.xml\nUser-agent: *\nCrawl-delay: 1.5\nSitemap: https://x/2.xml\nSitemap: https://x/1.xml"
    )
    rules = parse_robots(text.encode())
    assert (rules.crawl_delay, rules.sitemaps) == (1.5, ("https://x/1.xml", "https://x/2.xml"))
    assert parse_robots(b"User-agent: *\nCrawl-delay: 9999").crawl_delay == 10
    assert parse_robots(b"User-agent: *\nCrawl-delay: soon").crawl_delay is None


@pytest.mark.parametrize(("header", "asked"), [
    (None, set()), ("", set()), ("noindex", {"noindex"}), (" NoIndex , NOFOLLOW", {"noindex", "nofollow"}),
    ("googlebot: noindex", set()), ("googlebot: noindex, nofollow, chat_api: none", {"none"}),
    ("chat_api: noindex, otherbot: nofollow", {"noindex"}), ("*: noindex", {"noindex"}),
    ("max-snippet: 20, noindex", {"max-snippet: 20", "noindex"}),
    ("googlebot: nofollow, unavailable_after: 25 Jun 2030 15:00:00 PST", set()),
    ("googlebot: nofollow\nnoindex", {"noindex"}), ("noindex\ngooglebot: nofollow", {"noindex"}),
    ("chat_api: none\ngooglebot: noindex, nofollow", {"none"}), ("360spider: noindex, nofollow", set()),
])  # fmt: skip
def test_what_an_x_robots_tag_asks_of_us(header: str | None, asked: set[str]) -> None:
    assert asked_of_robots(header) == asked


@pytest.mark.parametrize("date", [
    "25 Jun 2010 15:00:00 PST", "Mon, 25 Jun 2010 15:00:00 PST", "Friday, 25-Jun-10 15:00:00 UTC", "June 25, 2010 15:00",
    "2010-06-25T15:00:00+00:00", "25 Jun 2010, 15:00:00 PST",
])  # fmt: skip
@pytest.mark.parametrize(("robot", "heeded"), [("", True), ("chat_api: ", True), ("googlebot: ", False)])
def test_a_date_does_not_eat_what_follows_it(date: str, robot: str, heeded: bool) -> None:
    assert ("noindex" in asked_of_robots(f"{robot}unavailable_after: {date}, noindex")) is heeded


def test_rules_are_stored_and_come_back() -> None:
    rules = parse_robots(b"User-agent: *\nDisallow: /a\nAllow: /a/b\nCrawl-delay: 2\nSitemap: https://x/s.xml")
    stored = Rules.of(json.loads(json.dumps(rules.stored)))
    assert (stored.patterns, stored.crawl_delay, stored.sitemaps) == (rules.patterns, 2.0, ())
    assert Rules.of(json.loads(json.dumps(UNANSWERED.stored))) == UNANSWERED
    assert Rules.of({"patterns": [], "delay": None}).answered


def test_only_the_first_500_kib_are_read() -> None:
    filler = b"# filler\n" * 60_000
    assert parse_robots(b"User-agent: *\n" + filler + b"Disallow: /").allows("/a")
    assert not parse_robots(b"User-agent: *\n" + filler[:400_000] + b"\nDisallow: /").allows("/a")


def test_a_pattern_of_many_stars_takes_no_longer_than_others() -> None:
    rules = parse_robots(b"User-agent: *\nDisallow: /" + b"*a" * 5_000 + b"b")
    assert rules.allows("/" + "a" * 1_900)


@given(st.binary(max_size=400), st.text(max_size=30))
def test_any_bytes_are_rules(body: bytes, path: str) -> None:
    assert parse_robots(b"User-agent: *\n" + body).allows("/" + path) in {True, False}


@given(st.lists(st.sampled_from(["User-agent: *", "User-agent: chat_api", "Disallow: /a", "Allow: /a/b", "", "x"])))
def test_any_lines_are_rules(lines: list[str]) -> None:
    rules = parse_robots("\n".join(lines).encode())
    assert rules.allows("/c")
    assert rules.allows("/a/b") or not rules.allows("/a")


# --- over the network ---


def test_each_x_robots_tag_counts_for_its_own_robot() -> None:
    page = reply(b"page", X_Robots_Tag="googlebot: nofollow\r\nX-Robots-Tag: noindex")
    with serving({"/": page}) as site, client_of(site) as client:
        assert asked_of_robots(client.get(site.url()).robots) == {"noindex"}


def test_rules_are_read_once_per_origin() -> None:
    answer = reply(b"User-agent: *\nDisallow: /a")
    with serving({"/robots.txt": answer}) as site, client_of(site) as client:
        robots = Robots(client)
        robots.check(site.url("/b"))
        assert not robots.allows(site.url("/a"))
        with pytest.raises(BlockedByRobots) as blocked:
            robots.check(site.url("/a/b?c"))
        assert len(site.requests) == 1
    assert "/a/b" in blocked.value.message


@pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "403 Forbidden", "410 Gone", "400 Bad"])
def test_a_client_error_means_that_all_is_allowed(status: str) -> None:
    with serving({"/robots.txt": reply(b"User-agent: *\nDisallow: /", status)}) as site, client_of(site) as client:
        assert Robots(client).allows(site.url("/a"))


@pytest.mark.parametrize("status", ["500 Error", "503 Away", "429 Slow Down"])
def test_a_server_that_fails_allows_nothing_until_it_answers(status: str) -> None:
    answer = reply(b"", status, Retry_After="9")
    with serving({"/robots.txt": answer}) as site, client_of(site) as client:
        robots = Robots(client)
        for _ in range(2):
            with pytest.raises(FetchFailed) as failed:
                robots.check(site.url("/a"))
            assert robots.allows(site.url("/b")) is None
        assert len(site.requests) == 1
        assert robots.known == {site.url(""): UNANSWERED}
        site.pages["/robots.txt"] = reply(b"User-agent: *\nDisallow: /b")
        assert Robots(client).allows(site.url("/a"))
    assert f"robots.txt of 127.0.0.1 answers with an error ({status[:3]})" in failed.value.message
    assert (failed.value.retryable, failed.value.retry_after) == (True, 9)


@pytest.mark.parametrize("other", [UNANSWERED, Rules(), Rules(crawl_delay=1)])
@pytest.mark.parametrize("first", [True, False])
def test_another_origin_of_a_server_does_not_take_its_delay_away(other: Rules, first: bool) -> None:
    naps = list[float]()
    manners = Manners(clock=lambda: 1000.0 + sum(naps), sleep=naps.append)
    met = {"https://shop.example": Rules(crawl_delay=5), "http://shop.example": other}
    with client_of(manners=manners) as client:
        Robots(client, met if first else dict(reversed(met.items())))
        for _ in range(2):
            with manners.turn("shop.example"):
                pass
    assert sum(naps) == 5


def test_a_redirected_file_is_followed_but_not_into_a_private_network() -> None:
    pages = {"/robots.txt": redirect("/r"), "/r": reply(b"User-agent: *\nDisallow: /a")}
    with serving(pages) as site, client_of(site) as client:
        assert not Robots(client).allows(site.url("/a"))
        site.pages["/robots.txt"] = redirect("http://10.0.0.1/robots.txt")
        robots = Robots(client)
        with pytest.raises(BlockedAddress):
            robots.check(site.url("/a"))
        assert not robots.allows(site.url("/a"))


def test_a_file_that_redirects_for_ever_counts_as_missing() -> None:
    with serving({"/robots.txt": redirect("/robots.txt")}) as site, client_of(site) as client:
        assert Robots(client).allows(site.url("/a"))
