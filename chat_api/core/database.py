"""Engines for both databases, and whose rows their transactions see; nothing connects before it is used."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy import exc as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from chat_api.core.settings import Settings

CONNECT_ARGS: dict[str, Any] = {
    "connect_timeout": 5,
    "prepare_threshold": None,  # plans are made for the bot at hand, and a transaction pooler may stand between
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
DATABASE_DOWN = (
    *(sql.OperationalError, sql.InterfaceError, sql.TimeoutError),
    *(psycopg.OperationalError, psycopg.InterfaceError),
)
"""What a database that is away, or too busy to answer in time, raises; the driver's own come from COPY."""
TIME_LIMITS = (
    "SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '60s', true),"
    " set_config('idle_in_transaction_session_timeout', '30s', true)"
)
"""Said in each transaction that writes, since a pooler keeps no session's settings. A process that is stopped in the
middle of one holds its locks no longer than this."""

SET_ORG = "SELECT set_config('app.org_id', %s, true)"
"""Whose rows the transaction sees: the policies of the chat database ask for it. Unset, there are none."""

SomeEngine = TypeVar("SomeEngine", Engine, AsyncEngine)


def of_org(engine: SomeEngine, org_id: UUID) -> SomeEngine:
    """The chat database's engine, of which every transaction sees one org's rows, and no others."""
    return engine.execution_options(org_id=org_id)


def say_org(connection: Connection, org_id: UUID) -> None:
    """Has a transaction see one org's rows that has found out whose it needs only after its beginning."""
    connection.exec_driver_sql(SET_ORG, (str(org_id),))


@dataclass(frozen=True, slots=True)
class AsyncEngines:
    """The API's engines to the chat database and the dashboard database."""

    chat: AsyncEngine
    dashboard: AsyncEngine

    def __post_init__(self) -> None:
        event.listen(self.chat.sync_engine, "begin", _begin_request)

    @asynccontextmanager
    async def tenant(self, org_id: UUID) -> AsyncIterator[AsyncConnection]:
        """A transaction in the chat database that sees one org's rows, and no others. Raises SQLAlchemyError."""
        async with of_org(self.chat, org_id).begin() as connection:
            yield connection


@dataclass(frozen=True, slots=True)
class Engines:
    """A worker process's engines to the chat database and the dashboard database; made after the fork."""

    chat: Engine
    dashboard: Engine


@asynccontextmanager
async def async_engines(settings: Settings) -> AsyncIterator[AsyncEngines]:
    """The API's engines, disposed of at the end. A connection is waited for 10 s at most."""
    engines = AsyncEngines(
        _async_engine(settings.chat_db_url(), settings.db_pool_size),
        _async_engine(settings.dashboard_db_url(), settings.db_pool_size),
    )
    try:
        yield engines
    finally:
        await engines.chat.dispose()
        await engines.dashboard.dispose()


def make_engines(settings: Settings) -> Engines:
    """A worker process's engines: small pools, since a process trains one run at a time."""
    return Engines(_engine(settings.chat_db_url()), _engine(settings.dashboard_db_url()))


def _async_engine(url: URL, pool_size: int) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=CONNECT_ARGS,
    )


def _engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        pool_size=2,
        max_overflow=2,
        pool_timeout=10,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=CONNECT_ARGS,
    )
    event.listen(engine, "begin", begin_work)
    return engine


def begin_work(connection: Connection) -> None:
    """A listener: has a worker's transaction bound its waits and say whose rows it sees."""
    org_id = connection.get_execution_options().get("org_id")
    if org_id is None:
        connection.exec_driver_sql(TIME_LIMITS)
    else:
        connection.exec_driver_sql(f"{TIME_LIMITS}, set_config('app.org_id', %s, true)", (str(org_id),))


def _begin_request(connection: Connection) -> None:
    org_id = connection.get_execution_options().get("org_id")
    if org_id is None:
        return
    try:
        await_only(_set_org(connection.connection.driver_connection, org_id))
    except psycopg.Error as error:
        connection.invalidate(error)
        raise sql.OperationalError(SET_ORG, None, error, hide_parameters=True, connection_invalidated=True) from error


async def _set_org(driver: Any, org_id: UUID) -> None:
    # The driver's BEGIN waits for this, so that both take one trip.
    async with driver.pipeline():
        await driver.execute(SET_ORG, [str(org_id)])
