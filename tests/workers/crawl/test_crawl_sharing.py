"""A crawl is the same ledger and the same chunks whoever works on it, and whatever befalls them."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.workers.chat_rows import ChatRows
from tests.workers.crawl.crawl_world import STRAYS, Crawls, Died, tangled
from tests.workers.fetch.loopback import Site, reply, serving
from workers.crawl.plan import MOST_VISITS
from workers.tasks.expiry import MAX_CRASHES, expire_leases
from workers.tasks.life import HandBackError, Task, hand_back

pytestmark = pytest.mark.stack
PATIENCE_S = 60
EVERYTHING = """
    SELECT pages.url, outcome, message, http_status, content_sha256, etag, position, depth, links, pages.chunks,
           documents.url AS cited_url, title, chunks.chunk_id, chunks.ordinal, text, vector::text
    FROM sources JOIN pages USING (org_id, bot_id, source_id)
    LEFT JOIN documents USING (org_id, bot_id, source_id, generation, document_id)
    LEFT JOIN chunks USING (org_id, bot_id, source_id, generation, document_id)
    LEFT JOIN embeddings USING (org_id, bot_id, source_id, generation, chunk_id)
    WHERE pages.generation = live_generation ORDER BY pages.url, chunks.ordinal
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/robots.txt": reply(b"User-agent: *\nDisallow: /private")}) as serves:
        yield serves


@pytest.fixture
def crawls(rows: ChatRows, site: Site) -> Crawls:
    return Crawls(rows, site)


def at_call(number: int, error: Exception) -> Callable[[], None]:
    """A check that raises at its n-th call."""
    left = iter(range(number))

    def check() -> None:
        if next(left, None) is None:
            raise error

    return check


def befallen(crawls: Crawls, task: Task, chance: random.Random) -> None:
    """Does the task, or what a worker that is told to stop or dies has done of it; no task and no page dies a third time."""
    deaths = max(task.crash_count, *task.plan.get("crashes", {"": 0}).values())
    end = chance.choice([HandBackError(), Died()])
    check = at_call(chance.randrange(4), end if deaths < MAX_CRASHES - 1 else HandBackError())
    try:
        crawls.do(task, check if chance.random() < 0.7 else lambda: None)
    except HandBackError:
        with crawls.rows.engine.begin() as connection:
            hand_back(connection, [task])
    except Died:
        crawls.rows.change_task(task.task_id, lease_expires_at="(now() - interval '1 s')")
        with crawls.rows.engine.begin() as connection:
            expire_leases(connection)


def shared(crawls: Crawls, workers: int) -> None:
    """Has some workers crawl at once until the run is over."""
    job_id, deadline = crawls.queue(), time.monotonic() + PATIENCE_S

    def work() -> None:
        while crawls.rows.job(job_id)["status"] in {"waiting", "running"} and time.monotonic() < deadline:
            if task := crawls.claim():
                crawls.settled(task)
            else:
                time.sleep(0.01)

    with ThreadPoolExecutor(workers) as threads:
        for worker in [threads.submit(work) for _ in range(workers)]:
            worker.result()
    assert crawls.rows.job(job_id)["status"] == "succeeded"


def troubled(crawls: Crawls, seed: int) -> None:
    """Has a worker crawl that is stopped or dies at every turn."""
    job_id, chance = crawls.queue(), random.Random(seed)
    deadline = time.monotonic() + PATIENCE_S
    while crawls.rows.job(job_id)["status"] in {"waiting", "running"} and time.monotonic() < deadline:
        if task := crawls.claim():
            befallen(crawls, task, chance)
    assert crawls.rows.job(job_id)["status"] == "succeeded"


def backwards(crawls: Crawls) -> None:
    """Has the tasks that wait done in the order opposite to theirs."""
    crawls.queue()
    while tasks := list(iter(crawls.claim, None)):
        for task in reversed(tasks):
            crawls.settled(task)


@pytest.mark.parametrize(("seed", "ways"), [
    (1, [lambda crawls: shared(crawls, 4), backwards]),
    (2, [lambda crawls: troubled(crawls, 1), lambda crawls: troubled(crawls, 2)]),
])  # fmt: skip
def test_a_crawl_is_the_same_whoever_works_on_it(
    rows: ChatRows, site: Site, crawls: Crawls, seed: int, ways: list[Callable[[Crawls], None]]
) -> None:
    def made() -> list[dict[str, Any]]:
        found = rows.sql(EVERYTHING)
        assert rows.sql(STRAYS) == []
        assert rows.sql("SELECT FROM training_tasks") == []
        rows.clear()
        return found

    tangled(site, seed)
    crawls.train()
    alone = made()
    assert len(alone) > 3 * MOST_VISITS
    assert {row["outcome"] for row in alone} >= {
        "indexed",
        "duplicate",
        "parser_crashed",
        "blocked_by_robots",
        "not_found",
    }
    for way in ways:
        way(crawls)
        assert made() == alone
