"""How many messages a minute: by visitor, address, bot and org, counted in Redis for all replicas."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chat_api.chat.bot import Bot
from chat_api.core.errors import TooManyRequests

REDIS_WITHIN_S = 0.25
AWAY_FOR_S = 5.0
"""How long Redis is left alone after it did not answer."""
ALONE = 4
"""While Redis is away each replica lets a fourth of the messages through: it does not see what the others let through."""
PREFIX = "messages"
# Sliding windows of a minute: what the one before counted weighs as much of it as is not over yet. Keys come in pairs, that
# window's and this one's; a window that is full is told by the milliseconds to wait, and none behind it counts.
COUNT = """
local minute = 60000
for place = 1, #KEYS, 2 do
    local before, now = KEYS[place], KEYS[place + 1]
    local left = redis.call('pttl', now)
    if left > 0 and left < minute then
        redis.call('rename', now, before)
        redis.call('set', now, 0, 'PX', left + minute)
    end
    local old, old_left = tonumber(redis.call('get', before)) or 0, math.max(0, redis.call('pttl', before))
    local new, new_left = tonumber(redis.call('get', now)) or 0, math.max(0, redis.call('pttl', now))
    if math.floor(old * old_left / minute) + new + 1 > tonumber(ARGV[(place + 1) / 2]) then
        return math.floor(old * old_left > 0 and old_left % (minute / old) or new_left % minute)
    end
    if redis.call('exists', now) == 1 then
        redis.call('incr', now)
    else
        redis.call('set', now, 1, 'PX', 2 * minute)
    end
end
return false
"""
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
        self._redis: Redis = Redis.from_url(
            redis_url, socket_timeout=REDIS_WITHIN_S, socket_connect_timeout=REDIS_WITHIN_S
        )
        self._count = self._redis.register_script(COUNT)
        self._alone = SlidingWindowCounterRateLimiter(MemoryStorage(wrap_exceptions=True))
        self._away_until = 0.0

    async def aclose(self) -> None:
        """Ends the connections."""
        await self._redis.aclose()

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
        if (wait_s := await self._too_many([(rate, "/".join((PREFIX, *key))) for rate, key in keys])) is not None:
            raise RateLimited(retry_after=wait_s)

    async def _too_many(self, windows: Sequence[tuple[int, str]]) -> float | None:
        """Counts in each window, given as what it takes and its name; the seconds to wait when one was full."""
        if not all(rate for rate, _ in windows):
            return 60.0
        if time.monotonic() >= self._away_until:
            keys = [f"{name}/{which}" for _, name in windows for which in ("before", "now")]
            try:
                wait_ms = await self._count(keys=keys, args=[rate for rate, _ in windows])
            except (RedisError, OSError) as error:
                self._away_until = time.monotonic() + AWAY_FOR_S
                log.warning("message_rates_alone", error=type(error).__name__)
            else:
                return None if wait_ms is None else max(1.0, wait_ms / 1000)
        for rate, name in windows:
            if (wait_s := await self._too_many_here(max(1, rate // ALONE), name)) is not None:
                return wait_s
        return None

    async def _too_many_here(self, rate: int, name: str) -> float | None:
        item = RateLimitItemPerMinute(rate)
        if await self._alone.hit(item, name):
            return None
        window = await self._alone.get_window_stats(item, name)
        return max(1.0, window.reset_time - time.time())
