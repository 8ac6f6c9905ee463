"""A job's life through the public doors, with a worker at work: cancelled in the middle, followed, looked at, undone."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.flows.world import Row, World
from tests.provider_state import Fault
from tests.servers import as_workers
from tests.workers.fetch.loopback import reply
from workers.bootstrap import Collaborators, bootstrap
from workers.extract.sandbox import Sandbox
from workers.jobs import work

pytestmark = pytest.mark.stack
WRITE, READ = "training:write", "training:read"
TEXT = "We are open from nine to five, Monday to Friday."
DRY_RUN = {"dry_run": True}


@pytest.fixture
def shop(open_shop: World) -> World:
    return open_shop


def add(shop: World, words: str = TEXT) -> UUID:
    return shop.client.add_text_source(shop.bot_id, "Hours", words)


def edit(shop: World, source_id: UUID, words: str) -> None:
    shop.dashboard(
        "UPDATE training_sources SET content = jsonb_build_object('text', %s::text) WHERE id = %s", words, source_id
    )


def post(shop: World, path: str, body: Row | None = None) -> Any:
    answer = shop.call("POST", f"/api/training/{path}", body, scope=WRITE)
    assert answer.status_code in {200, 202}, answer.text
    return answer.json()


def get(shop: World, path: str) -> Any:
    answer = shop.call("GET", f"/api/training/{path}", scope=READ)
    assert answer.status_code == 200, answer.text
    return answer.json()


def answering(shop: World) -> list[str]:
    rows = shop.chat(
        "SELECT text FROM chunks JOIN sources USING (org_id, bot_id, source_id)"
        " WHERE generation = live_generation AND deleted_at IS NULL ORDER BY text"
    )
    return [row["text"] for row in rows]


def until(met: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := met()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextmanager
def working(worker: Collaborators) -> Iterator[None]:
    """A worker does all that is due; at the end it is waited for."""
    thread = threading.Thread(target=work, args=(worker,), kwargs={"until": time.monotonic() + 60})
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        assert not thread.is_alive()


def content(shop: World) -> list[Row]:
    return shop.chat("SELECT chunk_id, generation FROM chunks ORDER BY 1, 2")


# --- cancelled in the middle -----------------------------------------------------------------------------------------


def test_a_job_is_cancelled_in_the_middle_of_an_embedding_call(shop: World) -> None:
    source_id = add(shop)
    shop.train(source_id)
    edit(shop, source_id, "Other words.")
    job_id = shop.client.queue(source_id)["job_id"]
    shop.provider.controls.faults.append(Fault("hang"))
    with working(shop.worker):
        until(lambda: shop.provider.counts.running)
        cancelled = post(shop, f"jobs/{job_id}/cancel")
        assert (cancelled["status"], shop.client.job(job_id)["status"]) == ("cancelled", "cancelled")
        row = shop.source_row(source_id)
        assert (row["status"], row["error_code"]) == ("trained", "cancelled")
        written = content(shop)
    assert content(shop) == written
    assert answering(shop) == [TEXT]
    assert shop.client.job(job_id) == cancelled
    assert shop.source_row(source_id) == row
    assert shop.train(source_id)["status"] == "succeeded"
    assert answering(shop) == ["Other words."]


def test_a_job_is_cancelled_in_the_middle_of_a_parse(shop: World) -> None:
    source_id = add(shop, "sleep")
    job_id = shop.client.queue(source_id)["job_id"]
    with Sandbox(entry="tests.workers.extract.killers:extract", timeout_s=60) as sandbox:
        worker = bootstrap(as_workers(shop.settings), extractor=sandbox)
        with working(worker):
            until(lambda: shop.client.job(job_id)["stage"] == "extract")
            began = time.monotonic()
            assert post(shop, f"jobs/{job_id}/cancel")["status"] == "cancelled"
        assert time.monotonic() - began < 50  # the child did not sleep to its end
    assert (content(shop), answering(shop)) == ([], [])
    assert shop.source_row(source_id)["status"] == "cancelled"


def test_a_new_call_after_the_cancel_is_not_held_up_by_the_worker_that_still_hangs(shop: World) -> None:
    source_id = add(shop)
    first = shop.client.queue(source_id)["job_id"]
    shop.provider.controls.faults.append(Fault("hang"))
    with working(shop.worker):
        until(lambda: shop.provider.counts.running)
        post(shop, f"jobs/{first}/cancel")
        second = shop.client.queue(source_id)
        assert second["created"]
        other = bootstrap(as_workers(shop.settings))
        assert work(other, until=time.monotonic() + 30) == 1
        assert shop.client.job(second["job_id"])["status"] == "succeeded"
    assert [shop.client.job(job_id)["status"] for job_id in (first, second["job_id"])] == ["cancelled", "succeeded"]
    assert answering(shop) == [TEXT]


def test_a_crawl_is_cancelled_between_its_tasks(shop: World) -> None:
    links = "".join(f"<a href='/{number}.html'>page {number}</a> " for number in range(60))
    shop.site.pages["/"] = html(f"The first page leads to many others. {links}")
    for number in range(60):
        shop.site.pages[f"/{number}.html"] = html(f"This is page number {number} of the website.")
    source_id = shop.client.add_site_source(shop.bot_id, shop.site.url("/"))
    job_id = shop.client.queue(source_id)["job_id"]
    with working(shop.worker):
        until(lambda: shop.chat("SELECT 1 FROM training_tasks WHERE kind = 'pages' AND ordinal > 0"))
        assert post(shop, f"jobs/{job_id}/cancel")["status"] == "cancelled"
    assert shop.chat("SELECT 1 FROM training_tasks") == []
    assert answering(shop) == []
    assert shop.chat("SELECT 1 FROM generations WHERE state <> 'discarded'") == []
    assert get(shop, f"sources/{source_id}/pages")["pages"] == []


def html(body: str) -> bytes:
    page = f"<html><head><title>Page</title></head><body><main><p>{body}</p></main></body></html>"
    return reply(page.encode(), Content_Type="text/html")


# --- followed --------------------------------------------------------------------------------------------------------


def test_a_training_is_followed_to_its_end(shop: World) -> None:
    token = shop.client.sign_token(READ)
    with shop.http.stream("GET", "/api/training/events", headers={"Authorization": f"Bearer {token}"}) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith(":")
        job_id = shop.client.queue(add(shop))["job_id"]
        shop.work()
        seen = []
        while "succeeded" not in seen:
            line = next(lines)
            if line.startswith("data: "):
                job = json.loads(line.removeprefix("data: "))
                assert job["job_id"] == job_id
                seen.append(job["status"])
    assert job == shop.client.job(job_id)


# --- undone ----------------------------------------------------------------------------------------------------------


def test_a_rollback_lasts_until_the_next_call(shop: World) -> None:
    source_id = add(shop, "The first words.")
    shop.train(source_id)
    edit(shop, source_id, "The second words.")
    shop.train(source_id)
    assert answering(shop) == ["The second words."]
    waiting = shop.client.queue(source_id)["job_id"]
    generations = post(shop, f"sources/{source_id}/rollback")["generations"]
    assert [(one["state"], one["chunks"]) for one in generations] == [("kept", 1), ("live", 1)]
    assert generations == get(shop, f"sources/{source_id}/generations")["generations"]
    assert shop.client.job(waiting)["status"] == "cancelled"
    assert shop.work() == 0
    assert answering(shop) == ["The first words."]
    assert [page["outcome"] for page in get(shop, f"sources/{source_id}/pages")["pages"]] == ["indexed"]
    assert shop.train(source_id)["status"] == "succeeded"
    assert answering(shop) == ["The second words."]
    assert shop.chat("SELECT pinned_version FROM sources") == [{"pinned_version": None}]


# --- looked at -------------------------------------------------------------------------------------------------------


def dry_run(shop: World, source_id: UUID, **options: Any) -> Row:
    with working_until_asked(shop):
        answer = post(shop, "queue", {"source_id": str(source_id), **DRY_RUN, **options})
    assert len(answer["sources"]) == 1
    source: Row = answer["sources"][0]
    assert (source["complete"], answer["tokens"], answer["cost"]) == (True, source["tokens"], source["cost"])
    assert shop.chat("SELECT 1 FROM training_tasks") == []
    return source


@contextmanager
def working_until_asked(shop: World) -> Iterator[None]:
    over = threading.Event()

    def keep_working() -> None:
        while not over.wait(0.02):
            shop.work()

    thread = threading.Thread(target=keep_working)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def test_a_dry_run_of_a_text_says_what_it_costs_and_does_nothing(shop: World) -> None:
    source_id = add(shop)
    found = dry_run(shop, source_id)
    assert (found["type"], found["pages"], found["chunks"]) == ("text", {"fetch": 1, "unchanged": 0, "skip": {}}, 1)
    assert found["tokens"] > 0
    assert found["cost"] == pytest.approx(found["tokens"] * 0.02 / 1e6, abs=1e-6)
    for table in ("training_jobs", "sources", "generations", "chunks"):
        assert shop.chat(f"SELECT 1 FROM {table}") == []
    assert shop.provider.counts.inputs == 0
    assert shop.source_row(source_id)["status"] == "pending"


def test_a_dry_run_knows_what_is_trained_already(shop: World) -> None:
    source_id = add(shop)
    shop.train(source_id)
    assert dry_run(shop, source_id)["pages"] == {"fetch": 0, "unchanged": 1, "skip": {}}
    again = dry_run(shop, source_id, force=True)
    assert (again["pages"]["fetch"], again["chunks"], again["tokens"]) == (1, 1, 0)
    edit(shop, source_id, f"{TEXT} And on Saturdays until noon.")
    assert dry_run(shop, source_id)["tokens"] > 0


def test_a_dry_run_says_why_a_page_can_not_be_read(shop: World) -> None:
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/nowhere.html"))
    found = dry_run(shop, source_id)
    assert (found["error"]["code"], found["tokens"]) == ("not_found", 0)


def test_a_dry_run_does_not_count_what_asks_not_to_be_indexed(shop: World) -> None:
    shop.site.pages["/"] = html("The first page leads to <a href='/basket'>the basket</a> and says when we are open.")
    shop.site.pages["/basket"] = reply(
        b"<html><head><meta name=robots content=noindex></head><body><p>Your basket is empty, and has been for a while."
        b"</p></body></html>",
        Content_Type="text/html",
    )
    found = dry_run(shop, shop.client.add_site_source(shop.bot_id, shop.site.url("/")))
    assert found["pages"] == {"fetch": 1, "unchanged": 0, "skip": {"noindex": 1}}


@pytest.fixture
def one_page_left(shop: World) -> Iterator[World]:
    limited = "UPDATE orgs SET limits = jsonb_build_object('monthly_pages', %s::int) WHERE id = %s"
    shop.chat("DELETE FROM usage_days")
    shop.dashboard(limited, 1, shop.client.org_id)
    yield shop
    shop.dashboard("UPDATE orgs SET limits = '{}' WHERE id = %s", shop.client.org_id)


def test_a_dry_run_reads_no_more_pages_than_are_left_this_month(one_page_left: World) -> None:
    shop = one_page_left
    shop.site.pages["/"] = html("The first page leads to <a href='/more.html'>more</a> and says when we are open.")
    shop.site.pages["/more.html"] = html("This is the page that has more, and it is read after the first one.")
    page, site = (
        add(shop.bot_id, shop.site.url("/")) for add in (shop.client.add_url_source, shop.client.add_site_source)
    )
    assert dry_run(shop, page)["pages"]["fetch"] == 1
    cut = dry_run(shop, site)
    assert (cut["pages"]["fetch"], cut["notes"]) == (1, ["Only 1 pages are left of the organisation's 1 this month."])
    shop.train(page)
    assert [dry_run(shop, each)["error"]["code"] for each in (page, site)] == ["quota_exceeded"] * 2


def test_a_dry_run_of_a_website_says_what_is_left_out_and_estimates_the_rest(shop: World) -> None:
    links = "".join(f"<a href='/{number}.html'>page {number}</a> " for number in range(49))
    more = "<a href='/private/a.html'>a</a> <a href='https://elsewhere.example/'>b</a> <a href='/gone.html'>c</a>"
    shop.site.pages["/robots.txt"] = reply(b"User-agent: *\nDisallow: /private/")
    shop.site.pages["/"] = html(f"The first page leads to many others. {more} {links}")
    for number in range(49):
        shop.site.pages[f"/{number}.html"] = html(f"This is page number {number} of the website, read one by one.")
    source_id = shop.client.add_site_source(shop.bot_id, shop.site.url("/"))
    found = dry_run(shop, source_id)
    assert found["pages"]["skip"] == {"blocked_by_robots": 1, "other_host": 1, "not_found": 1}
    assert 40 <= found["pages"]["fetch"] <= 51
    assert 40 <= found["chunks"] <= 60
    assert found["tokens"] > 400
    [note] = found["notes"]
    assert "20 of at least 51 pages" in note
    shop.train(source_id)
    spent = shop.provider.counts.inputs
    known = dry_run(shop, source_id)
    assert (known["pages"]["fetch"], known["tokens"]) == (0, 0)
    assert known["pages"]["unchanged"] >= 40
    assert shop.provider.counts.inputs == spent
