"""How workers are shared: a small org beside a large one (`fairness`), and one large site over several (`fanout`)."""

import os
import time
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg

from deploy.local.client import OVER, DashboardClient
from tests.bench.stage import percentile, provider, running_stack
from tests.bench.website import Company, path_of
from tests.workers.fetch.loopback import Site, serving

BULK_URLS, BULK_SITE = 3_000, 2_000
TRIES = 15
SITE_PAGES = int(os.environ.get("SITE_PAGES", "2000"))
WORKERS = (1, 2, 4)
GIVE_UP_S = 900


def fairness() -> dict[str, Any]:
    """Seconds that an org's one page takes from its queue call on, with idle workers and behind another's 5,000 pages."""
    with serving() as site, provider(0) as base_url:
        start = Company(BULK_SITE).serve(site)
        with running_stack(base_url, FETCH_ALLOW=f"127.0.0.1:{site.port}", WORKERS="2") as (large, described):
            small = DashboardClient(large.stack, org_id=uuid4())
            bot_id = small.add_bot("Small", {})
            _one_page(small, bot_id, site, 0)  # what is loaded at first use does not count
            idle = [_one_page(small, bot_id, site, number) for number in range(1, TRIES)]
            _queue_bulk(large, described["dashboard_db_dsn"], site, start)
            _await_training(described["chat_db_dsn"], large.org_id)
            busy = [_one_page(small, bot_id, site, number) for number in range(TRIES, 2 * TRIES)]
            left = _unfinished(described["chat_db_dsn"], large.org_id)
    if not left:
        raise RuntimeError("the large org was done before the small one was measured")
    return {
        "bulk_pages": BULK_URLS + BULK_SITE,
        "bulk_runs_left_at_the_end": left,
        **{
            f"{name}_s": {"p50": percentile(took, 50), "max": max(took)}
            for name, took in (("idle", idle), ("busy", busy))
        },
    }


def _queue_bulk(client: DashboardClient, dsn: str, site: Site, start: str) -> None:
    """Has the org's 3,000 single pages and its site of 2,000 trained, as bulk."""
    bot_id = client.add_bot("Large", {})
    client.add_site_source(bot_id, start, max_pages=BULK_SITE)
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO training_sources (id, org_id, bot_id, type, url) VALUES (%s, %s, %s, 'url', %s)",
            [
                (uuid4(), client.org_id, bot_id, site.url(f"{path_of(number % BULK_SITE)}?copy={number}"))
                for number in range(BULK_URLS)
            ],
        )
    pages = dict(site.pages)
    site.pages |= {
        f"{path_of(number % BULK_SITE)}?copy={number}": pages[path_of(number % BULK_SITE)]
        for number in range(BULK_URLS)
    }
    token = client.sign_token("training:write training:read")
    answer = httpx2.post(
        f"{client.stack['api_url']}/api/training/queue",
        json={"bot_id": str(bot_id), "priority": "bulk"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
        trust_env=False,
    )
    answer.raise_for_status()


def _one_page(client: DashboardClient, bot_id: UUID, site: Site, number: int) -> float:
    """Seconds from the queue call until the page is trained."""
    source_id = client.add_url_source(bot_id, site.url(path_of(number)))
    began = time.perf_counter()
    job = client.queue(source_id)
    _await_end(client, job["job_id"], 0.02)
    return time.perf_counter() - began


def _await_end(client: DashboardClient, job_id: str, pause_s: float) -> None:
    began = time.monotonic()
    while (job := client.job(job_id))["status"] not in OVER:
        if time.monotonic() - began > GIVE_UP_S:
            raise TimeoutError(f"a run did not end: {job}")
        time.sleep(pause_s)
    if job["status"] != "succeeded":
        raise RuntimeError(f"a run failed: {job}")


def _await_training(dsn: str, org_id: UUID) -> None:
    """Waits until both workers are at the org's tasks."""
    busy = "SELECT count(DISTINCT lease_holder) FROM training_tasks WHERE org_id = %s AND status = 'running'"
    until = time.monotonic() + 60
    with psycopg.connect(dsn, autocommit=True) as connection:
        while (connection.execute(busy, (org_id,)).fetchone() or (0,))[0] < 2:
            if time.monotonic() > until:
                raise TimeoutError("the large org's runs were not begun by both workers")
            time.sleep(0.02)


def _unfinished(dsn: str, org_id: UUID) -> int:
    with psycopg.connect(dsn) as connection:
        query = "SELECT count(*) FROM training_jobs WHERE org_id = %s AND finished_at IS NULL"
        row = connection.execute(query, (org_id,)).fetchone()
    return int(row[0]) if row else 0


def fairness_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""

    def times(name: str) -> str:
        return f"{result[name]['p50']:.2f} / {result[name]['max']:.2f} s"

    ratio = result["busy_s"]["p50"] / result["idle_s"]["p50"]
    return [
        ("one interactive page of a small org, idle workers, p50 / max", times("idle_s")),
        (f"  behind another org's {result['bulk_pages']:,} bulk pages", f"{times('busy_s')}  ({ratio:.1f} times)"),
    ]


def fanout() -> dict[str, Any]:
    """Pages per second of one large site over 1, 2 and 4 workers, with a provider that takes 50 ms."""
    company = Company(SITE_PAGES)
    return {"pages": SITE_PAGES, "by_workers": {count: _crawl(company, count) for count in WORKERS}}


def _crawl(company: Company, workers: int) -> dict[str, float]:
    with serving() as site, provider(50) as base_url:
        start = company.serve(site)
        settings = {"FETCH_ALLOW": f"127.0.0.1:{site.port}", "WORKERS": str(workers)}
        with running_stack(base_url, **settings) as (client, described):
            bot_id = client.add_bot("Bench", {})
            began = time.perf_counter()
            job = client.queue(client.add_site_source(bot_id, start, max_pages=company.count))
            _await_end(client, job["job_id"], 0.1)
            seconds = time.perf_counter() - began
            with psycopg.connect(described["chat_db_dsn"]) as connection:
                row = connection.execute("SELECT count(*) FROM pages WHERE outcome = 'indexed'").fetchone()
    if row is None or row[0] != company.count:
        raise RuntimeError(f"{row} of {company.count} pages were indexed")
    return {"seconds": seconds, "pages_per_s": company.count / seconds}


def fanout_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    one = result["by_workers"][WORKERS[0]]["pages_per_s"]
    return [
        (
            f"a site of {result['pages']:,} pages over {count} worker{'s' * (count > 1)}, provider at 50 ms",
            f"{crawl['pages_per_s']:.1f} pages/s  ({crawl['pages_per_s'] / one:.2f} times one)",
        )
        for count, crawl in result["by_workers"].items()
    ]
