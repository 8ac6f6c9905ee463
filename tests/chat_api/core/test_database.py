"""Transactions that say whose rows they see; and what the policies that ask for it cost the planner: nothing."""

import asyncio
import gc
import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from chat_api.core import database
from chat_api.core.database import SET_ORG, AsyncEngines, async_engines, make_engines, of_org, say_org
from chat_api.core.settings import Settings
from deploy.local.databases import API
from tests.conftest import make_settings
from tests.hostile.tenant_rows import TENANT_TABLES, Tenant, fill
from tests.hostile.tenant_statements import MUTATIONS, Statement, chat_statements
from tests.servers import Servers, as_api, as_role, as_workers

pytestmark = pytest.mark.stack

MINE, OTHER = Tenant(), Tenant()
SEEN = text("SELECT org_id FROM turns")
SLEEP = text("SELECT pg_sleep(30)")


@pytest.fixture(scope="module")
def shared(servers: Servers, module_chat_db: str, module_dashboard_db: str) -> Settings:
    """A deployment whose chat database holds rows of two orgs."""
    with psycopg.connect(module_chat_db) as admin:
        fill(admin, [MINE, OTHER])
    return make_settings(servers, module_chat_db, module_dashboard_db, servers.redis_url, "no-bucket")


def with_engines(settings: Settings, what: Callable[[AsyncEngines], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        async with async_engines(as_api(settings).model_copy(update=changes)) as engines:
            await what(engines)

    asyncio.run(run())


async def seen(connection: AsyncConnection | AsyncSession) -> list[object]:
    return list((await connection.execute(SEEN)).scalars())


def test_a_transaction_sees_its_org_and_the_next_one_nothing(shared: Settings) -> None:
    async def look(engines: AsyncEngines) -> None:
        for tenant in (MINE, OTHER, MINE):
            async with engines.tenant(tenant.org_id) as connection:
                assert await seen(connection) == [tenant.org_id]
            async with engines.chat.connect() as connection:
                assert await seen(connection) == []

    with_engines(shared, look, db_pool_size=1)


def test_a_session_says_it_in_each_of_its_transactions(shared: Settings) -> None:
    async def look(engines: AsyncEngines) -> None:
        async with AsyncSession(of_org(engines.chat, MINE.org_id)) as session:
            for end in (session.commit, session.rollback, session.commit):
                assert await seen(session) == [MINE.org_id]
                await end()

    with_engines(shared, look, db_pool_size=1)


def test_what_was_cancelled_on_the_way_leaves_no_org_behind(shared: Settings) -> None:
    draw = random.Random(7)

    async def look(engines: AsyncEngines) -> None:
        async def one(tenant: Tenant) -> None:
            async with engines.tenant(tenant.org_id) as connection:
                assert await seen(connection) == [tenant.org_id]

        async def cut_off(tenant: Tenant) -> None:
            doing = asyncio.create_task(one(tenant))
            await asyncio.sleep(draw.random() * 0.006)
            doing.cancel()
            await asyncio.wait([doing])
            assert doing.cancelled() or doing.exception() is None

        for _ in range(200):
            await asyncio.gather(cut_off(MINE), cut_off(OTHER), cut_off(OTHER), one(MINE), one(OTHER))
            async with engines.chat.connect() as connection:
                assert await seen(connection) == []

    with_engines(shared, look, db_pool_size=3)
    gc.collect()  # a login that was cut off holds its socket in a cycle, and the database can't be dropped meanwhile


def test_a_connection_that_was_ended_is_told_as_such_and_not_used_again(shared: Settings, module_chat_db: str) -> None:
    async def look() -> None:
        engine = create_async_engine(as_api(shared).chat_db_url(), pool_size=1)  # which does not ask before
        engines = AsyncEngines(engine, engine)
        async with engines.tenant(MINE.org_id) as connection:
            pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        with psycopg.connect(module_chat_db, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(OperationalError):
            async with engines.tenant(MINE.org_id):
                pass
        async with engines.tenant(OTHER.org_id) as connection:
            assert await seen(connection) == [OTHER.org_id]
        await engine.dispose()

    asyncio.run(look())


# --- trips -----------------------------------------------------------------------------------------------------------

ADD = text("INSERT INTO conversations (org_id, bot_id, conversation_id, visitor) VALUES (:org_id, :bot_id, :id, 'v')")
ADDED = text("SELECT conversation_id AS id FROM conversations WHERE conversation_id = :id")
FAIL = text("SELECT 1 / CAST(:none AS int)")
PID = text("SELECT pg_backend_pid() AS pid")


def test_a_trip_sees_its_org_and_leaves_none_behind(shared: Settings) -> None:
    async def look(engines: AsyncEngines) -> None:
        for tenant in (MINE, OTHER, MINE):
            rows, [again] = await engines.trip(tenant.org_id, (SEEN, {}), (SEEN, {}))
            assert [row.org_id for row in rows] == [again.org_id] == [tenant.org_id]
            async with engines.chat.begin() as connection:
                assert await seen(connection) == []

    with_engines(shared, look, db_pool_size=1)


def test_a_trip_is_kept_whole_or_not_at_all(shared: Settings) -> None:
    async def look(engines: AsyncEngines) -> None:
        org_id = MINE.org_id
        for failing in (True, False):
            values = {"org_id": org_id, "bot_id": MINE.id_of("bot_id"), "id": uuid4()}
            if failing:
                with pytest.raises(DataError):
                    await engines.trip(org_id, (ADD, values), (FAIL, {"none": 0}), (SEEN, {}))
            else:
                added, [row] = await engines.trip(org_id, (ADD, values), (ADDED, values))
                assert (added, row.id) == ([], values["id"]), "what comes later sees what came before"
            [kept] = await engines.trip(org_id, (ADDED, values))
            assert bool(kept) is not failing
            # The connection still says BEGIN for those who ask it to.
            async with engines.chat.connect() as connection:
                await connection.exec_driver_sql(SET_ORG, (str(org_id),))
                assert await seen(connection) == [org_id]

    with_engines(shared, look, db_pool_size=1)


def test_a_trip_that_was_cut_off_leaves_no_org_behind(shared: Settings) -> None:
    draw = random.Random(8)

    async def look(engines: AsyncEngines) -> None:
        async def one(tenant: Tenant) -> None:
            assert [row.org_id for row in (await engines.trip(tenant.org_id, (SEEN, {})))[0]] == [tenant.org_id]

        async def cut_off(tenant: Tenant) -> None:
            doing = asyncio.create_task(one(tenant))
            await asyncio.sleep(draw.random() * 0.006)
            doing.cancel()
            await asyncio.wait([doing])
            assert doing.cancelled() or doing.exception() is None

        for _ in range(200):
            await asyncio.gather(cut_off(MINE), cut_off(OTHER), cut_off(OTHER), one(MINE), one(OTHER))
            async with engines.tenant(MINE.org_id) as connection:
                assert await seen(connection) == [MINE.org_id]

    with_engines(shared, look, db_pool_size=3)


def test_a_connection_that_ended_while_it_rested_is_replaced_unseen(shared: Settings, module_chat_db: str) -> None:
    async def look(engines: AsyncEngines) -> None:
        for _ in range(2):
            [[row]] = await engines.trip(MINE.org_id, (PID, {}))
            with psycopg.connect(module_chat_db, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", [row.pid])
            async with engines.tenant(OTHER.org_id) as connection:
                assert await seen(connection) == [OTHER.org_id]
            [[again]] = await engines.trip(MINE.org_id, (PID, {}))
            assert again.pid != row.pid

    with_engines(shared, look, db_pool_size=1)


def test_a_trip_without_a_server_says_so(shared: Settings) -> None:
    async def look(engines: AsyncEngines) -> None:
        with pytest.raises(OperationalError):
            await engines.trip(MINE.org_id, (SEEN, {}))

    with_engines(shared, look, python_chat_db_port=1)


def test_workers_see_one_orgs_content_and_all_orgs_runs(shared: Settings) -> None:
    engines = make_engines(as_workers(shared))
    words, runs = text("SELECT text FROM chunks"), text("SELECT count(*) FROM training_jobs")
    with engines.chat.begin() as connection:
        assert connection.execute(words).all() == []
        assert connection.execute(runs).scalar_one() == 2
        say_org(connection, OTHER.org_id)
        assert connection.execute(words).scalars().all() == [OTHER.canary]
    with of_org(engines.chat, MINE.org_id).connect() as connection:
        assert connection.execute(words).scalars().all() == [MINE.canary]
        assert connection.execute(runs).scalar_one() == 2
    engines.chat.dispose()


# --- a failover ------------------------------------------------------------------------------------------------------

DEMOTED = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
WRITE = text("UPDATE turns SET answer = answer WHERE org_id = :org_id")


@pytest.mark.parametrize("how", ["tenant", "trip"])
def test_the_api_leaves_a_server_that_takes_no_more_writes(shared: Settings, how: str) -> None:
    async def look(engines: AsyncEngines) -> None:
        async def write() -> None:
            if how == "trip":
                await engines.trip(MINE.org_id, (WRITE, {"org_id": MINE.org_id}))
            else:
                async with engines.tenant(MINE.org_id) as connection:
                    await connection.execute(WRITE, {"org_id": MINE.org_id})

        async with engines.chat.connect() as one, engines.chat.connect() as two:
            for connection in (one, two):
                await connection.exec_driver_sql(DEMOTED)
                await connection.commit()
        with pytest.raises(OperationalError) as raised:
            await write()
        assert raised.value.connection_invalidated
        await asyncio.gather(write(), write())  # on two connections, both new

    with_engines(shared, look, db_pool_size=2)


def test_a_worker_leaves_a_server_that_takes_no_more_writes(shared: Settings) -> None:
    engines = make_engines(as_workers(shared))
    write = text("UPDATE training_jobs SET attempt = 1 WHERE org_id = :org_id")
    with engines.chat.connect() as connection:
        connection.exec_driver_sql(DEMOTED)
        connection.commit()
    with pytest.raises(OperationalError), engines.chat.begin() as connection:
        connection.execute(write, {"org_id": MINE.org_id})
    with engines.chat.begin() as connection:
        connection.execute(write, {"org_id": MINE.org_id})
    engines.chat.dispose()


def test_a_server_that_takes_no_writes_is_none_of_the_chat_databases(shared: Settings, module_chat_db: str) -> None:
    async def look(engines: AsyncEngines) -> None:
        with pytest.raises(OperationalError):
            await engines.trip(MINE.org_id, (SEEN, {}))

    login = sql.SQL("ALTER ROLE {} IN DATABASE {}").format(
        sql.Identifier(API), sql.Identifier(shared.python_chat_db_name)
    )
    with psycopg.connect(module_chat_db, autocommit=True) as admin:
        admin.execute(login + sql.SQL(" SET default_transaction_read_only = on"))
        try:
            with_engines(shared, look)
        finally:
            admin.execute(login + sql.SQL(" RESET default_transaction_read_only"))


def test_of_several_hosts_one_that_takes_writes_is_used(shared: Settings) -> None:
    async def look(engines: AsyncEngines) -> None:
        async with engines.tenant(MINE.org_id) as connection:
            assert await seen(connection) == [MINE.org_id]

    # The first one answers to nobody.
    with_engines(shared, look, python_chat_db_host=f"127.255.255.254,{shared.python_chat_db_host}")


# --- plans -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def statements(shared: Settings, module_chat_db: str) -> list[Statement]:
    with psycopg.connect(module_chat_db) as admin:
        return chat_statements(admin)


@pytest.fixture
def planner(shared: Settings, module_chat_db: str) -> Iterator[psycopg.Connection]:
    """A connection with the API's login that takes an index wherever there is one."""
    with psycopg.connect(as_role(module_chat_db, API)) as connection:
        connection.execute("SELECT set_config('app.org_id', %s, false)", [str(MINE.org_id)])
        connection.execute("SET enable_seqscan = off")
        yield connection


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        for part in plan.values():
            yield from nodes(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from nodes(part)


def test_a_bots_statements_look_at_its_partitions_alone_and_by_index(
    planner: psycopg.Connection, statements: list[Statement]
) -> None:
    tenants, looked_at = {table.name for table in TENANT_TABLES}, 0
    for statement in statements:
        if ("bot_id", "uuid") not in statement.parameters:
            continue
        explain = f"EXPLAIN (FORMAT JSON) {statement.call(MINE, MUTATIONS['as it is']).as_string(planner)}"
        found = planner.execute(explain.encode()).fetchone()
        assert found is not None
        plan = found[0] if not isinstance(found[0], str) else json.loads(found[0])
        read = [node for node in nodes(plan) if "Relation Name" in node and node["Node Type"] != "ModifyTable"]
        partitions = {name for node in read if re.search(r"_\d\d$", name := node["Relation Name"])}
        parents = Counter(name[:-3] for name in partitions)
        assert all(count == 1 for count in parents.values()), (statement.name, parents)
        looked_at += len(parents)
        scanned = {node["Relation Name"] for node in read if node["Node Type"] == "Seq Scan"}
        assert not {re.sub(r"_\d\d$", "", name) for name in scanned} & tenants, statement.name
    assert looked_at > 3


def test_the_policy_is_asked_once_and_not_for_every_row(planner: psycopg.Connection) -> None:
    rows = planner.execute(
        "EXPLAIN SELECT * FROM embeddings WHERE org_id = %s AND bot_id = %s", [MINE.org_id, uuid4()], prepare=False
    ).fetchall()
    asking = [line for (line,) in rows if "current_setting" in line]
    assert len(asking) == 1
    assert "One-Time Filter" in asking[0]


@pytest.mark.parametrize("which", ["chat", "dashboard"])
def test_a_worker_does_not_wait_for_ever_for_a_server_that_is_frozen(
    shared: Settings, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(database, "ANSWER_WITHIN_S", 0.5)
    engines = make_engines(as_workers(shared))
    engine = getattr(engines, which)
    with engine.connect() as connection, pytest.raises(OperationalError) as raised:
        connection.execute(text("SELECT pg_sleep(30)"))
    assert raised.value.connection_invalidated
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engines.chat.dispose()
    engines.dashboard.dispose()


async def sleeps(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(SLEEP)


@pytest.mark.parametrize("how", ["chat", "dashboard", "tenant", "trip"])
def test_the_api_does_not_wait_for_ever_for_a_server_that_is_frozen(
    shared: Settings, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(database, "TRIP_WITHIN_S" if how == "trip" else "ANSWER_WITHIN_S", 0.5)

    async def look(engines: AsyncEngines) -> None:
        ask: dict[str, Callable[[], Awaitable[object]]] = {
            "chat": lambda: sleeps(engines.chat),
            "dashboard": lambda: sleeps(engines.dashboard),
            "tenant": lambda: sleeps(of_org(engines.chat, MINE.org_id)),
            "trip": lambda: engines.trip(MINE.org_id, (SLEEP, {})),
        }
        for _ in range(2):  # the pool has one connection, and another in its place
            with pytest.raises(OperationalError):
                await ask[how]()
        async with engines.tenant(MINE.org_id) as connection, engines.dashboard.connect() as other:
            assert await seen(connection) == [MINE.org_id]
            assert (await other.execute(text("SELECT 1"))).scalar() == 1

    with_engines(shared, look, db_pool_size=1)


def test_a_transaction_does_not_wait_for_ever_to_begin(shared: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "TRIP_WITHIN_S", 0.5)

    async def look(engines: AsyncEngines) -> None:
        [[row]] = await engines.trip(MINE.org_id, (PID, {}))
        os.kill(row.pid, signal.SIGSTOP)
        try:
            with pytest.raises(OperationalError) as raised:
                async with asyncio.timeout(20), engines.tenant(MINE.org_id):
                    pass
        finally:
            os.kill(row.pid, signal.SIGCONT)
        assert raised.value.connection_invalidated
        async with engines.tenant(MINE.org_id) as connection:
            assert await seen(connection) == [MINE.org_id]

    with_engines(shared, look, db_pool_size=1)
