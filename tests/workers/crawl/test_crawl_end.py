"""What a crawl's end makes of pages that were live: kept while that is right, gone when it is, never many at once."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chat_api.core.errors import QuotaExceeded, RemovalsHeld, SourceDeleted
from chat_api.core.jobs import END_RUNS_OF_SOURCE
from tests.workers.chat_rows import ChatRows
from tests.workers.crawl.crawl_world import Crawls, page
from tests.workers.fetch.loopback import Site, redirect, reply, serving

pytestmark = pytest.mark.stack


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/robots.txt": reply(b"")}) as serves:
        yield serves


@pytest.fixture
def crawls(rows: ChatRows, site: Site) -> Crawls:
    return Crawls(rows, site)


def fill(site: Site, *paths: str) -> None:
    """A start that links to pages of one word each."""
    site.pages["/"] = reply(page(f"Home of {len(paths)}.", *map(site.url, paths)), ETag=f'"home{len(paths)}"')
    for path in paths:
        site.pages[path] = reply(page(f"Words of {path}."), ETag=f'"{path}"')


def numbered(count: int, start: int = 0) -> list[str]:
    """Paths of so many pages."""
    return [f"/{number}" for number in range(start, start + count)]


@pytest.mark.parametrize(("answer", "outcome"), [
    (reply(b"", "500 Broken"), "fetch_failed"), (reply(b"", "403 No"), "forbidden"), (reply(b"\n"), "no_text"),
])  # fmt: skip
def test_a_page_that_fails_keeps_its_text_and_is_named(crawls: Crawls, site: Site, answer: bytes, outcome: str) -> None:
    fill(site, "/a", "/b")
    crawls.train()
    good, site.pages["/a"] = site.pages["/a"], answer
    for _ in range(2):
        receipt = crawls.train()["receipt"]
        assert (crawls.ledger()["/a"], crawls.texts()["/a"]) == (outcome, ["Words of /a."])
        assert [(failure["url"], failure["code"]) for failure in receipt["failures"]] == [(site.url("/a"), outcome)]
        assert (receipt["pages"]["failed"], receipt["pages"]["removed"], receipt["chunks"]["total"]) == (1, 0, 3)
    site.pages["/a"] = good
    crawls.train()
    assert crawls.ledger()["/a"] == "unchanged"


def test_what_a_failing_page_links_to_is_not_lost(crawls: Crawls, site: Site) -> None:
    fill(site, "/hub")
    site.pages["/hub"] = reply(page("Hub.", site.url("/leaf")))
    site.pages["/leaf"] = reply(page("Leaf."))
    crawls.train()
    site.pages["/hub"] = reply(b"", "500 Broken")
    crawls.train()
    assert crawls.ledger() == {"/": "unchanged", "/hub": "fetch_failed", "/leaf": "unchanged"}


def test_a_page_that_is_gone_is_removed(crawls: Crawls, site: Site) -> None:
    fill(site, "/a", "/b")
    crawls.train()
    del site.pages["/a"]
    receipt = crawls.train()["receipt"]
    assert crawls.ledger() == {"/": "unchanged", "/a": "not_found", "/b": "unchanged"}
    assert "/a" not in crawls.texts()
    assert receipt["pages"]["removed"] == 1


def test_a_page_that_is_not_met_is_kept_once(crawls: Crawls, site: Site) -> None:
    fill(site, "/a", "/b")
    crawls.train()
    fill(site, "/b")
    receipt = crawls.train()["receipt"]
    assert (crawls.ledger()["/a"], crawls.texts()["/a"]) == ("missing", ["Words of /a."])
    assert receipt["warnings"] == [f"{site.url('/a')} was not met this time. Its text is kept until the next training."]
    assert (receipt["pages"]["found"], receipt["pages"]["removed"]) == (2, 0)
    receipt = crawls.train()["receipt"]
    assert ("/a" in crawls.ledger(), "/a" in crawls.texts(), receipt["pages"]["removed"]) == (False, False, 1)


def test_a_page_that_is_met_again_is_unchanged(crawls: Crawls, site: Site) -> None:
    fill(site, "/a", "/b")
    crawls.train()
    fill(site, "/b")
    crawls.train()
    fill(site, "/a", "/b")
    crawls.train()
    assert crawls.ledger()["/a"] == "unchanged"
    fill(site, "/b")
    crawls.train()
    assert crawls.ledger()["/a"] == "missing"


def test_what_an_edited_source_does_not_meet_is_gone_at_once(crawls: Crawls, site: Site) -> None:
    fill(site, *numbered(20))
    crawls.train()
    fill(site, "/0")
    crawls.options = {"max_depth": 9}
    receipt = crawls.train()["receipt"]
    assert (list(crawls.texts()), receipt["pages"]["removed"]) == (["/", "/0"], 19)


@pytest.mark.parametrize(("options", "reason"), [
    ({"exclude": ["/a"]}, "excluded"), ({"max_depth": 0}, "too_deep"), ({"max_pages": 1}, "too_many_pages"),
])  # fmt: skip
def test_what_the_rules_leave_out_is_gone(crawls: Crawls, site: Site, options: dict[str, Any], reason: str) -> None:
    fill(site, "/a")
    crawls.train()
    crawls.options = options
    crawls.train()
    assert (crawls.ledger(), list(crawls.texts())) == ({"/": "unchanged", "/a": reason}, ["/"])


@pytest.mark.parametrize("edited", [False, True])
def test_a_month_that_is_nearly_used_up_removes_nothing(crawls: Crawls, site: Site, edited: bool) -> None:
    paths = numbered(12)
    site.pages["/"] = reply(page("Home.", *map(site.url, paths[:4])), ETag='"home"')
    fetched_at_first = 13
    for path, below in zip(paths, [*paths[4:], *[None] * 4], strict=True):
        site.pages[path] = reply(page(f"Words of {path}.", *([site.url(below)] if below else [])))
    crawls.train()
    texts = crawls.texts()
    crawls.options |= {"exclude": ["/nothing"]} if edited else {}
    for _ in range(2):
        crawls.limits = {"monthly_pages": fetched_at_first + 3}
        receipt = crawls.train(force=True)["receipt"]
        assert (crawls.texts(), receipt["pages"]["removed"]) == (texts, 0)
        assert set(crawls.ledger().values()) >= {"too_many_pages", "missing"}
        fetched_at_first += 3


def test_a_page_under_another_spelling_is_not_missed(crawls: Crawls, site: Site) -> None:
    fill(site, "/old", "/b")
    crawls.train()
    site.pages["/moved"] = site.pages["/old"]
    site.pages["/old"] = redirect(site.url("/moved"))
    crawls.train()
    assert crawls.ledger() == {"/": "unchanged", "/old": "indexed", "/b": "unchanged", "/moved": "duplicate"}
    site.pages["/"] = reply(page("Home.", site.url("/moved"), site.url("/b")))
    receipt = crawls.train()["receipt"]
    assert list(crawls.texts()) == ["/", "/moved", "/b"]
    assert (receipt["pages"]["removed"], receipt["warnings"]) == (0, [])


# --- the brake --------------------------------------------------------------------------------------------------------


def gone(site: Site, *paths: str) -> None:
    for path in paths:
        del site.pages[path]


@pytest.mark.parametrize(("pages", "lost", "held"), [(40, 11, True), (40, 10, False), (60, 12, False), (12, 11, True)])
def test_many_removals_wait_for_the_owner(
    rows: ChatRows, crawls: Crawls, site: Site, pages: int, lost: int, held: bool
) -> None:
    fill(site, *numbered(pages - 1))
    crawls.train()
    gone(site, *numbered(lost))
    job = crawls.train()
    assert (job["status"], job["error_code"]) == (("failed", "removals_held") if held else ("succeeded", None))
    assert len(crawls.texts()) == (pages if held else pages - lost)
    assert rows.sql("SELECT FROM training_tasks") == []


def test_a_parked_generation_says_what_it_would_change(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    fill(site, *numbered(120))
    crawls.train()
    fill(site, *numbered(120), "/new")
    gone(site, *numbered(119, 1))
    job = crawls.train()
    [parked] = rows.sql("SELECT * FROM generations WHERE state = 'parked'")
    assert (parked["held_by"], parked["job_id"], job["error_message"]) == (
        "removals_held", job["job_id"], RemovalsHeld.__doc__,
    )  # fmt: skip
    assert len(parked["diff"].pop("removed")) == 100
    assert parked["diff"] == {"removed_count": 119, "added_count": 1, "changed_count": 1}
    assert parked["receipt"]["pages"]["removed"] == job["receipt"]["pages"]["removed"] == 119
    gone(site, "/0")
    crawls.train()
    assert len(rows.sql("SELECT FROM generations WHERE state = 'parked'")) == 1


def test_many_pages_that_fail_are_no_removals(crawls: Crawls, site: Site) -> None:
    fill(site, *numbered(30))
    crawls.train()
    for path in numbered(30):
        site.pages[path] = reply(b"", "401 Login")
    assert crawls.train()["status"] == "succeeded"
    assert len(crawls.texts()) == 31


# --- trouble at the end -----------------------------------------------------------------------------------------------


def to_the_end(crawls: Crawls) -> Any:
    """A run of which only the last task is left, claimed."""
    crawls.queue()
    while (task := crawls.claimed()).kind != "finish":
        crawls.settled(task)
    return task


def test_an_end_that_is_done_again_keeps_the_same(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    fill(site, "/a", "/b", "/c")
    crawls.train()
    fill(site, "/b", "/c")
    site.pages["/c"] = reply(b"", "401 Login")
    task = to_the_end(crawls)
    with pytest.raises(ZeroDivisionError):
        crawls.do(task, _stops_at(2))
    assert crawls.ledger()["/a"] == "indexed"
    crawls.do(task)
    [warning] = rows.job(task.job_id)["receipt"]["warnings"]
    assert warning.startswith(site.url("/a"))
    assert crawls.ledger() == {"/": "indexed", "/a": "missing", "/b": "unchanged", "/c": "forbidden"}
    assert set(crawls.texts()) == {"/", "/a", "/b", "/c"}


def _stops_at(call: int) -> Callable[[], None]:
    calls = iter(range(call, -1, -1))
    return lambda: print(1 // (next(calls) - 1))


def test_a_source_that_is_deleted_at_the_end_stays_deleted(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    fill(site, "/a")
    task = to_the_end(crawls)
    rows.sql("UPDATE sources SET deleted_at = now()")
    with pytest.raises(SourceDeleted):
        crawls.do(task)
    assert rows.sql("SELECT FROM generations WHERE state = 'live'") == []


def test_what_was_fetched_is_counted_for_the_month(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    fill(site, "/a", "/b")
    crawls.train()
    crawls.train()
    used = rows.sql("SELECT purpose, model, calls FROM usage_days ORDER BY purpose")
    assert [tuple(row.values()) for row in used] == [("embed", "test-model", 3), ("fetch", "", 6)]


def test_what_a_crawl_has_used_is_counted_though_it_is_cancelled(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    fill(site, "/a", "/b")
    to_the_end(crawls)
    rows.sql(END_RUNS_OF_SOURCE.text, org_id=rows.org_id, source_ids=[crawls.source_id])
    used = rows.sql("SELECT purpose, calls FROM usage_days ORDER BY purpose")
    assert [tuple(row.values()) for row in used] == [("embed", 3), ("fetch", 3)]
    crawls.limits = {"monthly_pages": 3}
    assert crawls.train()["error_code"] == QuotaExceeded.code
