"""How often a server is asked: a few requests at once over all replicas, at the pace that it asks for."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from redis import Redis, RedisError

from chat_api.core.errors import FetchFailed
from chat_api.core.redis_client import Away

AT_ONCE: Final = 4
PATIENCE_S: Final = 60.0
"""A turn that takes longer to come is given up: the fetch is tried again later."""
LONGEST_WAIT_S: Final = 15.0
"""So does one that is known to take this much: whoever can do something else meanwhile should."""
LONGEST_HOLD_S: Final = 600.0
SLOT_S: Final = 15.0
"""A request that takes longer is no longer counted, so that one whose worker died is soon forgotten."""

_GLANCE_S, _LONGEST_NAP_S = 0.02, 0.5
_HOSTS_KEPT: Final = 1_000
# One clock for all machines: Redis's own. Answers with the seconds to wait, or 0 where the turn has come.
_TAKE: Final = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local at = tonumber(redis.call('GET', KEYS[2]) or '0')
if at > now then return at - now end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return -1 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[2], now + ARGV[2], 'PX', ARGV[2]) end
return 0
"""
_HOLD: Final = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local at = tonumber(redis.call('GET', KEYS[1]) or '0')
if now + ARGV[1] > at then redis.call('SET', KEYS[1], now + ARGV[1], 'PX', ARGV[1]) end
"""


@dataclass(slots=True)
class _Host:
    """What this process knows of one server."""

    pace_s: float = 0.0
    open: int = 0
    next_at: float = 0.0


class Manners:
    """Whose turn it is with each server. Threads may share it; replicas share it through Redis.

    While Redis is away each process asks a server one thing at a time. Without a Redis, `at_once` holds for this
    process.
    """

    def __init__(
        self,
        redis: "Redis | None" = None,
        *,
        at_once: int = AT_ONCE,
        pace_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`pace_s` are the seconds between two requests to a server, where its robots.txt asks for no more."""
        self._redis, self._at_once, self._pace_s = redis, at_once, pace_s
        self._clock, self._sleep = clock, sleep
        self._hosts: dict[str, _Host] = {}
        self._lock = Lock()
        self._away = Away("fetch_manners_not_shared", clock)

    def pace(self, host: str, seconds: float | None) -> None:
        """Asks `host` (name and port) at most once in so many seconds from now on."""
        with self._lock:
            self._host(host).pace_s = seconds or 0.0

    def hold(self, host: str, seconds: float) -> None:
        """Asks `host` for nothing for `seconds`; a longer hold that is there stays. Told to all replicas."""
        seconds = min(seconds, LONGEST_HOLD_S)
        with self._lock:
            known = self._host(host)
            known.next_at = max(known.next_at, self._clock() + seconds)
        if seconds > 0:
            self._shared(_HOLD, [f"fetch:next:{host}"], [round(seconds * 1000) or 1])

    @contextmanager
    def turn(self, host: str, patience_s: float = PATIENCE_S) -> Iterator[float]:
        """The time in which `host` may be asked one thing; gives the seconds that it was waited for.

        Raises FetchFailed (with `retry_after`) where it does not come within `patience_s`.
        """
        token, began = uuid4().hex, self._clock()
        while wait_s := self._take(host, token):
            if wait_s > min(LONGEST_WAIT_S, began + patience_s - self._clock()):
                raise FetchFailed(
                    f"{host} is asked for too much just now. It is tried again by itself.", retry_after=wait_s
                )
            self._sleep(min(wait_s, _LONGEST_NAP_S))
        try:
            yield self._clock() - began
        finally:
            self._release(host, token)

    def _take(self, host: str, token: str) -> float:
        """Seconds after which to look again; 0 where it is our turn."""
        with self._lock:
            known = self._host(host)
            pace_s = max(known.pace_s, self._pace_s)
            ours = known.next_at - self._clock()
            if ours > 0:
                return ours
        pace = [self._at_once, round(pace_s * 1000), round(SLOT_S * 1000), token]
        answer = self._shared(_TAKE, [f"fetch:open:{host}", f"fetch:next:{host}"], pace)
        if answer is None:
            return self._take_alone(host, pace_s)
        if answer < 0:
            return _GLANCE_S * random.uniform(0.5, 1.5)  # noqa: S311  # spreads looks, no secret
        if answer == 0:
            with self._lock:
                self._host(host).open += 1
        return float(answer) / 1000

    def _take_alone(self, host: str, pace_s: float) -> float:
        most = 1 if self._redis else self._at_once
        with self._lock:
            known = self._host(host)
            if known.open >= most:
                return _GLANCE_S
            known.open += 1
            known.next_at = max(known.next_at, self._clock() + pace_s)
        return 0.0

    def _release(self, host: str, token: str) -> None:
        with self._lock:
            known = self._host(host)
            known.open = max(0, known.open - 1)
        if self._reachable:
            try:
                self._redis_of().zrem(f"fetch:open:{host}", token)
            except RedisError as error:
                self._away.note(error)

    def _shared(self, script: str, keys: list[str], values: list[Any]) -> int | None:
        """What Redis answers (None counts as 0), or None while there is none."""
        if not self._reachable:
            return None
        try:
            return int(self._redis_of().eval(script, len(keys), *keys, *values) or 0)
        except RedisError as error:
            self._away.note(error)
            return None

    @property
    def _reachable(self) -> bool:
        return self._redis is not None and not self._away

    def _redis_of(self) -> Any:
        return self._redis

    def _host(self, host: str) -> _Host:
        if host not in self._hosts and len(self._hosts) >= _HOSTS_KEPT:
            now = self._clock()
            self._hosts = {name: known for name, known in self._hosts.items() if known.open or known.next_at > now}
        return self._hosts.setdefault(host, _Host())
