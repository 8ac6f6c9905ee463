"""The executioner: kills, stops, floods and starves the stack by a seeded list, and keeps the account of it."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil
import psycopg
import redis

from tests.faults.ledger import Ledger
from tests.faults.recovery import Victim, Watcher
from tests.faults.world import World

GAP_S = (1.0, 5.0)
REDIS_AWAY_S = (2.0, 6.0)
BUSY = 0.8
"""How eagerly a worker is sought that is at work."""
WEIGHTS = {
    "kill group": 5, "kill parent": 4, "kill child": 5, "stop group": 4, "flush redis": 3, "restart redis": 3,
    "stop redis": 2, "restart postgres": 3, "provider throttles": 3, "provider fails": 3, "provider hangs": 2,
    "provider cuts": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault: when (monotonic), what, to whom, and how many tasks were held there."""

    at: float
    kind: str
    target: str
    held: int


class Executioner:
    """Deals a blow every `gap_s` seconds (least, most) until its time is over; then wakes all that it had stopped."""

    def __init__(
        self,
        world: World,
        watcher: Watcher,
        ledger: Ledger,
        *,
        weights: Mapping[str, int] = WEIGHTS,
        gap_s: tuple[float, float] = GAP_S,
    ) -> None:
        self._world, self._watcher, self._ledger = world, watcher, ledger
        self._dice = random.Random(f"executioner {world.size.seed}")
        self._weights, self._gap_s = dict(weights), gap_s
        self._first = self._dice.sample(list(weights), len(weights))
        self._stopped: dict[str, tuple[float, list[psutil.Process]]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="executioner", daemon=True)
        self.blows: list[Blow] = []
        self.last_fault = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No further blows; returns when all that was stopped runs again. The last fault is the last waking."""
        self._ended.set()
        self._thread.join()

    @property
    def counts(self) -> Counter[str]:
        """Blows by kind."""
        return Counter(blow.kind for blow in self.blows)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake_due()
            kind = self._next()
            # A blow that misses (nobody there) is no reason to end.
            with contextlib.suppress(psutil.Error, OSError, redis.RedisError, psycopg.Error):
                self._deal(kind)
            self._ended.wait(self._dice.uniform(*self._gap_s))
        while self._stopped:
            self._wake_due()
            time.sleep(0.1)

    def _next(self) -> str:
        """Each kind once, in some order, then as the weights say."""
        if self._first:
            return self._first.pop()
        return self._dice.choices(list(self._weights), list(self._weights.values()))[0]

    def _deal(self, kind: str) -> None:
        verb, _, target = kind.partition(" ")
        acts: dict[str, Callable[[], None]] = {
            "flush redis": self._flush,
            "restart redis": lambda: self._strike("redis", "restart redis"),
            "stop redis": self._keep_redis_down,
            "restart postgres": self._restart_postgres,
        }
        if kind in acts:
            acts[kind]()
        elif verb == "provider":
            self._trouble(target)
        else:
            self._hit_worker(verb, target)
        self.last_fault = time.monotonic()

    def _note(self, kind: str, target: str, held: int = 0) -> None:
        self.blows.append(Blow(time.monotonic(), kind, target, held))
        self._world.say(f"{kind} ({target}, {held} tasks in hand)" if held else f"{kind} ({target})")

    # --- workers -----------------------------------------------------------------------------------------------------

    def _hit_worker(self, verb: str, whom: str) -> None:
        standing = [name for name in self._world.workers if name not in self._stopped]
        if not standing or (verb == "stop" and len(standing) == 1):
            return
        name, family, victims = self._choose(standing)
        if not family:
            return
        parent, *rest = family
        if verb == "stop":
            for process in family:
                process.send_signal(signal.SIGSTOP)
            self._stopped[name] = (time.monotonic() + self._world.size.stop_s, family)
        elif whom == "group":
            os.killpg(parent.pid, signal.SIGKILL)
        elif whom == "parent":
            parent.kill()
        else:
            _worker_process(rest).kill()
        self._watcher.watch(victims)
        self._ledger.strike({name})
        self._note(f"{verb} {whom}", name, len(victims))

    def _choose(self, standing: list[str]) -> tuple[str, list[psutil.Process], list[Victim]]:
        """A worker, mostly one that is at work: those that idle have little to lose."""
        chosen: tuple[str, list[psutil.Process], list[Victim]] = ("", [], [])
        for name in self._dice.sample(standing, len(standing)):
            family = self._world.family(name)
            victims = self._watcher.held_by([process.pid for process in family])
            if not chosen[1] or victims:
                chosen = name, family, victims
            if victims or self._dice.random() > BUSY:
                break
        return chosen

    def _wake_due(self) -> None:
        for name, (due, family) in list(self._stopped.items()):
            if time.monotonic() >= due:
                for process in family:
                    with contextlib.suppress(psutil.Error):
                        process.send_signal(signal.SIGCONT)
                del self._stopped[name]
                self.last_fault = time.monotonic()
                self._world.say(f"woken ({name})")

    # --- servers -----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        with redis.Redis.from_url(self._world.described["redis_url"], socket_timeout=2) as client:
            client.flushall()
        self._note("flush redis", "redis")

    def _strike(self, name: str, kind: str) -> None:
        os.kill(self._world.described["pids"][name], signal.SIGKILL)
        self._note(kind, name)

    def _keep_redis_down(self) -> None:
        until = time.monotonic() + self._dice.uniform(*REDIS_AWAY_S)
        self._note("stop redis", "redis")
        while time.monotonic() < until:
            with contextlib.suppress(OSError, KeyError):
                os.kill(self._world.described["pids"]["redis"], signal.SIGKILL)
            time.sleep(0.1)

    def _restart_postgres(self) -> None:
        everybody = set(self._world.workers)
        os.kill(self._world.described["pids"]["postgres"], signal.SIGQUIT)
        self._ledger.strike(everybody)
        self._note("restart postgres", "postgres")

    # --- the provider ------------------------------------------------------------------------------------------------

    def _trouble(self, what: str) -> None:
        provider, dice = self._world.provider, self._dice
        if what == "throttles":
            provider.fail(429, times=dice.randint(1, 5), retry_after=dice.choice((0.5, 1, 2, 3)))
        elif what == "fails":
            provider.fail(dice.choice((500, 502, 503)), times=dice.randint(1, 6))
        elif what == "hangs":
            provider.fail("hang", times=dice.randint(1, 2))
        else:
            provider.fail("cut", times=dice.randint(1, 3))
        self._note(f"provider {what}", "provider")


def _worker_process(children: list[psutil.Process]) -> psutil.Process:
    """The pool's worker among its descendants: not the parser's server, nor multiprocessing's own helper."""
    for process in children:
        if "spawn_main" in " ".join(process.cmdline()):
            return process
    raise psutil.NoSuchProcess(0)
