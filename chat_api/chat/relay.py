"""Frames of answers in flight, from the replica that makes one to those through which its visitor reads, by Redis.

What is told is kept in the journal soon after, so that whoever misses something, or has no Redis, finds it there.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from chat_api.chat.journal import AnswerKey, Batch
from chat_api.chat.stream import AnswerStream
from chat_api.core.redis_client import REDIS_WITHIN_S, Away

LISTENERS = 200
"""How many answers are listened to at once, each by a connection; others are read from the journal."""
TELLERS = 200
"""How many answers may be told in the same moment; others wait for their turn."""
QUIET_S = 0.25
"""How often an answer that nobody listens to is told."""


class News(NamedTuple):
    """Frames that an answer's holder has just sent."""

    holder: UUID
    batch: Batch
    last: bool
    """Whether the answer's last frame is among them."""


class Relay:
    """Tells and hears. Without Redis nothing is heard, and nobody waits for it."""

    def __init__(self, redis_url: str) -> None:
        """Nothing connects before the first answer."""
        self._redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=REDIS_WITHIN_S,
            socket_connect_timeout=REDIS_WITHIN_S,
            max_connections=LISTENERS + TELLERS,
        )
        self._away = Away("answer_relay_away")
        self._listeners = 0
        self._tellers = asyncio.Semaphore(TELLERS)

    async def aclose(self) -> None:
        """Ends the connections."""
        await self._redis.aclose()

    async def tell_all(self, key: AnswerKey, holder: UUID, stream: AnswerStream, position: int) -> None:
        """Tells a stream's frames from `position` on, to its end: at once while somebody listens, else now and then."""
        channel, grew = _channel(key), stream.watch()
        heard = False
        try:
            while not (stream.ended and position == len(stream.frames)):
                await grew.wait()
                grew.clear()
                if not heard and not stream.ended:
                    await asyncio.sleep(QUIET_S)
                texts = [stream.text_of(index) for index in range(position, len(stream.frames))]
                if texts:
                    last = stream.finished and position + len(texts) == len(stream.frames)
                    head = f"{holder} {position + 1} {'last' if last else 'more'}"
                    heard = await self._tell(channel, "\n".join([head, *texts]))
                    position += len(texts)
        finally:
            stream.unwatch(grew)

    async def _tell(self, channel: str, message: str) -> bool:
        """Whether anybody heard it."""
        async with self._tellers:
            if self._away:
                return False
            try:
                return bool(await self._redis.publish(channel, message))
            except (RedisError, OSError) as error:
                self._away.note(error)
                return False

    @contextlib.asynccontextmanager
    async def listening(self, key: AnswerKey) -> AsyncIterator["Listener"]:
        """Hears what is told of an answer from now on."""
        if self._away or self._listeners >= LISTENERS:
            yield Listener(None)
            return
        self._listeners += 1
        pubsub = self._redis.pubsub()
        try:
            heard = await self._subscribe(pubsub, _channel(key))
            yield Listener(pubsub if heard else None)
        finally:
            self._listeners -= 1
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis leaves it without types

    async def _subscribe(self, pubsub: PubSub, channel: str) -> bool:
        try:
            await pubsub.subscribe(channel)
        except (RedisError, OSError) as error:
            self._away.note(error)
            return False
        return True


class Listener:
    """Hears of one answer; deaf when Redis is away."""

    def __init__(self, pubsub: PubSub | None) -> None:
        self.pubsub = pubsub

    async def next(self, within_s: float) -> News | None:
        """What is told next; None when nothing was within the time."""
        until = time.monotonic() + within_s
        while self.pubsub and (left := until - time.monotonic()) > 0:
            try:
                message = await self.pubsub.get_message(ignore_subscribe_messages=True, timeout=left)
            except (RedisError, OSError):
                break
            if message:
                return _read(message["data"])
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        return None


def _channel(key: AnswerKey) -> str:
    return f"frames:{key.org_id}:{key.bot_id}:{key.conversation_id}:{key.ask_id}"


def _read(data: bytes) -> News:
    head, *texts = data.decode().split("\n")
    holder, first_seq, rest = head.split(" ")
    return News(UUID(holder), Batch(int(first_seq), texts), rest == "last")
