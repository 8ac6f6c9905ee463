"""How many messages a minute: by visitor, address, bot and org, counted in Redis for all replicas."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import BlockingConnectionPool

from chat_api.chat.bot import Bot
from chat_api.core.refusals import TooManyRequests

REDIS_WITHIN_S = 0.25
CONNECTIONS = 16
"""Few: to open one takes as long as dozens of counts. While all are in use one waits, as long as for Redis itself."""
AWAY_FOR_S = 5.0
"""How long Redis is left alone after it did not answer."""
ALONE = 4
"""While Redis is away each replica lets a fourth of the messages through: it does not see what the others let through."""
PREFIX = "messages"
log = structlog.get_logger(__name__)


class RateLimited(TooManyRequests):
    """There are too many messages at once. Please wait a moment."""

    code = "rate_limited"


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages a minute; an org's own `messages_per_minute` replaces `org`."""

    visitor: int
    address: int
    bot: int
    org: int


class MessageRates:
    """Counts messages, in Redis as long as it answers."""

    def __init__(self, rates: Rates, redis_url: str) -> None:
        """Nothing connects before the first message."""
        self._rates = rates
        self._pool = BlockingConnectionPool.from_url(
            redis_url,
            socket_timeout=REDIS_WITHIN_S,
            socket_connect_timeout=REDIS_WITHIN_S,
            timeout=REDIS_WITHIN_S,
            max_connections=CONNECTIONS,
        )
        options: dict[str, Any] = {"connection_pool": self._pool}
        shared = RedisStorage(redis_url, wrap_exceptions=True, implementation="redispy", key_prefix=PREFIX, **options)
        self._shared = _limiter(shared)
        self._alone = _limiter(MemoryStorage(wrap_exceptions=True))
        self._away_until = 0.0

    async def aclose(self) -> None:
        """Ends the connections."""
        await self._pool.aclose()

    async def take(self, bot: Bot, visitor: str, address: str | None) -> None:
        """Counts one message. Raises RateLimited, with the seconds to wait, when it is one too many.

        `address` is the client's, None where it is unknown. What is refused to a visitor does not count for the bot.
        """
        org = bot.limits.messages_per_minute
        keys: list[tuple[int, Sequence[str]]] = [
            (self._rates.visitor, ("visitor", str(bot.org_id), str(bot.bot_id), visitor)),
            (self._rates.bot, ("bot", str(bot.org_id), str(bot.bot_id))),
            (self._rates.org if org is None else org, ("org", str(bot.org_id))),
        ]
        if address is not None:
            keys.insert(1, (self._rates.address, ("address", address)))
        for rate, key in keys:
            if (wait_s := await self._hit(rate, key)) is not None:
                raise RateLimited(retry_after=wait_s)

    async def _hit(self, rate: int, key: Sequence[str]) -> float | None:
        """Counts; the seconds to wait when there were too many."""
        if rate == 0:
            return 60.0
        if time.monotonic() >= self._away_until:
            try:
                return await _hit(self._shared, rate, key)
            except StorageError as error:
                self._away_until = time.monotonic() + AWAY_FOR_S
                log.warning("message_rates_alone", error=type(error.storage_error).__name__)
        return await _hit(self._alone, max(1, rate // ALONE), key)


def _limiter(storage: Storage) -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(storage)


async def _hit(limiter: SlidingWindowCounterRateLimiter, rate: int, key: Sequence[str]) -> float | None:
    item = RateLimitItemPerMinute(rate)
    if await limiter.hit(item, *key):
        return None
    window = await limiter.get_window_stats(item, *key)
    return max(1.0, window.reset_time - time.time())
