"""Real worker processes: killed, told to stop, without Redis; nothing is lost, and nothing is left behind."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from pydantic import SecretStr

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.jobs import ring
from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import Settings
from deploy.local import processes, servers
from tests.flows.world import Row, World
from tests.servers import REPOSITORY, as_workers, free_port
from tests.workers.fetch.loopback import reply
from workers.commands.reembed import reembed
from workers.reembed import BATCH_CHUNKS
from workers.tasks.expiry import expire_leases
from workers.tasks.life import LEASE_S

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]
TEXT = "We are open from nine to five, Monday to Friday."
POOL = ("-m", "workers", "--workers", "1")
RQ = ("-m", "rq.cli", "worker", "default", "--serializer", "rq.serializers.JSONSerializer")


@pytest.fixture
def shop(open_shop: World) -> World:
    return open_shop


def environment(settings: Settings) -> dict[str, str]:
    """The environment that says these settings."""
    values = {name: value for name, value in settings if value is not None}
    said = {name.upper(): _said(value) for name, value in values.items()}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **said}


def _said(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class Worker:
    """A worker process and all that it starts."""

    def __init__(self, settings: Settings, log: Path, command: tuple[str, ...]) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env={**environment(as_workers(settings)), "RQ_REDIS_URL": settings.redis_url.get_secret_value()},
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.family: dict[int, psutil.Process] = {}

    def look(self) -> list[psutil.Process]:
        """Everything it has started so far, as far as it was ever seen."""
        parent = psutil.Process(self.process.pid)
        self.family |= {child.pid: child for child in parent.children(recursive=True)}
        return list(self.family.values())

    def leaves_nothing(self) -> None:
        """Asserts that all that was seen is gone, soon."""
        until(lambda: not [one for one in self.family.values() if processes.alive(one)], 10)

    def stop(self) -> None:
        """Tells it to stop, which it does well within the time that a container is given."""
        self.look()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0


@contextmanager
def started(settings: Settings, folder: Path, command: tuple[str, ...] = POOL) -> Iterator[Worker]:
    worker = Worker(settings, folder / "worker.log", command)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.look()
            worker.process.kill()
            worker.process.wait(10)
        for one in worker.family.values():
            if processes.alive(one):
                one.kill()


def until(met: Callable[[], Any], seconds: float = 30) -> Any:
    """What `met` gives once that is true; waited for so long at most."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def queued(shop: World, source_id: UUID | None = None) -> str:
    # Words of its own each time: what is known already is not embedded again.
    source_id = source_id or shop.client.add_text_source(shop.bot_id, "Hours", f"{TEXT} Ask for {uuid4().hex}.")
    return str(shop.client.queue(source_id)["job_id"])


def job(shop: World, job_id: str) -> Row:
    return shop.chat("SELECT * FROM training_jobs WHERE job_id = %s", job_id)[0]


def task(shop: World, job_id: str) -> Row:
    return shop.chat("SELECT * FROM training_tasks WHERE job_id = %s", job_id)[0]


def running(shop: World, job_id: str, stage: str) -> Row:
    """The job, once it has been seen at the stage."""
    return dict(until(lambda: (row := job(shop, job_id))["status"] == "running" and row["stage"] == stage and row))


def worker_of(shop: World, job_id: str, stage: str) -> tuple[psutil.Process, str]:
    """The worker process that has the job in hand, once it is at the stage; and its holder name."""
    running(shop, job_id, stage)
    holder = task(shop, job_id)["lease_holder"]
    return psutil.Process(int(holder.split(":")[1])), holder


def done(shop: World, job_id: str) -> Row:
    return dict(until(lambda: (row := job(shop, job_id))["finished_at"] and row))


def hang(shop: World, url: str = "/slow.html") -> UUID:
    """A source whose page never comes."""
    shop.site.pages[url] = lambda _stream, over: _never(over)
    return shop.client.add_url_source(shop.bot_id, shop.site.url(url))


def _never(over: Event) -> None:
    over.wait(60)


def log_of(folder: Path) -> list[Row]:
    """The worker's log lines."""
    lines = (folder / "worker.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def forget_lease(shop: World, job_id: str) -> None:
    """A minute passes for the lease."""
    shop.chat("UPDATE training_tasks SET lease_expires_at = now() - interval '1 second' WHERE job_id = %s", job_id)


def assert_trained_once(shop: World, job_id: str) -> None:
    row = done(shop, job_id)
    assert (row["status"], row["error_code"]) == ("succeeded", None)
    rows = shop.chat(
        "SELECT text FROM chunks JOIN sources USING (org_id, bot_id, source_id)"
        " WHERE generation = live_generation AND source_id = %s",
        row["source_id"],
    )
    assert [chunk["text"][: len(TEXT)] for chunk in rows] == [TEXT]


def test_killed_workers_and_a_killed_pool_leave_no_process_and_lose_no_run(shop: World, tmp_path: Path) -> None:
    shop.provider.controls.latency_ms = 60_000
    with started(shop.settings, tmp_path) as pool:
        job_id = queued(shop)
        worker, holder = worker_of(shop, job_id, "embed")
        theirs = worker.children(recursive=True)
        assert theirs, "a worker has a parser of its own"
        pool.look()
        worker.kill()
        until(lambda: not [one for one in theirs if processes.alive(one)], 10)
        second = until(lambda: (row := task(shop, job_id))["lease_holder"] not in {holder, None} and row, LEASE_S / 2)
        assert (second["crash_count"], second["attempt"]) == (1, 2)
        pool.look()
        pool.process.kill()
        pool.process.wait(10)
        pool.leaves_nothing()
    shop.provider.controls.latency_ms = 0
    forget_lease(shop, job_id)
    with shop.worker.engines.chat.begin() as connection:
        assert [row.crash_count for row in expire_leases(connection)] == [2]
    shop.chat("UPDATE training_tasks SET run_after = now()")
    assert shop.work() == 1
    assert_trained_once(shop, job_id)


def test_a_reembedding_whose_worker_is_killed_goes_on_from_its_last_batch(shop: World, tmp_path: Path) -> None:
    shelves = [
        f"Shelf {number} holds {' '.join(f'part{number}x{part}' for part in range(90))}." for number in range(700)
    ]
    shop.train(shop.client.add_text_source(shop.bot_id, "Catalogue", "\n\n".join(shelves)))
    [chunks] = [row["n"] for row in shop.chat("SELECT count(*) AS n FROM embeddings")]
    new = EmbeddingSpace("text-embedding-3-large", 128)
    beside = "SELECT count(*) AS n FROM embeddings JOIN embedding_spaces USING (space_id) WHERE model = %s"
    reembed(shop.worker.engines.chat, new, [shop.bot_id], lambda _: None)
    shop.provider.controls.latency_ms = 1500
    with started(shop.settings, tmp_path) as pool:
        until(lambda: shop.chat(beside, new.model)[0]["n"])
        pool.look()
        pool.process.kill()
        pool.process.wait(10)
        pool.leaves_nothing()
    shop.provider.controls.latency_ms = 0
    kept = shop.chat(beside, new.model)[0]["n"]
    assert 0 < kept < chunks
    assert shop.chat("SELECT model FROM bots JOIN embedding_spaces USING (space_id)") == [
        {"model": shop.settings.embedding_model}
    ]
    shop.chat("UPDATE training_tasks SET lease_expires_at = now() - interval '1 second'")
    with shop.worker.engines.chat.begin() as connection:
        assert [row.crash_count for row in expire_leases(connection)] == [1]
    shop.chat("UPDATE training_tasks SET run_after = now()")
    assert shop.work() == 1
    assert shop.chat(beside, new.model)[0]["n"] == chunks
    assert shop.chat("SELECT model FROM bots JOIN embedding_spaces USING (space_id)") == [{"model": new.model}]
    in_flight = shop.provider.counts.models[new.model] - chunks
    assert 0 <= in_flight <= BATCH_CHUNKS


def test_a_pool_told_to_stop_hands_its_runs_back_even_in_the_middle_of_a_fetch(shop: World, tmp_path: Path) -> None:
    shop.provider.controls.latency_ms = 60_000
    patient = shop.settings.model_copy(update={"fetch_timeout_s": 50.0})
    with started(patient, tmp_path, ("-m", "workers", "--workers", "2")) as pool:
        embedding, fetching = queued(shop), queued(shop, hang(shop))
        running(shop, fetching, "fetch")
        idle_soon, _ = worker_of(shop, embedding, "embed")
        until(lambda: shop.site.requests)
        pool.look()
        pool.process.send_signal(signal.SIGTERM)
        until(lambda: not processes.alive(idle_soon), 5)
        assert pool.process.wait(10) == 0
        pool.leaves_nothing()
    for job_id in (embedding, fetching):
        row = job(shop, job_id)
        assert (row["status"], row["attempt"], row["error_code"]) == ("waiting", 0, None)
        assert task(shop, job_id)["crash_count"] == 0
        assert shop.client.job(job_id)["waiting_reason"] == "in_queue"
    lines = [line for line in log_of(tmp_path) if line.get("job_id") == fetching]
    assert [line.get("outcome") for line in lines] == [None, "waiting"]
    assert {line["request_id"] for line in lines} == {job(shop, fetching)["request_id"]}
    shop.provider.controls.latency_ms = 0
    shop.site.pages["/slow.html"] = reply(b"", "404 Not Found")
    assert shop.work() == 2
    assert_trained_once(shop, embedding)


def test_a_pool_with_nothing_to_do_stops_at_once(shop: World, tmp_path: Path) -> None:
    with started(shop.settings, tmp_path) as pool:
        with connect_redis(shop.settings) as redis:
            until(lambda: redis.scard("rq:workers"))
        until(lambda: shop.chat("SELECT 1 FROM leases WHERE swept_at IS NOT NULL"))
        pool.stop()
        pool.leaves_nothing()


def test_an_ordinary_rq_worker_trains_and_leaves_nothing(shop: World, tmp_path: Path) -> None:
    with started(shop.settings, tmp_path, RQ) as worker:
        first = queued(shop)
        until(worker.look)
        assert_trained_once(shop, first)
        until(lambda: worker.look() and not psutil.Process(worker.process.pid).children())
        worker.leaves_nothing()
        shop.provider.controls.latency_ms = 60_000
        second = queued(shop)
        running(shop, second, "embed")
        worker.look()
        worker.process.kill()
        worker.process.wait(10)
        worker.leaves_nothing()
    assert job(shop, second)["status"] == "waiting"


def test_a_sweeper_alone_rings_and_trains_nothing(shop: World, tmp_path: Path) -> None:
    job_id = queued(shop)
    with started(shop.settings, tmp_path, ("-m", "workers", "--sweeper-only")) as sweeper:
        until(lambda: task(shop, job_id)["rung_at"])
        assert sweeper.look() == []
        sweeper.stop()
    assert job(shop, job_id)["status"] == "waiting"


@contextmanager
def behind(shop: World) -> Iterator[None]:
    """The chat database lacks the newest migration, as it seems."""
    [head] = shop.chat("SELECT version_num FROM alembic_version")
    shop.chat("UPDATE alembic_version SET version_num = '0001'")
    try:
        yield
    finally:
        shop.chat("UPDATE alembic_version SET version_num = %s", head["version_num"])


@pytest.mark.parametrize("command", [POOL, RQ], ids=["pool", "rq"])
def test_new_workers_leave_runs_alone_until_the_migrations_have_run(
    shop: World, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with contextlib.ExitStack() as old_schema:
        old_schema.enter_context(behind(shop))
        with started(shop.settings, tmp_path, command) as worker:
            job_id = queued(shop)
            until(lambda: b"migrations_awaited" in (tmp_path / "worker.log").read_bytes())
            row = job(shop, job_id)
            assert (row["status"], row["attempt"], task(shop, job_id)["lease_holder"]) == ("waiting", 0, None)
            assert shop.chat("SELECT 1 FROM leases") == [], "and nobody sweeps"
            old_schema.close()
            with connect_redis(shop.settings) as redis:
                assert ring(redis, shop.settings.queue_name, [UUID(job_id)])
            assert_trained_once(shop, job_id)
            worker.stop()
    assert job(shop, job_id)["attempt"] == 1


def test_a_pool_that_waits_for_migrations_can_be_stopped(shop: World, tmp_path: Path) -> None:
    with behind(shop), started(shop.settings, tmp_path) as pool:
        until(lambda: b"migrations_awaited" in (tmp_path / "worker.log").read_bytes())
        pool.stop()
        assert pool.family == {}


@contextmanager
def redis_on(port: int, password: str, folder: Path) -> Iterator[None]:
    command = servers.redis_command(folder, port, password, durable=False)
    process = processes.start(command, env=dict(os.environ), cwd=folder, log=folder / "redis.log")
    try:
        until(lambda: _answers(port))
        yield
    finally:
        process.kill()
        process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_pool_waits_for_redis_at_its_start_and_later_and_stops_without_it(shop: World, tmp_path: Path) -> None:
    port, password = free_port(), secrets.token_hex(8)
    away = shop.settings.model_copy(update={"redis_url": SecretStr(servers.redis_url(port, password))})
    with started(away, tmp_path) as pool:
        first = queued(shop)
        until(lambda: b"redis_away" in (tmp_path / "worker.log").read_bytes())
        with redis_on(port, password, tmp_path / "redis"):
            assert_trained_once(shop, first)
        second = queued(shop)
        until(lambda: b"bell_not_rung" in (tmp_path / "worker.log").read_bytes())
        with redis_on(port, password, tmp_path / "redis"):
            assert_trained_once(shop, second)
            shop.provider.controls.latency_ms = 60_000
            third = queued(shop)
            with connect_redis(away) as redis:
                assert ring(redis, away.queue_name, [UUID(third)])
            running(shop, third, "embed")
        pool.stop()
        pool.leaves_nothing()
    row = job(shop, third)
    assert (row["status"], row["attempt"], row["error_code"]) == ("waiting", 0, None)
