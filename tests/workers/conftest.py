"""Databases that a module's tests share, emptied before each."""

from collections.abc import Iterator

import pytest

from tests.servers import Servers
from tests.workers.chat_rows import ChatRows, engine_of
from tests.workers.reconcile.two_databases import TwoDatabases, two_databases


@pytest.fixture(scope="module")
def shared_rows(module_chat_db: str) -> Iterator[ChatRows]:
    """One bot's rows in the module's chat database."""
    engine = engine_of(module_chat_db)
    yield ChatRows(engine)
    engine.dispose()


@pytest.fixture
def rows(shared_rows: ChatRows) -> ChatRows:
    """One bot's rows in an empty chat database."""
    shared_rows.clear()
    return shared_rows


@pytest.fixture
def two(servers: Servers, module_chat_db: str, module_dashboard_db: str, redis_url: str) -> Iterator[TwoDatabases]:
    """Both databases, with one bot in them."""
    with two_databases(servers, module_chat_db, module_dashboard_db, redis_url) as found:
        yield found
