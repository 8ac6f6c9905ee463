"""A crawl in many tasks: what is not read twice, what becomes of trouble, and how far a crawl goes."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from chat_api.core.errors import QuotaExceeded
from tests.workers.chat_rows import ChatRows
from tests.workers.crawl.crawl_world import REFUSED, STRAYS, Crawls, Died, fill, page, tangled
from tests.workers.fetch.loopback import Site, redirect, reply, serving
from workers.crawl.ledger import note_url
from workers.crawl.plan import MOST_VISITS
from workers.tasks.expiry import expire_leases
from workers.tasks.life import LeaseLostError, Task

pytestmark = pytest.mark.stack


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/robots.txt": reply(b"User-agent: *\nDisallow: /private")}) as serves:
        yield serves


@pytest.fixture
def crawls(rows: ChatRows, site: Site) -> Crawls:
    return Crawls(rows, site)


def test_an_unchanged_site_is_the_same_again_and_costs_nothing(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    tangled(site, 3)
    crawls.train()
    texts, ledger = crawls.texts(), crawls.ledger()
    asked = len(crawls.vectors.asked)
    receipt = crawls.train()["receipt"]
    assert crawls.texts() == texts
    assert crawls.ledger() == {
        path: "unchanged" if outcome == "indexed" else outcome for path, outcome in ledger.items()
    }
    assert len(crawls.vectors.asked) == asked
    assert (receipt["pages"]["changed"], receipt["pages"]["unchanged"]) == (0, len(texts))
    assert receipt["chunks"]["reused"] == receipt["chunks"]["total"] > 0
    conditional = [head for head in site.requests if b"If-None-Match" in head]
    assert len(conditional) >= len(texts)


def test_force_reads_all_anew_and_pays_nothing(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a"], "/a": []})
    crawls.train()
    asked = len(crawls.vectors.asked)
    receipt = crawls.train(force=True)["receipt"]
    assert (receipt["pages"]["changed"], receipt["chunks"]["reused"], len(crawls.vectors.asked)) == (2, 2, asked)


def test_one_page_that_changed_is_embedded_alone(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a", "/b"], "/a": [], "/b": []})
    crawls.train()
    del crawls.vectors.asked[:]
    site.pages["/a"] = reply(page("New words."))
    receipt = crawls.train()["receipt"]
    assert [words.rpartition("\n")[2] for words in crawls.vectors.asked] == ["New words."]
    assert (receipt["pages"]["changed"], receipt["pages"]["unchanged"]) == (1, 2)
    assert crawls.texts()["/a"] == ["New words."]


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_a_run_that_was_cancelled_writes_nothing_more(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    fill(site, {"/": ["/a"], "/a": []})
    crawls.queue()
    for _ in range(2):
        crawls.do(crawls.claimed())
    late = crawls.claimed()
    rows.sql("DELETE FROM training_tasks")
    before = rows.sql("SELECT count(*) AS n FROM chunks")
    with pytest.raises(LeaseLostError):
        crawls.do(late)
    assert rows.sql("SELECT count(*) AS n FROM chunks") == before
    assert rows.sql("SELECT FROM training_tasks") == []


def test_a_worker_that_was_taken_for_dead_names_no_page(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    fill(site, {"/": []})
    crawls.queue()
    crawls.do(crawls.claimed())
    zombie = crawls.claimed()
    rows.change_task(zombie.task_id, lease_expires_at="(now() - interval '1 s')")
    with rows.engine.begin() as connection:
        expire_leases(connection)
    with rows.engine.begin() as connection:
        note_url(connection, zombie, site.url("/"))
    assert rows.task(zombie.task_id)["at_url"] is None


def test_a_page_that_kills_its_worker_is_given_up_alone(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    fill(site, {"/": ["/a", "/killer", "/b"], "/a": [], "/killer": [], "/b": []})
    job_id, deaths = crawls.queue(), 0
    while task := crawls.claim():
        told = rows.task(task.task_id)
        if (
            task.kind == "pages"
            and "/killer" in str(task.plan["visits"])
            and site.url("/killer") not in task.plan.get("given_up", ())
        ):
            with pytest.raises(Died):
                crawls.do(task, _dies_at(rows, task, site.url("/killer")))
            deaths += 1
            rows.change_task(task.task_id, lease_expires_at="(now() - interval '1 s')")
            with rows.engine.begin() as connection:
                expire_leases(connection)
        else:
            crawls.settled(task)
        assert told["kind"] == task.kind
    assert rows.job(job_id)["status"] == "succeeded"
    assert deaths == 4
    assert crawls.ledger() == {"/": "indexed", "/a": "indexed", "/killer": "crashed_repeatedly", "/b": "indexed"}


def test_a_link_that_is_none_on_pages_of_two_tasks_ends_nothing(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    paths = [f"/{number}" for number in range(2 * MOST_VISITS)]
    fill(site, {"/": paths})
    for path in paths:
        site.pages[path] = reply(page(f"Words of {path}.", "https://{{host}}/a", "http://info@shop.example/"))
    job_id = crawls.queue()
    for _ in range(2):
        crawls.do(crawls.claimed())
    first, second = crawls.claimed(), replace(crawls.claimed(), suspect=True)
    others = [first]

    def meanwhile() -> None:
        if others and rows.task(second.task_id)["result"]:
            crawls.do(others.pop())

    crawls.do(second, meanwhile)
    assert not others
    while task := crawls.claim():
        crawls.do(task)
    assert rows.job(job_id)["status"] == "succeeded"
    assert crawls.ledger()["http://info@shop.example/"] == "invalid_url"


def _dies_at(rows: ChatRows, task: Task, url: str) -> Callable[[], None]:
    def check() -> None:
        if not task.suspect or rows.task(task.task_id)["at_url"] == url:
            raise Died

    return check


def test_pages_that_fail_in_passing_get_a_second_try(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a", "/b"], "/a": ["/below"], "/b": [], "/below": []})
    good = site.pages["/a"]
    failures = iter([reply(b"", "503 Busy")])
    site.pages["/a"] = lambda stream, _over: stream.sendall(next(failures, good))  # type: ignore[arg-type]  # all bytes
    site.pages["/b"] = reply(b"", "500 Broken")
    receipt = crawls.train()["receipt"]
    assert crawls.ledger() == {"/": "indexed", "/a": "indexed", "/b": "fetch_failed", "/below": "indexed"}
    assert sum(head.startswith(b"GET /b ") for head in site.requests) == 2
    assert [failure["code"] for failure in receipt["failures"]] == ["fetch_failed"]
    assert receipt["pages"]["failed"] == 1


def test_the_second_try_of_a_page_that_leads_elsewhere_reads_it(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/docs", "/other"], "/other": [], "/docs/intro": ["/below"], "/below": []})
    site.pages["/docs"] = redirect(site.url("/docs/intro"))
    site.pages["/docs/intro"] = reply(page("Intro.", f"canonical: {site.url('/gone')}", site.url("/below")))
    crawls.train()
    assert crawls.ledger()["/docs"] == "indexed"
    assert crawls.texts()["/docs"] == ["Intro."]


def test_a_start_that_fails_in_passing_is_tried_again_by_its_task(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    good = reply(page("Words."))
    failures = iter([reply(b"", "503 Busy")])
    site.pages["/"] = lambda stream, _over: stream.sendall(next(failures, good))
    assert crawls.train()["status"] == "succeeded"
    assert crawls.texts() == {"/": ["Words."]}


@pytest.mark.parametrize(("answer", "code"), [
    (reply(b"", "404 Not Found"), "not_found"), (reply(b"", "500 Broken"), "fetch_failed"), (reply(b""), "no_text"),
    (reply(b"", "403 No"), "forbidden"), (redirect("https://other.example/"), "unknown_host"),
])  # fmt: skip
def test_a_crawl_without_text_fails_with_its_first_error(crawls: Crawls, site: Site, answer: bytes, code: str) -> None:
    fill(site, {"/": []})
    assert crawls.train()["status"] == "succeeded"
    site.pages["/"] = answer
    job = crawls.train()
    assert (job["status"], job["error_code"]) == ("failed", code)
    assert crawls.texts() == {"/": ["Words of /."]}


def test_a_text_that_is_refused_fails_its_page_alone(crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a", "/b"], "/a": [], "/b": []})
    site.pages["/a"] = reply(page(f"A {REFUSED}."))
    assert crawls.train()["status"] == "succeeded"
    assert crawls.ledger() == {"/": "indexed", "/a": "embedding_rejected", "/b": "indexed"}
    assert "/a" not in crawls.texts()


def test_pages_that_were_whole_when_the_provider_went_away_are_paid_once(
    rows: ChatRows, crawls: Crawls, site: Site
) -> None:
    names = [f"/{number}" for number in range(6)]
    fill(site, {"/": names, **{name: [] for name in names}})
    crawls.vectors.away_at = "Words of /5"
    assert crawls.train()["status"] == "succeeded"
    assert set(crawls.texts()) == {"/", *names}
    assert sum("Words of /0" in text for text in crawls.vectors.asked) == 1
    assert rows.sql("SELECT calls FROM usage_days WHERE purpose = 'embed'") == [{"calls": 7}]
    assert rows.sql(STRAYS) == []


def test_a_page_that_changes_between_two_attempts_has_the_new_chunks_alone(
    rows: ChatRows, crawls: Crawls, site: Site
) -> None:
    first, second, new = (" ".join([word] * 10) for word in ("first", "second", "new"))
    site.pages["/"] = reply(page(first, second))
    crawls.queue()
    crawls.do(crawls.claimed())
    crawls.vectors.away_at = "second"
    crawls.settled(crawls.claimed())
    assert [row["text"] for row in rows.sql("SELECT text FROM chunks")] == [first]
    site.pages["/"] = reply(page(new, second))
    while task := crawls.claim():
        crawls.settled(task)
    assert crawls.texts() == {"/": [new, second]}
    assert rows.sql(STRAYS) == []


# --- limits and lists -------------------------------------------------------------------------------------------------


def test_the_months_pages_bound_a_crawl(rows: ChatRows, crawls: Crawls, site: Site) -> None:
    fill(site, {"/": ["/a", "/b", "/c"], "/a": [], "/b": [], "/c": []})
    crawls.limits = {"monthly_pages": 5}
    receipt = crawls.train()["receipt"]
    assert (len(crawls.texts()), receipt["warnings"]) == (
        4,
        ["Only 5 pages are left of the organisation's 5 this month."],
    )
    crawls.limits = {"monthly_pages": 6}
    crawls.train(force=True)
    assert list(crawls.ledger().values()).count("too_many_pages") == 2
    crawls.limits = {"monthly_pages": 6}
    job = crawls.train()
    assert (job["status"], job["error_code"]) == ("failed", QuotaExceeded.code)


def test_a_sitemap_is_read_in_tasks_and_its_links_are_not_followed(rows: ChatRows, site: Site) -> None:
    paths = [f"/{number}" for number in range(50)]
    fill(site, {path: ["/elsewhere"] for path in paths})
    index = "".join(f"<sitemap><loc>{site.url(path)}</loc></sitemap>" for path in ("/1.xml", "/gone.xml"))
    listed = "".join(f"<url><loc>{site.url(path)}</loc></url>" for path in paths)
    site.pages |= {
        "/map.xml": reply(f"<sitemapindex>{index}</sitemapindex>".encode()),
        "/1.xml": reply(f"<urlset>{listed}</urlset>".encode()),
    }
    crawls = Crawls(rows, site, "sitemap", "/map.xml")
    job_id = crawls.queue()
    assert crawls.do(crawls.claimed()) == 3
    tasks = rows.sql("SELECT jsonb_array_length(plan -> 'visits') AS pages FROM training_tasks ORDER BY ordinal")
    assert [task["pages"] for task in tasks] == [16, 17, 17]
    assert (rows.job(job_id)["progress_done"], rows.job(job_id)["progress_total"]) == (0, 50)
    while task := crawls.claim():
        crawls.settled(task)
    assert list(crawls.ledger().items()) == [(path, "indexed") for path in paths]
    [warning] = rows.job(job_id)["receipt"]["warnings"]
    assert "/gone.xml was left out" in warning


def test_progress_is_told_as_tasks_end(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    fill(site, {"/": [f"/{number}" for number in range(30)]} | {f"/{number}": [] for number in range(30)})
    job_id, seen = crawls.queue(), []
    while task := crawls.claim():
        version = rows.job(job_id)["status_version"]
        crawls.settled(task)
        job = rows.job(job_id)
        seen.append((job["progress_done"], job["progress_total"]))
        assert job["status_version"] > version
    assert seen == [(0, 1), (1, 31), (16, 31), (31, 31), (31, 31)]
