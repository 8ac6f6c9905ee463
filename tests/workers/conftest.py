"""A chat database that a module's tests share, emptied before each."""

from collections.abc import Iterator

import pytest

from tests.workers.chat_rows import ChatRows, engine_of


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
