"""The relay of frames by Redis: its connections come back, and there are not more listeners than it has room for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from chat_api.chat import relay as relaying
from chat_api.chat.journal import AnswerKey
from chat_api.chat.relay import Listener, Relay
from chat_api.chat.stream import AnswerStream
from tests.servers import Servers

pytestmark = pytest.mark.stack

LISTENERS, TELLERS = 5, 2


@pytest.fixture(autouse=True)
def small_and_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "LISTENERS", LISTENERS)
    monkeypatch.setattr(relaying, "TELLERS", TELLERS)
    monkeypatch.setattr(relaying, "REDIS_WITHIN_S", 10.0)


@contextlib.asynccontextmanager
async def relay_of(servers: Servers) -> AsyncIterator[Relay]:
    async with contextlib.aclosing(Relay(servers.redis_url)) as relay:
        yield relay


def a_key(ask_id: str = "q1") -> AnswerKey:
    return AnswerKey(uuid4(), uuid4(), uuid4(), ask_id)


async def heard(relay: Relay, key: AnswerKey, listener: Listener) -> bool:
    """Whether the listener hears what is told of the answer."""
    stream = AnswerStream("q1")
    telling = asyncio.create_task(relay.tell_all(key, uuid4(), stream, 0))
    await asyncio.sleep(0)
    stream.finish(stream.next("done", text=""))
    await telling
    news = await listener.next(2)
    return news is not None and news.last


def test_a_subscription_that_fails_on_its_connection_gives_that_back(servers: Servers) -> None:
    async def listen(relay: Relay, key: AnswerKey) -> None:
        async with relay.listening(key):
            raise AssertionError("it was subscribed")

    async def play() -> int:
        async with relay_of(servers) as relay:
            with pytest.raises(UnicodeEncodeError):
                await listen(relay, a_key("\ud800"))
            counts = relay._redis.connection_pool.get_connection_count()
        return next(count for count, about in counts if "used" in about.values())

    assert asyncio.run(play()) == 0


def test_listeners_beyond_the_limit_are_deaf_and_the_others_hear_on(servers: Servers) -> None:
    async def play() -> list[bool]:
        async with relay_of(servers) as relay, contextlib.AsyncExitStack() as stack:
            keys = [a_key() for _ in range(LISTENERS + 1)]
            first, *_, late = [await stack.enter_async_context(relay.listening(key)) for key in keys]
            return [await heard(relay, keys[0], first), await heard(relay, keys[-1], late)]

    assert asyncio.run(play()) == [True, False]


def test_answers_told_in_the_same_moment_wait_for_their_turn(servers: Servers) -> None:
    async def play() -> bool:
        async with relay_of(servers) as relay, relay.listening(key := a_key()) as listener:
            await asyncio.gather(*(heard(relay, a_key(), Listener(None)) for _ in range(10 * TELLERS)))
            return await heard(relay, key, listener)

    assert asyncio.run(play())


def test_room_is_made_by_who_leaves(servers: Servers) -> None:
    async def play() -> bool:
        async with relay_of(servers) as relay:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(LISTENERS):
                    await stack.enter_async_context(relay.listening(a_key()))
            key = a_key()
            async with relay.listening(key) as listener:
                return await heard(relay, key, listener)

    assert asyncio.run(play())
