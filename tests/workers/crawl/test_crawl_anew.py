"""A crawl whose bot is given another embedding space meanwhile begins anew, and ends in that space."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import EmbeddingUnavailable
from tests.workers.chat_rows import ChatRows
from tests.workers.crawl.crawl_world import Crawls, fill
from tests.workers.fetch.loopback import Site, reply, serving
from workers.spaces import BotKey, aim, switch_if_whole
from workers.store.generation import ensure_space
from workers.tasks.life import LeaseLostError, Task, put_back

pytestmark = pytest.mark.stack
OTHER = EmbeddingSpace("another-model", 4)
EMBED_AGAIN = text("""
    INSERT INTO embeddings (org_id, bot_id, source_id, generation, chunk_id, space_id, vector)
    SELECT org_id, bot_id, source_id, generation, chunk_id, :space_id, vector
    FROM embeddings JOIN generations USING (org_id, bot_id, source_id, generation) WHERE state IN ('live', 'kept')
""")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/robots.txt": reply(b"")}) as serves:
        fill(serves, {"/": ["/a"], "/a": []})
        yield serves


@pytest.fixture
def crawls(rows: ChatRows, site: Site) -> Crawls:
    """A source that is trained."""
    crawls = Crawls(rows, site)
    crawls.train()
    return crawls


def change_space(crawls: Crawls) -> None:
    """Has the bot read another space, in which its live passages were embedded anew."""
    bot = BotKey(crawls.rows.org_id, crawls.rows.bot_id)
    with crawls.rows.engine.begin() as connection:
        space_id = ensure_space(connection, OTHER)
        aim(connection, bot, space_id)
        connection.execute(EMBED_AGAIN, {"space_id": space_id})
    with crawls.rows.engine.begin() as connection:
        assert switch_if_whole(connection, bot)


def up_to(crawls: Crawls, kind: str) -> Task:
    """Crawls until a task of this kind is claimed."""
    while (task := crawls.claimed()).kind != kind:
        crawls.do(task)
    return task


def finished(crawls: Crawls) -> list[str]:
    """Does what there is to do; the kinds of the tasks that were given up."""
    given_up = []
    while task := crawls.claim():
        try:
            crawls.do(task)
        except LeaseLostError:
            given_up.append(task.kind)
    return given_up


def live(rows: ChatRows) -> list[dict[str, Any]]:
    return rows.sql(
        "SELECT model, count(chunk_id) FROM sources JOIN generations USING (org_id, bot_id, source_id)"
        " JOIN embedding_spaces USING (space_id) LEFT JOIN embeddings USING (org_id, bot_id, source_id, generation,"
        " space_id) WHERE generation = live_generation GROUP BY model"
    )


def test_a_crawl_begins_anew_between_two_tasks(rows: ChatRows, crawls: Crawls) -> None:
    job_id = crawls.queue()
    crawls.do(crawls.claimed())
    change_space(crawls)
    assert finished(crawls) == ["pages"]
    job = rows.job(job_id)
    assert (job["status"], job["generation"], job["receipt"]["pages"]["found"]) == ("succeeded", 3, 2)
    assert live(rows) == [{"model": OTHER.model, "count": 2}]
    assert rows.sql("SELECT FROM generations WHERE state = 'building'") == []
    assert rows.sql("SELECT FROM training_tasks WHERE job_id IS NOT NULL") == []


def test_a_crawl_begins_anew_at_its_very_end(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    fill(site, {"/": []})
    job_id, task = crawls.queue(), up_to(crawls, "finish")
    with pytest.raises(EmbeddingUnavailable) as raised:
        crawls.do(task, lambda: change_space(crawls))  # while what was not met is being kept
    with rows.engine.begin() as connection:
        put_back(connection, task, raised.value, 0.001, refund=True)
    assert finished(crawls) == ["finish"]
    assert rows.job(job_id)["status"] == "succeeded"
    assert live(rows) == [{"model": OTHER.model, "count": 2}]


def test_tasks_of_the_crawl_that_was_given_up_are_nobodys(rows: ChatRows, site: Site, crawls: Crawls) -> None:
    paths = ["/a", *(f"/{number}" for number in range(50))]
    fill(site, {"/": paths, **{path: [] for path in paths}})
    crawls.queue()
    crawls.do(crawls.claimed())
    crawls.do(crawls.claimed())
    slow, other = crawls.claimed(), crawls.claimed()
    change_space(crawls)
    with pytest.raises(LeaseLostError):
        crawls.do(other)
    with pytest.raises(LeaseLostError):
        crawls.do(slow)
    [task] = rows.sql("SELECT kind, status FROM training_tasks WHERE job_id IS NOT NULL")
    assert task == {"kind": "read", "status": "waiting"}
    finished(crawls)
    assert live(rows) == [{"model": OTHER.model, "count": 52}]


def test_it_gives_way_to_a_newer_run(rows: ChatRows, crawls: Crawls) -> None:
    job_id = crawls.queue()
    crawls.do(crawls.claimed())
    newer = crawls.queue()
    change_space(crawls)
    finished(crawls)
    assert [rows.job(each)["status"] for each in (job_id, newer)] == ["cancelled", "succeeded"]
    assert live(rows) == [{"model": OTHER.model, "count": 2}]
