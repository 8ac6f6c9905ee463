"""A dashboard database that is there and says nothing any more: its bots are known from their snapshots, soon."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from chat_api.chat.bot import Bot, Bots
from chat_api.core.database import async_engines
from chat_api.core.errors import DatabaseUnavailable
from chat_api.core.settings import Settings
from tests.chat_api.chat_world import Chat, TestBot
from tests.servers import as_api

pytestmark = [pytest.mark.stack, pytest.mark.timeout(60)]

ANSWER_WITHIN_S = 4.0
"""Less than the driver takes to cancel a statement of a server that does not answer."""


class Forwarder:
    """Passes on what comes to a port of its own, until it is frozen."""

    def __init__(self, host: str, port: int) -> None:
        self._target, self._open = (host, port), contextlib.ExitStack()
        self._frozen = threading.Event()
        self._listener = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = int(self._listener.getsockname()[1])
        self.asked = 0
        """Connections since it was frozen, and what came on the earlier ones."""
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Passes nothing on from now on, and keeps all connections."""
        self._frozen.set()

    def close(self) -> None:
        """Ends the connections."""
        self._open.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._open.enter_context(self._listener.accept()[0])
                if self._frozen.is_set():
                    self.asked += 1
                    continue
                server = self._open.enter_context(socket.create_connection(self._target))
                for one, two in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(one, two), daemon=True).start()

    def _pass_on(self, one: socket.socket, two: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := one.recv(65_536):
                if self._frozen.is_set():
                    self.asked += 1
                    continue
                two.sendall(said)
            if not self._frozen.is_set():
                two.shutdown(socket.SHUT_WR)


@pytest.fixture
def forwarder(chat_settings: Settings) -> Iterator[Forwarder]:
    """Before the dashboard database."""
    forwarder = Forwarder(chat_settings.dashboard_db_host, chat_settings.dashboard_db_port)
    yield forwarder
    forwarder.close()


@contextlib.asynccontextmanager
async def frozen(settings: Settings, forwarder: Forwarder, known: TestBot) -> AsyncIterator[tuple[Bots, Bot]]:
    """Bots that have read this one, which is forgotten, from a dashboard that then said nothing more; and the bot."""
    behind = {"dashboard_db_host": "127.0.0.1", "dashboard_db_port": forwarder.port}
    async with async_engines(as_api(settings).model_copy(update=behind)) as engines:
        bots = Bots(engines)
        bot = await bots.get(known.org_id, known.bot_id)
        assert bot
        forwarder.freeze()
        bots.forget(bot)
        yield bots, bot


def test_a_bot_is_known_from_its_snapshot_while_the_dashboard_is_frozen(
    chat: Chat, chat_settings: Settings, forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_api.chat.bot.DASHBOARD_WITHIN_S", 0.5)
    monkeypatch.setattr("chat_api.chat.bot.UNHEARD_OF_WITHIN_S", 0.5)
    known = chat.add_bot()

    async def play() -> None:
        async with frozen(chat_settings, forwarder, known) as (bots, bot):
            asking = [asyncio.create_task(bots.get(known.org_id, known.bot_id)) for _ in range(5)]
            asking.append(asyncio.create_task(bots.get(known.org_id, uuid4())))
            left = asyncio.create_task(bots.get(known.org_id, known.bot_id))
            await asyncio.sleep(0.1)
            left.cancel()
            answered, _ = await asyncio.wait(asking, timeout=ANSWER_WITHIN_S)
            assert len(answered) == len(asking)
            assert left.cancelled()
            assert [task.result() for task in asking[:5]] == [bot] * 5
            with pytest.raises(DatabaseUnavailable):
                asking[5].result()

    asyncio.run(play())


def test_a_bot_is_asked_for_once_by_many(chat: Chat, chat_settings: Settings, forwarder: Forwarder) -> None:
    known = chat.add_bot()

    async def play() -> None:
        async with frozen(chat_settings, forwarder, known) as (bots, bot):
            asking = [asyncio.create_task(bots.get(known.org_id, known.bot_id)) for _ in range(5)]
            await asyncio.wait(asking)
            assert [task.result() for task in asking] == [bot] * 5
            # One statement's words, and at most the cancellation of it.
            assert forwarder.asked <= 2

    asyncio.run(play())
