"""What training stands on goes away in the middle of it: the run waits, says why, spends nothing, and comes right."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.flows.world import Row, World
from tests.servers import as_workers, free_port
from workers.bootstrap import bootstrap
from workers.jobs import work

pytestmark = pytest.mark.stack
TEXT = "We are open from nine to five, Monday to Friday."


@pytest.fixture
def shop(open_shop: World) -> World:
    return open_shop


def queued(shop: World) -> tuple[UUID, str]:
    source_id = shop.client.add_text_source(shop.bot_id, "Hours", TEXT)
    return source_id, shop.client.queue(source_id)["job_id"]


@contextmanager
def working(shop: World) -> Iterator[None]:
    thread = threading.Thread(target=shop.work)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


def until(met: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := met()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def waiting_for_a_lock(shop: World) -> list[Row]:
    return shop.chat("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")


def assert_waits_for(shop: World, job_id: str, code: str) -> None:
    job = shop.client.job(job_id)
    assert (job["status"], job["waiting_reason"], job["attempt"]) == ("waiting", "retry_later", 0)
    assert (job["error"]["code"], job["error"]["retryable"]) == (code, True)


def assert_comes_right(shop: World, source_id: UUID, job_id: str) -> None:
    shop.chat("UPDATE training_tasks SET run_after = now()")
    assert shop.work() == 1
    job = shop.client.job(job_id)
    assert (job["status"], job["attempt"], job["error"]) == ("succeeded", 1, None)
    row = shop.source_row(source_id)
    assert (row["status"], row["error_code"]) == ("trained", None)
    chunks = shop.chat("SELECT text FROM chunks JOIN generations USING (source_id, generation) WHERE state = 'live'")
    assert [chunk["text"] for chunk in chunks] == [TEXT]


LOCK_BATCH, LOCK_SOURCE = "LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE", "SELECT 1 FROM sources FOR UPDATE"
BROKEN = {
    "a batch, by ending its connection": (LOCK_BATCH, "pg_terminate_backend"),
    "a batch, by its time limit": (LOCK_BATCH, "pg_cancel_backend"),
    "the first write, by ending its connection": (LOCK_SOURCE, "pg_terminate_backend"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_the_chat_database_breaks_off(shop: World, how: str) -> None:
    lock, break_off = BROKEN[how]
    source_id, job_id = queued(shop)
    with psycopg.connect(shop.chat_dsn) as holder:
        holder.execute(lock.encode())
        with working(shop):
            [waiting] = until(lambda: waiting_for_a_lock(shop))
            shop.chat(f"SELECT {break_off}(%s)", waiting["pid"])
            until(lambda: shop.client.job(job_id)["error"])
    assert_waits_for(shop, job_id, "database_unavailable")
    assert shop.source_row(source_id)["status"] == "queued"
    assert_comes_right(shop, source_id, job_id)


def test_the_chat_database_ends_all_connections_between_two_writes(shop: World) -> None:
    source_id, job_id = queued(shop)
    shop.provider.controls.latency_ms = 500
    with working(shop):
        until(lambda: shop.chat("SELECT 1 FROM training_jobs WHERE source_version IS NOT NULL"))
        shop.chat(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    # At once, or, where a statement was under way, when it is tried again.
    shop.chat("UPDATE training_tasks SET run_after = now()")
    shop.work()
    assert shop.client.job(job_id)["status"] == "succeeded"
    assert shop.source_row(source_id)["status"] == "trained"


def test_the_dashboard_is_away_when_the_source_is_read(shop: World) -> None:
    source_id, job_id = queued(shop)
    blind = bootstrap(as_workers(shop.settings).model_copy(update={"dashboard_db_port": free_port()}))
    assert work(blind, until=time.monotonic() + 30) == 1
    assert_waits_for(shop, job_id, "database_unavailable")
    assert shop.source_row(source_id)["status"] == "pending"
    assert_comes_right(shop, source_id, job_id)


def test_the_chat_database_is_away_when_a_bell_rings(shop: World) -> None:
    source_id, job_id = queued(shop)
    blind = bootstrap(as_workers(shop.settings).model_copy(update={"python_chat_db_port": free_port()}))
    assert work(blind, until=time.monotonic() + 30) == 0
    assert_comes_right(shop, source_id, job_id)


def test_the_bucket_is_away(shop: World) -> None:
    source_id = shop.client.add_file(shop.bot_id, "hours.txt", io.BytesIO(TEXT.encode()), len(TEXT))
    job_id = shop.client.queue(source_id)["job_id"]
    poor = bootstrap(
        as_workers(shop.settings).model_copy(update={"r2_endpoint_url": f"http://127.0.0.1:{free_port()}"})
    )
    assert work(poor, until=time.monotonic() + 60) == 1
    assert_waits_for(shop, job_id, "storage_unavailable")
    assert_comes_right(shop, source_id, job_id)
