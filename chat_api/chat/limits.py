"""How many messages a minute: by visitor, address, bot and org, counted in Redis for all replicas."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from chat_api.chat.bot import Bot
from chat_api.core.redis_client import Away, hurried_pool
from chat_api.core.refusals import TooManyRequests

CONNECTIONS = 16
ALONE = 4
"""While Redis is away each replica lets a fourth of the messages through: it does not see what the others let through."""
PREFIX = "messages"


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
        self._pool = hurried_pool(redis_url, CONNECTIONS)
        options: dict[str, Any] = {"connection_pool": self._pool}
        shared = RedisStorage(redis_url, wrap_exceptions=True, implementation="redispy", key_prefix=PREFIX, **options)
        self._shared = _limiter(shared)
        self._alone = _limiter(MemoryStorage(wrap_exceptions=True))
        self._away = Away("message_rates_alone")

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
        if not self._away:
            try:
                return await _hit(self._shared, rate, key)
            except StorageError as error:
                self._away.note(error.storage_error)
        return await _hit(self._alone, max(1, rate // ALONE), key)


def _limiter(storage: Storage) -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(storage)


async def _hit(limiter: SlidingWindowCounterRateLimiter, rate: int, key: Sequence[str]) -> float | None:
    item = RateLimitItemPerMinute(rate)
    if await limiter.hit(item, *key):
        return None
    window = await limiter.get_window_stats(item, *key)
    return max(1.0, window.reset_time - time.time())
