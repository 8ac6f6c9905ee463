"""The dashboard, the API, a worker and the sweeper over faults between the two databases, as their owner sees it."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from redis import Redis

from deploy.local import databases
from tests.flows.world import World
from tests.servers import Servers
from workers.sweeper import Sweeper

pytestmark = pytest.mark.stack
HOURS = "We are open from nine to five, Monday to Friday."
ROUNDS = 10


@pytest.fixture
def sweeper(shop: World) -> Iterator[Sweeper]:
    """The deployment's only one; it sweeps when a test says so."""
    with Redis.from_url(shop.settings.redis_url.get_secret_value()) as redis:
        yield Sweeper(shop.worker.engines, redis, shop.settings, "sweeper-1")


def converge(shop: World, sweeper: Sweeper) -> None:
    """A minute's worth of rounds at most: both databases come to rest."""
    for _ in range(ROUNDS):
        sweeper.sweep()
        if not shop.work() and not shop.chat("SELECT 1 FROM training_jobs WHERE projected_version < status_version"):
            return
    raise AssertionError("the databases do not come to rest")


def grown_old(shop: World) -> None:
    """Two minutes later: nobody is about to queue what was written."""
    shop.dashboard(
        "UPDATE training_sources SET created_at = created_at - interval '2 minutes',"
        " updated_at = updated_at - interval '2 minutes'"
    )


def answering(shop: World) -> set[UUID]:
    """Sources that the bot's questions are answered from."""
    rows = shop.chat(
        "SELECT source_id FROM sources JOIN chunks USING (org_id, bot_id, source_id)"
        " WHERE generation = live_generation AND deleted_at IS NULL AND bot_id = %s",
        shop.bot_id,
    )
    return {row["source_id"] for row in rows}


@contextlib.contextmanager
def restored(servers: Servers, dsn: str) -> Iterator[None]:
    """A backup of a database is made at the beginning, and put in its place at the end, under everybody's feet."""
    name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    _alone(servers, name, lambda: databases.create(servers.cluster_dsn, f"{name}_backup", name))
    yield
    databases.drop(servers.cluster_dsn, name)
    databases.create(servers.cluster_dsn, name, f"{name}_backup")
    databases.drop(servers.cluster_dsn, f"{name}_backup")


def _alone(servers: Servers, name: str, copy: Any) -> None:
    deadline = time.monotonic() + 30
    while True:
        with psycopg.connect(servers.cluster_dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            copy()
        except psycopg.errors.ObjectInUse:
            assert time.monotonic() < deadline
        else:
            return


def test_an_owner_who_never_calls_us_gets_what_the_rows_say(shop: World, sweeper: Sweeper) -> None:
    kept, edited, dropped = (shop.client.add_text_source(shop.bot_id, f"Hours {n}", HOURS) for n in range(3))
    grown_old(shop)
    converge(shop, sweeper)
    assert answering(shop) == {kept, edited, dropped}
    shop.dashboard('UPDATE training_sources SET content = \'{"text": "We are closed."}\' WHERE id = %s', edited)
    shop.dashboard("UPDATE training_sources SET deleted_at = now() WHERE id = %s", dropped)
    converge(shop, sweeper)
    assert answering(shop) == {kept, edited}
    assert {shop.source_row(source_id)["status"] for source_id in (kept, edited)} == {"trained"}
    texts = shop.chat(
        "SELECT text FROM chunks JOIN sources USING (org_id, bot_id, source_id)"
        " WHERE generation = live_generation AND source_id = %s", edited,
    )  # fmt: skip
    assert "We are closed." in texts[0]["text"]


def test_our_backup_restored_heals_and_brings_no_deleted_source_back(
    shop: World, sweeper: Sweeper, servers: Servers
) -> None:
    stays, deleted = (shop.client.add_text_source(shop.bot_id, f"Hours {n}", HOURS) for n in range(2))
    for source_id in (stays, deleted):
        shop.train(source_id)
    converge(shop, sweeper)
    with restored(servers, shop.chat_dsn):
        later = shop.client.add_text_source(shop.bot_id, "Later", "We moved to the harbour.")
        shop.train(later)
        converge(shop, sweeper)
        shop.call("DELETE", f"/api/training/delete/{deleted}", scope="training:write").raise_for_status()
        assert answering(shop) == {stays, later}
    grown_old(shop)
    converge(shop, sweeper)
    assert answering(shop) == {stays, later}
    assert shop.source_row(later)["status"] == "trained"
    assert shop.source_row(deleted)["status"] == "pending"
    job = shop.train(later)  # its word is newer than any the dashboard has heard
    assert job["status"] == "succeeded"
    assert str(shop.source_row(later)["job_id"]) == job["job_id"]


def test_a_dashboard_restored_is_told_again_and_loses_no_answers(
    shop: World, sweeper: Sweeper, servers: Servers
) -> None:
    source_id = shop.client.add_text_source(shop.bot_id, "Hours", HOURS)
    grown_old(shop)
    with restored(servers, shop.dashboard_dsn):
        shop.train(source_id)
        converge(shop, sweeper)
    assert shop.source_row(source_id)["status"] == "pending"
    converge(shop, sweeper)
    assert shop.source_row(source_id)["status"] == "trained"
    assert answering(shop) == {source_id}
    assert len(shop.chat("SELECT 1 FROM training_jobs WHERE source_id = %s", source_id)) == 1
