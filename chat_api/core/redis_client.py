"""Clients of Redis: the patient one, the hurried one of a visitor's request, and how long one that failed is left alone."""

import time
from collections.abc import Callable

import structlog
from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from chat_api.core.settings import Settings

REDIS_LIMIT_S = 2.0
REDIS_WITHIN_S = 0.25
"""How long a visitor's request waits for Redis."""
AWAY_FOR_S = 5.0
log = structlog.get_logger(__name__)


def connect_redis(settings: Settings, *, limit_s: float = REDIS_LIMIT_S) -> Redis:
    """A client whose every answer is waited for `limit_s` seconds at most, twice; nothing connects yet."""
    return Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_connect_timeout=limit_s,
        socket_timeout=limit_s,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),  # a connection that Redis closed meanwhile
    )


def hurried_pool(url: str, connections: int) -> BlockingConnectionPool:
    """Connections of a visitor's request; nothing connects yet.

    To open one takes as long as dozens of commands, so `connections` is small. While all are in use one waits, as long
    as for Redis itself.
    """
    return BlockingConnectionPool.from_url(
        url,
        socket_timeout=REDIS_WITHIN_S,
        socket_connect_timeout=REDIS_WITHIN_S,
        timeout=REDIS_WITHIN_S,
        max_connections=connections,
    )


class Away:
    """Whether Redis is left alone, as it is for five seconds after it failed, so that not everybody waits for it."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`event` is logged at each failure."""
        self._event, self._clock = event, clock
        self._until = 0.0

    def __bool__(self) -> bool:
        return self._clock() < self._until

    def note(self, error: Exception) -> None:
        """Redis has failed."""
        self._until = self._clock() + AWAY_FOR_S
        log.warning(self._event, error=type(error).__name__)
