"""Engines for both databases, and whose rows their transactions see; nothing connects before it is used."""

import select
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled, ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import URL, Connection, Dialect, Engine, ExceptionContext, TextClause, create_engine, event
from sqlalchemy import exc as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from chat_api.core.readable import readable
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
    *(psycopg.OperationalError, psycopg.InterfaceError, ReadOnlySqlTransaction),
)
"""What a database that is away, takes no writes, or is too busy to answer in time, raises; the driver's own come from
COPY."""
ROWS_HELD = (LockNotAvailable, QueryCanceled, DeadlockDetected)
"""What a database that is there raises where others held its rows, or the work took longer than it may."""
TIME_LIMITS = (
    "SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '60s', true),"
    " set_config('idle_in_transaction_session_timeout', '30s', true)"
)
"""Said in each transaction that writes, since a pooler keeps no session's settings. A process that is stopped in the
middle of one holds its locks no longer than this."""

ANSWER_WITHIN_S = 75.0
"""How long a database's answer is waited for: longer than the server may work on it."""
TRIP_WITHIN_S = 15.0
"""The same for a trip, which a visitor waits for, and for the beginning of a transaction."""
SET_ORG = "SELECT set_config('app.org_id', %s, true)"
"""Whose rows the transaction sees: the policies of the chat database ask for it. Unset, there are none."""

SomeEngine = TypeVar("SomeEngine", Engine, AsyncEngine)
Got = TypeVar("Got")
Said = tuple[TextClause, Mapping[str, Any]]
"""A statement and its values."""
Rows = list[Any]
"""What a statement gave: named tuples."""


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

    async def trip(self, org_id: UUID, *said: Said) -> list[Rows]:
        """What each statement gives: all in one transaction that sees one org's rows, and no others, and in one trip.

        For what a visitor waits for: it takes a fifth of the processor time of the same statements in `tenant`. When one
        fails, nothing of any is kept. Raises SQLAlchemyError.
        """
        found: list[Rows] = await greenlet_spawn(_trip, self.chat.sync_engine, org_id, said)
        return found


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
        readable(_async_engine(settings.dashboard_db_url(), settings.db_pool_size)),
    )
    try:
        yield engines
    finally:
        await engines.chat.dispose()
        await engines.dashboard.dispose()


def is_held(error: Exception) -> bool:
    """Whether the database was there, but others held its rows, or the work took longer than it may."""
    return isinstance(getattr(error, "orig", error), ROWS_HELD)


def make_engines(settings: Settings) -> Engines:
    """A worker process's engines: small pools, since a process does one claim at a time."""
    return Engines(_engine(settings.chat_db_url()), readable(_engine(settings.dashboard_db_url())))


def _async_engine(url: URL, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_use_lifo=True,  # the connection last used has the tables' descriptions in its caches
        hide_parameters=True,
        connect_args=CONNECT_ARGS | {"async_creator_fn": _AsyncBounded.connect},
    )
    event.listen(engine.sync_engine, "checkout", _look_at)
    event.listen(engine.sync_engine, "handle_error", _tell_of_a_standby)
    return engine


def _look_at(pooled: Any, _record: Any, _proxied: Any) -> None:
    """Has a connection replaced that ended while it rested. To ask the server would take a trip before each transaction."""
    driver = pooled.driver_connection
    if driver.closed or _has_news(driver.fileno()):
        raise sql.DisconnectionError


def _has_news(descriptor: int) -> bool:
    """Whether there is something to read: on a connection that rests, its end."""
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return bool(look.poll(0))


def _tell_of_a_standby(context: ExceptionContext) -> BaseException | None:
    """Has all connections replaced when the server of one takes no more writes, and the error said as what it is."""
    error = context.original_exception
    if not isinstance(error, ReadOnlySqlTransaction):
        return None
    context.is_disconnect = True
    return _read_only(error)


def _read_only(error: ReadOnlySqlTransaction) -> sql.OperationalError:
    return sql.OperationalError(None, None, error, hide_parameters=True, connection_invalidated=True)


def _engine(url: URL) -> Engine:
    return bounded(url, pool_size=2, max_overflow=2, pool_timeout=10, pool_pre_ping=True)


def bounded(url: URL, **pool: Any) -> Engine:
    """An engine with this pool, every wait of which has an end: for locks, for answers, and for a server that is frozen."""
    engine = create_engine(url, hide_parameters=True, connect_args=CONNECT_ARGS, **pool)
    event.listen(engine, "begin", begin_work)
    event.listen(engine, "handle_error", _tell_of_a_standby)
    event.listen(engine, "do_connect", lambda _dialect, _record, args, named: _Bounded.connect(*args, **named))
    return engine


class _Bounded(psycopg.Connection[Any]):
    """A connection that waits for no answer longer than the server may take: one that is frozen keeps no limits."""

    def wait(self, gen: PQGen[Got], interval: float = 0.1, timeout: float | None = None) -> Got:
        """What the exchange gives. Raises OperationalError when it took too long; the connection is closed then."""
        try:
            return super().wait(gen, interval, timeout or ANSWER_WITHIN_S)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise


class _AsyncBounded(psycopg.AsyncConnection[Any]):
    """The same for the API."""

    within_s: float | None = None
    """A shorter limit for now."""

    async def wait(
        self,
        gen: PQGen[Got],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109  # the driver's own
    ) -> Got:
        """What the exchange gives. Raises OperationalError when it took too long; the connection is closed then."""
        try:
            return await super().wait(gen, interval, timeout or self.within_s or ANSWER_WITHIN_S)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self.close()
            raise


@asynccontextmanager
async def _in_one_trip(driver: Any) -> AsyncIterator[None]:
    """What is said meanwhile goes together, and is answered soon or not at all."""
    driver.within_s = TRIP_WITHIN_S
    try:
        async with driver.pipeline():
            yield
    finally:
        driver.within_s = None


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
    except BaseException as error:
        # Cut off in the middle of its trip, it would take the answers that are still on the way for the next one's.
        connection.invalidate(error)
        raise


async def _set_org(driver: Any, org_id: UUID) -> None:
    # The driver's BEGIN waits for this, so that both take one trip.
    async with _in_one_trip(driver):
        await driver.execute(SET_ORG, [str(org_id)])


def _trip(engine: Engine, org_id: UUID, said: tuple[Said, ...]) -> list[Rows]:
    try:
        proxied = engine.raw_connection()
        try:
            queries = [(_native(statement, engine.dialect), values) for statement, values in said]
            found: list[Rows] = await_only(_pipelined(proxied.driver_connection, org_id, queries))
        except BaseException as error:
            # It may still be in the middle of something, and does not say BEGIN by itself.
            proxied.invalidate(error)
            raise
        proxied.close()
    except ReadOnlySqlTransaction as error:
        engine.dispose()  # the others lead to the same server
        raise _read_only(error) from error
    except psycopg.Error as error:
        raise sql.DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True) from error
    return found


async def _pipelined(driver: Any, org_id: UUID, queries: list[tuple[str, Mapping[str, Any]]]) -> list[Rows]:
    # Without a BEGIN, which the driver would wait for: what is sent before one Sync is one transaction to the server.
    await driver.set_autocommit(True)
    async with _in_one_trip(driver):
        await driver.execute(SET_ORG, [str(org_id)])
        cursors = []
        for query, values in queries:
            cursor = driver.cursor(row_factory=namedtuple_row)
            await cursor.execute(query, values)
            cursors.append(cursor)
    await driver.set_autocommit(False)
    return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]


@lru_cache(maxsize=256)
def _native(statement: TextClause, dialect: Dialect) -> str:
    """The statement as the driver takes it."""
    return str(statement.compile(dialect=dialect))
