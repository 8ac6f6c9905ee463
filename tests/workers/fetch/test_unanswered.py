"""Origins whose robots.txt gives no answer: nothing is read there, and nothing counts as forbidden or as met."""

import pytest

from chat_api.core.errors import FetchFailed
from tests.workers.fetch.loopback import Script, client_of, reply, serving
from workers.fetch.crawl import Frontier, Visit
from workers.fetch.discovery import sitemap_frontier
from workers.fetch.robots import UNANSWERED, Robots, Rules, allowed_by, heard, unanswered
from workers.fetch.scope import Scope

HOME = "https://shop.example/"
SILENT = "http://shop.example/"
KNOWN = {HOME[:-1]: Rules((("/private", False),)), SILENT[:-1]: UNANSWERED}


def frontier() -> Frontier:
    """A frontier of a site that answers under one spelling alone."""
    return Frontier(HOME, Scope(), lambda url: allowed_by(KNOWN, url))


def test_a_twin_is_read_though_the_other_was_met_first() -> None:
    crawl = frontier()
    crawl.add([f"{SILENT}a", f"{SILENT}b", f"{SILENT}private", f"{HOME}private"], 1)
    crawl.add([f"{HOME}a", f"{SILENT}a?utm_source=x"], 2)
    assert [visit.url for visit in iter(crawl.next, None)] == [f"{HOME}a"]
    unread = dict.fromkeys([f"{SILENT}a", f"{SILENT}b", f"{SILENT}private"], "fetch_failed")
    assert crawl.skipped == unread | {f"{HOME}private": "blocked_by_robots"}


def test_a_page_that_leads_there_has_failed_and_its_twin_is_read() -> None:
    crawl = frontier()
    crawl.add([f"{HOME}old"], 1)
    assert crawl.landed(Visit(f"{HOME}old", 1), f"{SILENT}new") == "fetch_failed"
    crawl.add([f"{HOME}new"], 2)
    assert [visit.url for visit in iter(crawl.next, None)] == [f"{HOME}old", f"{HOME}new"]


def test_what_is_in_the_ledger_of_a_silent_origin_is_not_heard() -> None:
    urls = [f"{HOME}a", f"{SILENT}a", "http://shop.example.org/a", "mailto:x"]
    assert heard(KNOWN, urls) == [f"{HOME}a", "http://shop.example.org/a", "mailto:x"]
    assert (heard({}, urls), unanswered(KNOWN)) == (urls, [SILENT[:-1]])


@pytest.mark.parametrize("answer", [reply(b"", "503 Away", Retry_After="60"), lambda stream, _over: stream.close()])
def test_a_sitemap_s_pages_wait_for_their_robots(answer: bytes | Script) -> None:
    with serving() as site:
        site.pages["/sitemap.xml"] = reply(f"{site.url('/a')}\n{site.url('/b')}".encode())

        def visited() -> list[str]:
            with client_of(site) as client:
                crawl, _ = sitemap_frontier(site.url("/sitemap.xml"), Scope(), Robots(client), client)
            return [visit.url for visit in iter(crawl.next, None)]

        site.pages["/robots.txt"] = answer
        with pytest.raises(FetchFailed):
            visited()
        site.pages["/robots.txt"] = reply(b"")
        assert visited() == [site.url("/a"), site.url("/b")]
