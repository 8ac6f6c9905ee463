"""What a run that failed has met: in the ledger while it is the newest word, and never to be gone back to or released."""

import json
import secrets
from typing import Any
from uuid import UUID, uuid4

import pytest

from chat_api.core.redis_client import connect_redis
from tests.flows.test_queue import WRITE
from tests.flows.world import Row, World
from tests.workers.fetch.loopback import reply
from workers.sweeper import Sweeper

pytestmark = pytest.mark.stack
HTML = {"Content_Type": "text/html"}
PAGE = reply(b"<html><body><main><h1>Hours</h1><p>We are open from nine to five.</p></main></body></html>", **HTML)
EMPTY = reply(b"<html><body><nav>Home</nav></body></html>", **HTML)


@pytest.fixture
def shop(open_shop: World) -> World:
    open_shop.site.pages.clear()
    return open_shop


def sweeper(shop: World) -> Sweeper:
    return Sweeper(shop.worker.engines, connect_redis(shop.settings), shop.settings, f"test-{uuid4()}")


def get(shop: World, source_id: UUID, what: str) -> Any:
    answer = shop.call("GET", f"/api/training/sources/{source_id}/{what}", scope="training:read")
    return answer.json() if answer.status_code == 200 else answer.status_code


def ledger(shop: World, source_id: UUID, query: str = "") -> dict[str, Row]:
    """The ledger's pages by their paths."""
    pages = get(shop, source_id, f"pages{query}")["pages"]
    return {page["url"].removeprefix(shop.site.url("")): page for page in pages}


def offered(shop: World, source_id: UUID) -> list[str]:
    return [one["state"] for one in get(shop, source_id, "generations")["generations"]]


@pytest.mark.parametrize("kind", ["url", "site"])
def test_an_address_too_long_to_be_kept_is_named_by_its_beginning(shop: World, kind: str) -> None:
    address = shop.site.url("/ä") + secrets.token_urlsafe(9_000)
    add = shop.client.add_site_source if kind == "site" else shop.client.add_url_source
    source_id = add(shop.bot_id, address)
    assert shop.train(source_id)["error"]["code"] == "invalid_url"
    [page] = get(shop, source_id, "pages")["pages"]
    assert page["outcome"] == "invalid_url"
    assert address.startswith(page["url"])


@pytest.mark.parametrize(
    ("page", "outcome", "status"),
    [
        (reply(b"", "404 Not Found"), "not_found", 404),
        (reply(b"", "403 Forbidden"), "forbidden", 403),
        (EMPTY, "no_text", 200),
        (None, "blocked_by_robots", None),
    ],
)
@pytest.mark.parametrize("site", [False, True])
def test_the_address_of_a_first_run_that_failed_is_named(
    shop: World, page: bytes | None, outcome: str, status: int | None, *, site: bool
) -> None:
    shop.site.pages["/a"] = page or PAGE
    shop.site.pages["/robots.txt"] = reply(b"" if page else b"User-agent: *\nDisallow: /a", Content_Type="text/plain")
    add = shop.client.add_site_source if site else shop.client.add_url_source
    source_id = add(shop.bot_id, shop.site.url("/a"))
    job = shop.train(source_id)
    assert (job["status"], job["error"]["code"]) == ("failed", outcome)
    for _ in range(2):
        [met] = ledger(shop, source_id).items()
        assert (met[0], met[1]["outcome"], met[1]["http_status"], met[1]["chunks"]) == ("/a", outcome, status, 0)
        assert met[1]["fetched_at"]
        assert offered(shop, source_id) == []
        for way in ("rollback", "generations/1/release"):
            answer = shop.call("POST", f"/api/training/sources/{source_id}/{way}", scope=WRITE)
            assert answer.status_code in {404, 409}
        sweeper(shop).collect()


def test_every_address_of_a_website_without_text_is_named(shop: World) -> None:
    links = b'<a href="/b">B</a> <a href="/c">C</a> <a href="https://elsewhere.invalid/">E</a>'
    start = b"<html><head><meta name=robots content=noindex></head><body><p>Words. " + links + b"</p></body></html>"
    shop.site.pages |= {"/": reply(start, **HTML), "/b": reply(b"", "404 Not Found"), "/c": EMPTY}
    source_id = shop.client.add_site_source(shop.bot_id, shop.site.url("/"))
    assert shop.train(source_id)["status"] == "failed"
    sweeper(shop).collect()
    assert {path: page["outcome"] for path, page in ledger(shop, source_id).items()} == {
        "/": "noindex", "/b": "not_found", "/c": "no_text", "https://elsewhere.invalid/": "other_host",
    }  # fmt: skip
    assert shop.chat("SELECT 1 FROM documents UNION ALL SELECT 1 FROM chunks") == []


def test_a_page_that_fails_now_is_named_beside_its_old_text(shop: World) -> None:
    shop.site.pages["/a"] = PAGE
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/a"))
    shop.train(source_id)
    before = ledger(shop, source_id)["/a"]
    shop.site.pages["/a"] = reply(b"", "404 Not Found")
    assert shop.train(source_id)["status"] == "failed"
    for _ in range(2):
        shown = get(shop, source_id, "pages?limit=1")
        [page] = shown["pages"]
        assert (shown["generation"], page["outcome"], page["http_status"]) == (1, "not_found", 404)
        assert (page["chunks"], page["content_sha256"]) == (before["chunks"], before["content_sha256"])
        assert page["fetched_at"] > before["fetched_at"]
        own = ledger(shop, source_id, "?generation=2")["/a"]
        assert (own["outcome"], own["chunks"], own["content_sha256"]) == ("not_found", 0, None)
        assert offered(shop, source_id) == ["live"]
        sweeper(shop).collect()
    shop.site.pages["/a"] = PAGE
    assert shop.train(source_id)["status"] == "succeeded"
    assert ledger(shop, source_id)["/a"]["outcome"] == "unchanged"
    assert get(shop, source_id, "pages?generation=2") == 404


def test_an_object_that_is_gone_is_named(shop: World) -> None:
    source_id = shop.client.add_text_source(shop.bot_id, "A", "x")
    shop.dashboard(
        "WITH f AS (INSERT INTO files (id, org_id, object_key, filename) VALUES (%s, %s, 'nowhere', 'a.txt') RETURNING id)"
        " UPDATE training_sources SET type = 'file', file_id = (SELECT id FROM f) WHERE id = %s",
        *(uuid4(), shop.client.org_id, source_id),
    )
    assert shop.train(source_id)["error"]["code"] == "not_found"
    [(url, page)] = ledger(shop, source_id).items()
    assert (url, page["outcome"]) == (f"s3://{shop.settings.r2_bucket}/nowhere", "not_found")


def test_a_ledger_goes_once_it_is_no_newest_word(shop: World) -> None:
    again, trained, deleted, old, stays = (
        shop.client.add_url_source(shop.bot_id, shop.site.url(f"/gone-{name}")) for name in range(5)
    )
    for source_id in (again, trained, deleted, old, stays):
        shop.train(source_id)
    sweeper(shop).collect()
    shop.train(again)
    shop.site.pages["/gone-1"] = PAGE
    shop.train(trained)
    shop.call("DELETE", f"/api/training/delete/{deleted}", scope=WRITE)
    shop.chat("UPDATE generations SET created_at = now() - interval '31 days' WHERE source_id = %s", old)
    assert ledger(shop, deleted) == {}
    sweeper(shop).prune()
    sweeper(shop).collect()
    left = shop.chat("SELECT source_id, generation FROM generations")
    assert {(row["source_id"], row["generation"]) for row in left} == {(again, 2), (trained, 2), (stays, 1)}
    assert {row["source_id"] for row in shop.chat("SELECT source_id FROM pages")} == {again, trained, stays}


def test_a_run_that_is_tried_again_leaves_no_ledger(shop: World) -> None:
    shop.site.pages["/a"] = reply(b"", "503 Service Unavailable")
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/a"))
    assert shop.train(source_id)["status"] == "waiting"
    assert shop.chat("SELECT 1 FROM generations") == []


@pytest.mark.parametrize("site", [False, True])
def test_the_address_of_a_run_whose_tries_are_used_up_is_named(shop: World, *, site: bool) -> None:
    shop.site.pages["/a"] = reply(b"", "503 Service Unavailable")
    add = shop.client.add_site_source if site else shop.client.add_url_source
    source_id = add(shop.bot_id, shop.site.url("/a"))
    job = shop.train(source_id)
    assert job["error"]["code"] == "fetch_failed"
    shop.chat("UPDATE training_tasks SET attempt = 9, run_after = now()")
    shop.work()
    assert shop.client.job(job["job_id"])["status"] == "failed"
    [(path, page)] = ledger(shop, source_id).items()
    assert (path, page["outcome"], page["http_status"]) == ("/a", "fetch_failed", 503)


# --- what an org may read in a month ---------------------------------------------------------------------------------


def limit(shop: World, **limits: Any) -> None:
    shop.dashboard("UPDATE orgs SET limits = %s::jsonb WHERE id = %s", json.dumps(limits), shop.client.org_id)


@pytest.mark.parametrize("most", [1, 1.5])
def test_single_pages_count_among_the_months_pages(shop: World, most: float) -> None:
    shop.chat("DELETE FROM usage_days")
    shop.site.pages |= dict.fromkeys(("/a", "/b", "/c"), PAGE)
    sources = [shop.client.add_url_source(shop.bot_id, shop.site.url(path)) for path in ("/a", "/b", "/c")]
    limit(shop, monthly_pages=most)
    try:
        answer = shop.call("POST", "/api/training/queue", {"source_ids": [str(each) for each in sources]}, scope=WRITE)
        jobs = [job["job_id"] for job in answer.json()["jobs"]]
        shop.work()
        codes = [(shop.client.job(job_id)["error"] or {}).get("code") for job_id in jobs]
        assert sorted(codes, key=str) == [None, "quota_exceeded", "quota_exceeded"]
        assert shop.train(sources[codes.index(None)])["error"]["code"] == "quota_exceeded"
        text = shop.client.add_text_source(shop.bot_id, "Note", "Kettles boil.")
        assert shop.train(text)["status"] == "succeeded"
    finally:
        limit(shop)
