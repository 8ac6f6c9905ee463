"""The frontier: which addresses are visited, in which order, and why the others are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import BlockedByRobots, InvalidUrl, NoText
from tests.workers.fetch.loopback import client_of, reply, serving
from workers.fetch.crawl import Frontier, Visit
from workers.fetch.discovery import site_frontier, sitemap_frontier
from workers.fetch.names import identity, link_of, spellings
from workers.fetch.robots import Robots
from workers.fetch.scope import MOST_PAGES, Scope
from workers.fetch.urls import parse_url

HOME = "https://shop.example/"


def frontier(scope: Scope | None = None, start: str = HOME) -> Frontier:
    """A frontier without its start in the queue."""
    return Frontier(start, scope or Scope())


def drained(of: Frontier) -> list[str]:
    """All addresses that wait, in order."""
    return [visit.url for visit in iter(of.next, None)]


def test_addresses_come_breadth_first_in_the_order_they_were_met() -> None:
    crawl = frontier()
    crawl.add_start()
    assert crawl.next() == Visit(HOME, 0)
    crawl.add([f"{HOME}b", f"{HOME}a"], 1)
    assert crawl.next() == Visit(f"{HOME}b", 1)
    crawl.add([f"{HOME}b/1"], 2)
    assert [crawl.next(), crawl.next(), crawl.next()] == [Visit(f"{HOME}a", 1), Visit(f"{HOME}b/1", 2), None]


@pytest.mark.parametrize(
    ("one", "twin"),
    [
        ("https://shop.example/a", "HTTPS://SHOP.example:443/a#part"),
        ("https://shop.example/a", "http://shop.example/a"),
        ("https://shop.example/a", "https://www.shop.example/a"),
        ("https://shop.example/a?x=1", "https://shop.example/a?x=1&utm_source=mail&UTM_Campaign=b&gclid=c"),
        ("https://shop.example/a", "https://shop.example/a?fbclid=1&_ga=2&mc_eid=3"),
        ("https://shop.example/a/c", "https://shop.example/a/b/../c"),
        ("https://shop.example/~a", "https://shop.example/%7Ea"),
        ("https://shop.example/", "https://shop.example"),
        ("https://shop.example/a", "https://shop.example/a/"),
        ("https://shop.example/a?x=1", "https://www.shop.example/a/?x=1"),
        ("https://shop.example/a", "https://shop.example/a;jsessionid=8F3A?PHPSESSID=1&JSESSIONID=2"),
        ("https://shop.example/a?x=1", "https://shop.example/a?sid=0123456789abcdef0123456789&x=1"),
        ("https://shop.example/a", "https://shop.example/(S(lit3py55t21z5v55vlm25s55))/a"),
    ],
)
def test_twins_are_visited_once_under_their_clean_name(one: str, twin: str) -> None:
    crawl = frontier()
    crawl.add([twin, one], 1)
    (visited,) = drained(crawl)
    assert "utm_" not in visited.lower()
    assert "clid" not in visited
    assert crawl.skipped == {}


def test_parameters_that_mean_something_stay() -> None:
    crawl = frontier()
    crawl.add([f"{HOME}a?utmost=1&ref=2&glid=3&page=4&sid=42&s=shoes"], 1)
    assert drained(crawl) == [f"{HOME}a?utmost=1&ref=2&glid=3&page=4&sid=42&s=shoes"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://other.example/", "other_host"),
        ("https://help.shop.example/", "other_host"),
        ("https://shop.example:8443/", "other_host"),
        ("ftp://shop.example/", "invalid_url"),
        ("https://shop.example/logo.PNG", "not_a_page"),
        ("https://shop.example/app.js?v=1", "not_a_page"),
        ("https://shop.example/feed.xml", "not_a_page"),
        ("https://shop.example/download.tar.gz", "not_a_page"),
    ],
)
def test_what_is_not_visited_is_said_why(url: str, reason: str) -> None:
    crawl = frontier()
    crawl.add([url], 1)
    assert (drained(crawl), crawl.skipped) == ([], {url: reason})


@pytest.mark.parametrize(
    "path", ["a.html", "a.php", "manual.PDF", "v1.2", "a.b/c", "png", "about.me", "x.docx", "a.zip/b"]
)
def test_pages_and_documents_are_visited(path: str) -> None:
    crawl = frontier()
    crawl.add([HOME + path], 1)
    assert drained(crawl) == [HOME + path]


def test_depth_and_page_caps() -> None:
    crawl = frontier(Scope(max_pages=2, max_depth=1))
    crawl.add_start()
    crawl.add([f"{HOME}deep"], 2)
    crawl.add([f"{HOME}a", f"{HOME}b", f"{HOME}logo.png"], 1)
    assert drained(crawl) == [HOME, f"{HOME}a"]
    assert crawl.skipped == {
        f"{HOME}deep": "too_deep",
        f"{HOME}b": "too_many_pages",
        f"{HOME}logo.png": "not_a_page",
    }


@pytest.mark.parametrize(
    ("include", "exclude", "visited"),
    [
        ((), (), ["docs", "docs/a", "blog/a?x=1"]),
        (("/docs*",), (), ["docs", "docs/a"]),
        (("/docs/*",), (), ["docs/a"]),
        (("/docs",), (), ["docs"]),
        ((), ("/docs*",), ["blog/a?x=1"]),
        (("/docs*",), ("*/a",), ["docs"]),
        (("https://shop.example/blog/*",), (), ["blog/a?x=1"]),
        (("*x=1",), (), ["blog/a?x=1"]),
        (("/docs", "/blog/*"), (), ["docs", "blog/a?x=1"]),
    ],
)
def test_patterns_narrow_a_crawl(include: tuple[str, ...], exclude: tuple[str, ...], visited: list[str]) -> None:
    crawl = frontier(Scope(include=include, exclude=exclude))
    crawl.add([f"{HOME}docs", f"{HOME}docs/a", f"{HOME}blog/a?x=1"], 1)
    assert drained(crawl) == [HOME + path for path in visited]
    assert set(crawl.skipped.values()) <= {"excluded"}


def test_the_start_is_visited_whatever_the_patterns_say() -> None:
    crawl = frontier(Scope(include=("/docs/*",)))
    crawl.add_start()
    crawl.add([HOME, f"{HOME}docs/a"], 1)
    assert drained(crawl) == [HOME, f"{HOME}docs/a"]


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        ({}, Scope(500, 10)),
        ({"max_pages": 7, "max_depth": 0, "include": ["/a*", " /b "], "exclude": "/c"}, Scope(7, 0, ("/a*", "/b"), ("/c",))),
        ({"max_pages": 10**9, "max_depth": -1}, Scope(MOST_PAGES, 0)),
        ({"max_pages": 0, "max_depth": 10**9}, Scope(1, 100)),
        ({"max_pages": "many", "max_depth": True, "include": {"a": 1}, "exclude": [1, None, ""]}, Scope(500, 10)),
        ({"max_pages": None, "include": None, "refresh": "daily"}, Scope(500, 10)),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_count_as_not_given(options: dict[str, object], scope: Scope) -> None:
    assert Scope.of(options) == scope == Scope.of(scope.options)


# --- where redirects land ---


def test_a_page_lands_where_it_was_expected() -> None:
    crawl = frontier()
    crawl.add([f"{HOME}a"], 1)
    visit = crawl.next()
    assert visit is not None
    assert crawl.landed(visit, "http://www.shop.example/a") is None


def test_two_pages_that_land_on_one_are_read_once() -> None:
    crawl = frontier()
    crawl.add([f"{HOME}a", f"{HOME}b", f"{HOME}c"], 1)
    assert crawl.landed(Visit(f"{HOME}a", 1), f"{HOME}c") == "duplicate"
    assert crawl.landed(Visit(f"{HOME}b", 1), f"{HOME}new") is None
    crawl.add([f"{HOME}new"], 2)
    assert drained(crawl) == [f"{HOME}a", f"{HOME}b", f"{HOME}c"]
    assert crawl.skipped == {f"{HOME}a": "duplicate", f"{HOME}new": "duplicate"}


def test_a_page_that_leads_off_the_site_is_not_read() -> None:
    crawl = frontier()
    crawl.add([f"{HOME}out"], 1)
    assert crawl.landed(Visit(f"{HOME}out", 1), "https://other.example/") == "other_host"


def test_a_start_that_leads_elsewhere_moves_the_crawl_there() -> None:
    crawl = frontier()
    crawl.add_start()
    visit = crawl.next()
    assert visit is not None
    assert crawl.landed(visit, "https://new.example/en/") is None
    crawl.add(["https://new.example/a", "https://shop.example/a", "https://new.example/en/"], 1)
    assert drained(crawl) == ["https://new.example/a"]


def test_robots_count_for_links_and_for_where_they_land() -> None:
    crawl = Frontier(HOME, Scope(max_pages=1), allows=lambda url: "private" not in url)
    crawl.add([f"{HOME}private", f"{HOME}a"], 1)
    assert drained(crawl) == [f"{HOME}a"]
    assert crawl.landed(Visit(f"{HOME}a", 1), f"{HOME}private/a") == "blocked_by_robots"
    assert set(crawl.skipped.values()) == {"blocked_by_robots"}


def test_patterns_count_for_where_a_link_lands_but_not_for_where_the_start_does() -> None:
    crawl = frontier(Scope(exclude=("/old*",)))
    crawl.add_start()
    assert crawl.landed(Visit(HOME, 0), f"{HOME}old/home") is None
    assert crawl.landed(Visit(f"{HOME}a", 1), f"{HOME}old/a") == "excluded"


def test_what_is_exhausted_is_not_visited() -> None:
    crawl = Frontier(HOME, Scope(), exhausted=lambda url: url.path.startswith("/calendar"))
    crawl.add([f"{HOME}calendar/1", f"{HOME}a"], 1)
    assert (drained(crawl), crawl.skipped) == ([f"{HOME}a"], {f"{HOME}calendar/1": "trap"})


# --- for all inputs ---

ADDRESSES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["https://shop.example", "http://www.shop.example", "https://other.example", "ftp://x", ""]),
    st.sampled_from(["", "/", "/a", "/a/../b", "/%61", "/b.png", "/é", "//", "/\n", "/a/", "/a//", "/;sid=1"]),
    st.sampled_from(["", "?x=1", "?utm_x=1", "#y", "?"]),
)


@given(st.lists(st.tuples(st.lists(ADDRESSES, max_size=8), st.integers(0, 4)), max_size=8), st.integers(1, 6))
def test_a_crawl_is_bounded_and_the_same_each_time(rounds: list[tuple[list[str], int]], pages: int) -> None:
    def crawled() -> tuple[list[Visit], dict[str, str]]:
        crawl = Frontier(HOME, Scope(max_pages=pages, max_depth=2))
        for urls, depth in rounds:
            crawl.add(urls, depth)
        return list(iter(crawl.next, None)), dict(crawl.skipped)

    visits, skipped = crawled()
    assert (visits, skipped) == crawled()
    assert len(visits) <= pages
    assert len({visit.url for visit in visits}) == len(visits)
    assert all(visit.depth <= 2 for visit in visits)
    assert not {visit.url for visit in visits} & set(skipped)


@given(st.lists(st.tuples(st.lists(ADDRESSES, max_size=8), st.integers(0, 4)), max_size=8), st.integers(1, 6))
def test_a_crawl_goes_on_elsewhere_as_if_it_had_not_stopped(rounds: list[tuple[list[str], int]], pages: int) -> None:
    whole, scope = Frontier(HOME, Scope(max_pages=pages, max_depth=2)), Scope(max_pages=pages, max_depth=2)
    visits, skipped = list[Visit](), dict[str, str]()
    for urls, depth in rounds:
        whole.add(urls, depth)
        links = [link for link in map(link_of, urls) if link]
        ledger = {visit.url for visit in visits} | set(skipped)
        met = [spelling for link in links for spelling in spellings(link) if spelling in ledger]
        part = Frontier(HOME, scope, accepted=len(visits), skipped=len(skipped), met=met)
        part.add(urls, depth)
        visits += list(iter(part.next, None))
        skipped |= part.skipped
    assert (visits, skipped) == (list(iter(whole.next, None)), whole.skipped)


@given(ADDRESSES, ADDRESSES)
def test_spellings_are_all_addresses_of_an_identity(one: str, other: str) -> None:
    first, second = link_of(one), link_of(other)
    if first and second:
        assert {identity(parse_url(spelling)) for spelling in spellings(first)} == {identity(first)}
        assert (identity(first) == identity(second)) == (str(second) in spellings(first))


def test_a_page_of_endless_links_does_not_fill_the_memory() -> None:
    crawl = frontier(Scope(max_pages=10))
    crawl.add((f"{HOME}{n}" for n in range(51_000)), 1)
    assert len(drained(crawl)) == 10
    assert len(crawl.skipped) == 50_000


# --- with a server ---


def test_a_site_that_robots_forbid_is_not_begun() -> None:
    with serving({"/robots.txt": reply(b"User-agent: *\nDisallow: /help\n")}) as site, client_of(site) as client:
        with pytest.raises(BlockedByRobots):
            site_frontier(site.url("/help"), Scope(), Robots(client), client)
        crawl, _ = site_frontier(site.url("/"), Scope(), Robots(client), client)
        crawl.add([site.url("/help/a"), site.url("/a")], 1)
    assert drained(crawl) == [site.url("/"), site.url("/a")]
    assert crawl.skipped == {site.url("/help/a"): "blocked_by_robots"}


def test_an_address_that_is_none_is_refused() -> None:
    with client_of() as client, pytest.raises(InvalidUrl):
        site_frontier("shop.example", Scope(), Robots(client), client)


def test_a_sitemap_s_pages_of_this_site_are_visited() -> None:
    with serving() as site, client_of(site) as client:
        listed = [site.url("/b"), site.url("/a"), "https://other.example/", site.url("/private"), site.url("/x/c")]
        site.pages = {
            "/robots.txt": reply(b"User-agent: *\nDisallow: /private"),
            "/sitemap.xml": reply("\n".join(listed).encode()),
        }
        scope = Scope(exclude=("/x/*",))
        crawl, warnings = sitemap_frontier(site.url("/sitemap.xml"), scope, Robots(client), client)
    assert (drained(crawl), warnings) == ([site.url("/b"), site.url("/a")], ())
    assert sorted(crawl.skipped.values()) == ["blocked_by_robots", "excluded", "other_host"]


def test_a_sitemap_without_pages_is_said_so() -> None:
    with serving({"/sitemap.xml": reply(b"<urlset/>")}) as site, client_of(site) as client, pytest.raises(NoText):
        sitemap_frontier(site.url("/sitemap.xml"), Scope(), Robots(client), client)
