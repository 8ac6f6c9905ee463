"""Whose turn it is with a server: at once, at a pace, after a hold; over replicas, and while Redis is away."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from redis import Redis

from chat_api.core.errors import FetchFailed
from tests.workers.fetch.loopback import SHORT, client_of, reply, serving
from workers.fetch.limits import CURRENT
from workers.fetch.manners import LONGEST_WAIT_S, SLOT_S, Manners
from workers.fetch.robots import Robots

HOST = "shop.example"


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.naps = 1000.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def alone(clock: Clock, **options: float) -> Manners:
    """Manners of one process without Redis."""
    return Manners(at_once=2, clock=clock, sleep=clock.sleep, **options)  # type: ignore[arg-type]  # pace_s alone is given


def is_free(manners: Manners, host: str = HOST) -> bool:
    """Whether a turn comes at once."""
    try:
        with manners.turn(host, patience_s=0):
            return True
    except FetchFailed:
        return False


def test_so_many_at_once_and_no_more() -> None:
    manners = alone(Clock())
    with manners.turn(HOST), manners.turn(HOST):
        assert (is_free(manners), is_free(manners, "other.example")) == (False, True)
    assert is_free(manners)


def test_a_turn_is_given_back_when_its_fetch_fails() -> None:
    manners = alone(Clock())
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), manners.turn(HOST):
            raise ZeroDivisionError
    assert is_free(manners)


@pytest.mark.parametrize(
    ("asked", "usual", "waited"), [(3.0, 0.0, 3.0), (None, 2.0, 2.0), (1.0, 2.0, 2.0), (None, 0.0, 0.0)]
)
def test_requests_keep_the_pace_that_is_asked_for(asked: float | None, usual: float, waited: float) -> None:
    clock = Clock()
    manners = alone(clock, pace_s=usual)
    manners.pace(HOST, asked)
    with manners.turn(HOST) as first:
        pass
    with manners.turn(HOST) as second:
        pass
    assert [first, second] == pytest.approx([0, waited])
    assert max(clock.naps, default=0) < 1


def test_a_hold_is_waited_for_when_it_is_short_and_told_when_it_is_long() -> None:
    clock = Clock()
    manners = alone(clock)
    manners.hold(HOST, 5)
    manners.hold(HOST, 2)
    with manners.turn(HOST) as waited:
        assert waited == pytest.approx(5)
    manners.hold(HOST, 10**9)
    with pytest.raises(FetchFailed) as told, manners.turn(HOST):
        pytest.fail("it is not our turn")
    assert told.value.retry_after == pytest.approx(600)
    assert is_free(manners, "other.example")


def test_what_is_known_of_servers_is_bounded() -> None:
    manners = alone(Clock())
    manners.hold(HOST, 100)
    for number in range(3_000):
        is_free(manners, f"{number}.example")
    assert len(manners._hosts) <= 1_001
    assert not is_free(manners)


# --- over replicas ---

pytestmark = pytest.mark.stack


@pytest.fixture
def redis(redis_url: str) -> Iterator["Redis"]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def replica(redis: "Redis") -> Callable[[], Manners]:
    return lambda: Manners(redis, at_once=3)


def test_replicas_share_a_server_s_turns(replica: Callable[[], Manners]) -> None:
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(replica().turn(HOST))
        assert (is_free(replica()), is_free(replica(), "other.example")) == (False, True)
    assert is_free(replica())


def test_replicas_share_holds_and_pace(replica: Callable[[], Manners]) -> None:
    replica().hold(HOST, 100)
    with pytest.raises(FetchFailed) as told, replica().turn(HOST):
        pytest.fail("it is not our turn")
    assert 90 < (told.value.retry_after or 0) <= 100
    slow = replica()
    slow.pace("slow.example", 8)
    with slow.turn("slow.example"):
        pass
    assert not is_free(replica(), "slow.example")


def test_a_dead_worker_s_turns_are_forgotten(redis: "Redis", replica: Callable[[], Manners]) -> None:
    turns = [replica().turn(HOST) for _ in range(3)]
    for turn in turns:
        turn.__enter__()
    assert not is_free(replica())
    assert 0 < redis.pttl(f"fetch:open:{HOST}") <= SLOT_S * 1000
    redis.zunionstore(f"fetch:open:{HOST}", {f"fetch:open:{HOST}": 0})  # their time is over
    assert is_free(replica())


def test_without_redis_each_process_asks_for_one_thing_at_a_time() -> None:
    manners = Manners(Redis(port=1, socket_connect_timeout=0.1), at_once=3)
    with manners.turn(HOST):
        assert (is_free(manners), is_free(manners, "other.example")) == (False, True)
    assert is_free(manners)
    manners.hold(HOST, 2 * LONGEST_WAIT_S)
    assert not is_free(manners)


# --- with the client ---


def test_the_client_waits_for_its_turn_outside_its_time() -> None:
    clock, left = Clock(), list[float]()
    manners = Manners(clock=clock, sleep=clock.sleep)

    def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    def connect(address: tuple[str, int], seconds: float) -> socket.socket:
        left.append(CURRENT.get().remaining())
        return socket.create_connection(address, seconds)

    with serving({"/": reply(b"page")}) as site:
        manners.hold(f"www.example.com:{site.port}", 9)
        with client_of(site, limits=SHORT, manners=manners, resolve=resolve, connect=connect) as client:
            assert client.get(site.url(host="www.example.com")).body == b"page"
    assert clock.now == pytest.approx(1009)
    assert left[0] > 9


def test_the_delay_of_robots_txt_is_kept_by_all_that_follows() -> None:
    clock = Clock()
    manners = Manners(clock=clock, sleep=clock.sleep)
    pages = {"/robots.txt": reply(b"User-agent: *\nCrawl-delay: 3"), "/": reply(b"page")}
    with serving(pages) as site, client_of(site, manners=manners) as client:
        known = Robots(client)
        known.check(site.url())
        for _ in range(3):
            client.get(site.url())
        assert clock.now == pytest.approx(1006)
    clock = Clock()
    manners = Manners(clock=clock, sleep=clock.sleep)
    with serving(pages) as site, client_of(site, manners=manners) as client:
        Robots(client, {site.url("").rstrip("/"): next(iter(known.known.values()))})
        for _ in range(2):
            client.get(site.url())
        assert clock.now == pytest.approx(1003)
