"""What pages and servers ask of a crawl, and what becomes of pages that are another's double or are none."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.workers.chat_rows import ChatRows
from tests.workers.crawl.crawl_world import Crawls, fill, page
from tests.workers.fetch.loopback import Site, client_of, redirect, reply, serving
from workers.crawl.pages import ASKED_AT_MOST
from workers.crawl.plan import MOST_VISITS
from workers.fetch.traps import READ_FIRST

pytestmark = pytest.mark.stack


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/robots.txt": reply(b"User-agent: *\nDisallow: /private")}) as serves:
        yield serves


@pytest.fixture
def crawls(rows: ChatRows, site: Site) -> Crawls:
    return Crawls(rows, site)


def asked(site: Site, path: str) -> int:
    """How often the path was asked for."""
    return sum(head.startswith(f"GET {path} ".encode()) for head in site.requests)


# --- sitemaps of a site -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_a_site_s_own_sitemap_is_found(crawls: Crawls, site: Site, named: bool) -> None:
    where = "/maps/all.xml" if named else "/sitemap.xml"
    fill(site, {"/": ["/a"], "/a": [], "/orphan": []})
    site.pages[where] = reply("\n".join([site.url("/orphan"), site.url("/a"), "https://other.example/x"]).encode())
    if named:
        site.pages["/robots.txt"] = reply(f"Sitemap: {site.url(where)}\nSitemap: https://cdn.example/s.xml".encode())
    crawls.train()
    ledger = crawls.ledger()
    assert [path for path, outcome in ledger.items() if outcome == "indexed"] == ["/", "/orphan", "/a"]
    elsewhere = {path for path, outcome in ledger.items() if outcome == "other_host"}
    assert elsewhere == {"https://other.example/x", *(["https://cdn.example/s.xml"] if named else [])}


def test_a_start_that_leads_to_another_site_reads_what_the_sitemap_says_of_that(rows: ChatRows, site: Site) -> None:
    with serving({"/robots.txt": reply(b"")}) as old:
        crawls = Crawls(rows, site)
        crawls.stages = replace(crawls.stages, reader=replace(crawls.stages.reader, client=client_of(site, old)))
        fill(site, {"/": [], "/a": [], "/b": []})
        listed = reply("\n".join(map(site.url, ["/a", "/b"])).encode())
        site.pages["/sitemap.xml"] = listed
        old.pages |= {"/": redirect(site.url("/")), "/sitemap.xml": redirect(site.url("/sitemap.xml"))}
        crawls.site, new = old, site
        crawls.train()
        crawls.site = new
        assert list(crawls.texts()) == ["/", "/a", "/b"]


def test_a_sitemap_that_fails_does_not_keep_a_site_from_being_read(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a"], "/a": []})
    site.pages |= {"/robots.txt": reply(f"Sitemap: {site.url('/s.xml')}".encode()), "/s.xml": reply(b"", "500 Broken")}
    receipt = crawls.train()["receipt"]
    assert list(crawls.texts()) == ["/", "/a"]
    assert [site.url("/s.xml") in warning for warning in receipt["warnings"]] == [True]


def test_that_not_all_that_was_left_out_is_noted_is_told(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/x.png"]})
    crawls.queue()
    crawls.settled(crawls.claimed())
    crawls.rows.sql("UPDATE generations SET crawl = crawl || '{\"skipped\": 50000}'")
    while task := crawls.claim():
        crawls.settled(task)
    assert "/x.png" not in crawls.ledger()
    [job] = crawls.rows.sql("SELECT receipt FROM training_jobs")
    assert job["receipt"]["warnings"] == ["50,000 addresses that were left out are noted. Any beyond these are not."]


# --- what pages say of themselves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_header", [True, False])
def test_noindex_is_read_but_not_learned(crawls: Crawls, site: Site, in_header: bool) -> None:
    fill(site, {"/": ["/hidden"], "/behind": []})
    said = ["Hidden.", site.url("/behind")] + ([] if in_header else ["robots: noindex"])
    site.pages["/hidden"] = reply(page(*said), **({"X_Robots_Tag": "NOINDEX"} if in_header else {}))
    crawls.train()
    assert crawls.ledger() == {"/": "indexed", "/hidden": "noindex", "/behind": "indexed"}
    assert "/hidden" not in crawls.texts()


def test_a_page_that_now_says_noindex_with_its_304_is_gone(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a"], "/a": ["/b"], "/b": []})
    crawls.train()
    site.pages["/a"] = reply(b"", "304 Not Modified", X_Robots_Tag="noindex")
    receipt = crawls.train()["receipt"]
    assert crawls.ledger() == {"/": "indexed", "/a": "noindex", "/b": "indexed"} | {"/": "unchanged", "/b": "unchanged"}
    assert (list(crawls.texts()), receipt["pages"]["removed"]) == (["/", "/b"], 1)


def test_a_site_that_is_all_noindex_fails_and_says_why(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": []})
    site.pages["/"] = reply(page("Home.", "robots: noindex"))
    job = crawls.train()
    assert (job["status"], job["error_code"]) == ("failed", "no_text")
    assert "noindex" in job["error_message"]


@pytest.mark.parametrize("word", ["nofollow", "none"])
def test_links_of_a_nofollow_page_are_not_followed(crawls: Crawls, site: Site, word: str) -> None:
    fill(site, {"/": ["/a"], "/b": []})
    site.pages["/a"] = reply(page("A.", site.url("/b"), f"robots: {word}"))
    crawls.train()
    assert crawls.ledger() == {"/": "indexed", "/a": "indexed" if word == "nofollow" else "noindex"}


def test_what_is_said_to_other_robots_is_not_for_us(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": []})
    site.pages["/"] = reply(page("Home."), X_Robots_Tag="googlebot: noindex, nofollow")
    crawls.train()
    assert crawls.ledger() == {"/": "indexed"}


# --- doubles ----------------------------------------------------------------------------------------------------------


def test_a_page_is_a_duplicate_of_its_canonical_one(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a?view=1", "/a?view=2"]})
    site.pages |= {
        f"/a?view={n}": reply(page(f"View {n}.", f"canonical: {site.url('/a')}", *map(site.url, ["/b", "/a?view=3"])))
        for n in (1, 2)
    }
    fill(site, {"/a": ["/c"], "/b": [], "/c": []})
    crawls.train()
    assert crawls.ledger() == {
        "/": "indexed", "/a?view=1": "duplicate", "/a?view=2": "duplicate",
        "/a": "indexed", "/b": "indexed", "/c": "indexed",
    }  # fmt: skip
    assert crawls.train()["receipt"]["pages"]["changed"] == 0


@pytest.mark.parametrize("target", ["/gone", "/loop", "/private/x"])
def test_a_canonical_page_without_text_is_not_believed(crawls: Crawls, site: Site, target: str) -> None:
    fill(site, {"/": ["/a"]})
    site.pages["/a"] = reply(page("A.", f"canonical: {site.url(target)}", site.url("/b")))
    site.pages["/loop"] = reply(page("Loop.", f"canonical: {site.url('/a')}"))
    fill(site, {"/b": []})
    crawls.train()
    texts = crawls.texts()
    assert texts["/a"][0] == "A."
    assert "/b" in texts
    assert crawls.ledger()["/a"] == "indexed"


@pytest.mark.parametrize("target", ["/", "https://other.example/a"])
def test_a_front_page_or_another_site_is_nobody_s_canonical_page(crawls: Crawls, site: Site, target: str) -> None:
    fill(site, {"/": ["/a"]})
    address = target if target.startswith("https") else site.url(target)
    site.pages["/a"] = reply(page("A.", f"canonical: {address}"))
    crawls.train()
    assert crawls.texts()["/a"] == ["A."]


def test_the_same_text_under_the_same_title_is_learned_once(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    paths = ["/z", "/a", "/b", "/other-title"]
    fill(site, {"/": paths})
    for path in paths:
        title = "Other" if path == "/other-title" else "Same"
        site.pages[path] = reply(page(f"title: {title}", "The very same words.", site.url(f"{path}/below")))
    fill(site, {f"{path}/below": [] for path in paths})
    for run in range(2):
        receipt = crawls.train()["receipt"]
        outcomes = {path: outcome for path, outcome in crawls.ledger().items() if path in paths}
        first = "unchanged" if run else "indexed"
        assert outcomes == {"/z": first, "/a": "duplicate", "/b": "duplicate", "/other-title": first}
        assert len(crawls.texts()) == 1 + 2 + 4
        assert (receipt["pages"]["removed"], receipt["pages"]["failed"]) == (0, 0)
    assert receipt["tokens"] == 0
    [told] = rows.sql("SELECT DISTINCT message FROM pages WHERE outcome = 'duplicate'")
    assert told["message"] == f"It has the text of {site.url('/z')}"
    assert rows.sql("SELECT FROM embeddings WHERE chunk_id NOT IN (SELECT chunk_id FROM chunks)") == []


def test_a_slash_at_the_end_is_no_other_page(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a/", "/a", "/b", "/b/"], "/a/": [], "/b": []})
    site.pages["/a"] = redirect(site.url("/a/"))
    crawls.train()
    assert crawls.ledger() == {"/": "indexed", "/a/": "indexed", "/b": "indexed"}


# --- pages that are none ----------------------------------------------------------------------------------------------


def soft(site: Site, body: bytes) -> None:
    """Has the site answer 200 with this for whatever it has not."""

    class Everything(dict):  # type: ignore[type-arg]  # a site's pages, and more
        def get(self, key: str, _default: object = None) -> object:
            return self[key] if key in self else reply(body) if key != "/sitemap.xml" else reply(b"", "404 No")

    site.pages = Everything(site.pages)


def test_a_site_that_answers_nonsense_with_a_page_is_seen_through(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a", "/gone1", "/gone2"], "/a": []})
    soft(site, page("We looked everywhere on our shelves but found nothing under this address, sorry for that.",
                    site.url("/a")))  # fmt: skip
    crawls.train()
    assert crawls.ledger() == {"/": "indexed", "/gone1": "not_found", "/gone2": "not_found", "/a": "indexed"} | {}
    assert set(crawls.texts()) == {"/", "/a"}


def test_a_site_that_answers_nonsense_with_its_front_page_is_read(crawls: Crawls, site: Site) -> None:
    home = page("Welcome to the shop with all that one could ever want to buy, and more of it.", site.url("/a"))
    fill(site, {"/a": []})
    site.pages["/"] = reply(home)
    soft(site, home)
    crawls.train()
    assert crawls.ledger() == {"/": "indexed", "/a": "indexed"}


@pytest.mark.parametrize(("title", "found"), [
    ("404", False), ("404 Not Found", False), ("Page not found | Shop", False), ("Error 404 – Shop", False),
    ("Seite nicht gefunden", False), ("Page introuvable", False), ("The page could not be found", False),
    ("404 Main Street", False), ("Lost and found", True), ("Nothing found?", True), ("Foundations", True),
])  # fmt: skip
def test_a_short_page_whose_title_is_an_error_is_none(crawls: Crawls, site: Site, title: str, found: bool) -> None:
    fill(site, {"/": ["/a", "/long"]})
    site.pages["/a"] = reply(page(f"title: {title}", "Oh."))
    site.pages["/long"] = reply(page(f"title: {title}", "And here is a long text about it. " * 20))
    crawls.train()
    assert crawls.ledger() == {"/": "indexed", "/a": "indexed" if found else "not_found", "/long": "indexed"}


# --- servers that want time -------------------------------------------------------------------------------------------


def test_a_page_whose_server_wants_a_wait_is_read_after_it(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a"], "/a": []})
    good = site.pages["/a"]
    assert isinstance(good, bytes)
    answers = iter([reply(b"", "429 Slow Down", Retry_After="1"), reply(b"", "503 Away", Retry_After="1")])
    site.pages["/a"] = lambda stream, _over: stream.sendall(next(answers, good))
    job = crawls.train()
    assert (crawls.ledger(), job["status"]) == ({"/": "indexed", "/a": "indexed"}, "succeeded")
    assert asked(site, "/a") == 3


@pytest.mark.parametrize(("asked_for", "given"), [("600", 600), ("80000", 3600)])
def test_a_page_whose_server_wants_a_long_wait_has_its_second_try_after_it(
    rows: ChatRows, crawls: Crawls, site: Site, asked_for: str, given: int
) -> None:
    fill(site, {"/": ["/a"], "/a": []})
    site.pages["/a"] = reply(b"", "503 Away", Retry_After=asked_for)
    crawls.queue()
    for _ in range(3):
        crawls.settled(crawls.claimed())
    assert asked(site, "/a") == 1
    [left] = rows.sql(
        "SELECT extract(epoch FROM run_after - now()) AS wait_s FROM training_tasks WHERE status = 'waiting'"
    )
    assert given - 100 < left["wait_s"] <= given


def test_a_server_that_wants_waits_for_ever_ends(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a"], "/a": []})
    site.pages["/a"] = reply(b"", "429 Slow Down", Retry_After="0")
    assert crawls.train()["status"] == "succeeded"
    assert crawls.ledger() == {"/": "indexed", "/a": "fetch_failed"}
    assert asked(site, "/a") == 2 * ASKED_AT_MOST


def test_a_crawl_at_a_slow_pace_keeps_one_worker_at_a_time_busy(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    paths = [f"/{number}" for number in range(3 * MOST_VISITS)]
    listed = "\n".join(map(site.url, paths)).encode()
    site.pages |= {"/robots.txt": reply(b"User-agent: *\nCrawl-delay: 2"), "/sitemap.xml": reply(listed)}
    fill(site, {"/": []})
    crawls.stages.reader.client.manners.pace = lambda host, seconds: None  # type: ignore[method-assign]  # the test has no time
    crawls.queue()
    crawls.do(crawls.claimed())
    waits = rows.sql(
        "SELECT extract(epoch FROM run_after - now()) AS wait_s FROM training_tasks WHERE status = 'waiting' ORDER BY ordinal"
    )
    assert [round(row["wait_s"], -1) for row in waits] == [0, 40, 80, 120]
    assert not any(asked(site, path) for path in ["/", *paths]), "no page is looked at that will be asked for again"


# --- traps ------------------------------------------------------------------------------------------------------------


def test_a_calendar_without_end_is_left(crawls: Crawls, site: Site) -> None:
    months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]

    class Calendar(dict):  # type: ignore[type-arg]  # a site's pages, and months without end
        def get(self, key: str, default: object = None) -> object:
            if not key.startswith("/month/"):
                return super().get(key, default)
            number = int(key.removeprefix("/month/"))
            links = [site.url(f"/month/{number + step}") for step in range(1, 12)]
            words = f"title: {months[number % 12]} {2000 + number // 12}", f"{months[number % 12]}: nothing on."
            return reply(page(*words, "Monday Tuesday Wednesday Thursday Friday Saturday Sunday", *links))

    fill(site, {"/": ["/month/0", "/a"], "/a": ["/b"], "/b": []})
    site.pages = Calendar(site.pages)
    crawls.options = {"max_pages": 1000, "max_depth": 100}
    crawls.train()
    ledger = crawls.ledger()
    read = sum(outcome == "indexed" for outcome in ledger.values())
    assert READ_FIRST < read < READ_FIRST + 100
    assert "trap" in ledger.values()
    assert ledger["/b"] == "indexed"
    first = crawls.texts()
    again = crawls.train()["receipt"]
    assert (again["pages"]["changed"], again["tokens"], crawls.texts()) == (0, 0, first)


def test_pages_of_one_shape_that_differ_are_no_trap(crawls: Crawls, site: Site) -> None:
    count = READ_FIRST + 60
    words = [
        "amber",
        "basil",
        "cedar",
        "dune",
        "ember",
        "fjord",
        "grove",
        "heath",
        "iris",
        "jade",
        "kelp",
        "lotus",
        "maple",
        "north",
        "opal",
        "pine",
        "quartz",
        "reed",
    ]

    def text(number: int) -> str:
        return " ".join(words[(number * step + step) % len(words)] + chr(97 + number % 26) for step in range(3, 15))

    fill(site, {"/": [f"/item/{number}" for number in range(count)]})
    site.pages |= {f"/item/{number}": reply(page(text(number), f"No {number}.")) for number in range(count)}
    crawls.options = {"max_pages": 1000}
    crawls.train()
    assert sum(outcome == "indexed" for outcome in crawls.ledger().values()) == count + 1
