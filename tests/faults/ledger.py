"""What was paid for: inputs that workers had embedded, beside what was in flight when they were struck."""

import hashlib
import threading
import time
from dataclasses import dataclass, field

from tests.faults.provider import Call, RecordingProvider
from tests.faults.world import AWAY, World

EVERY_S = 0.3
PATIENCE_S = 60.0
ON_ITS_WAY_S = 1.0
"""What reaches the provider so soon after a strike was sent before it: a new worker takes longer to begin."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Inputs embedded in all, how many of them differ, and how many were in flight at some fault."""

    embedded: int
    distinct: int
    in_flight: int

    @property
    def wasted(self) -> int:
        """Inputs embedded again that no fault excuses."""
        return max(0, self.embedded - self.distinct - self.in_flight)


@dataclass(slots=True)
class _Pending:
    """A call whose vectors were not all seen in the database yet; `struck` once its worker was hit."""

    call: Call
    missing: set[bytes]
    struck: bool = field(default=False)


class Ledger:
    """Sees what the workers store of what they had embedded, and what each strike costs them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pending: list[_Pending] = []
        self._read = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._strikes: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._watch, name="ledger", daemon=True)

    def __enter__(self) -> "Ledger":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def strike(self, workers: set[str]) -> None:
        """These workers are hit now: what they had embedded and did not store may be lost."""
        struck_at = time.monotonic()
        thread = threading.Thread(
            target=self._count, args=(self._hit(workers, struck_at), workers, struck_at), daemon=True
        )
        thread.start()
        self._strikes.append(thread)

    def _hit(self, workers: set[str], until: float) -> list[_Pending]:
        with self._lock:
            self._take_calls()
            hit = [
                one
                for one in self._pending
                if one.call.caller in workers and one.call.began <= until and not one.struck
            ]
            for one in hit:
                one.struck = True
        return hit

    def bill(self) -> Bill:
        """The account of the run so far."""
        for thread in self._strikes:
            thread.join(PATIENCE_S)
        calls = worker_calls(self._world.provider)
        texts = [text for call in calls for text in call.texts]
        lost = sum(len(call.texts) for call in calls if call.cut)
        return Bill(len(texts), len(set(texts)), self._in_flight + lost)

    def _take_calls(self) -> None:
        calls = self._world.provider.calls
        fresh, self._read = calls[self._read : len(calls)], len(calls)
        self._pending += [
            _Pending(call, {identity(text) for text in call.texts})
            for call in fresh
            if call.caller.startswith("worker-")
        ]

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            with self._lock:
                self._take_calls()
                waiting = [one for one in self._pending if not one.struck]
            self._look(waiting)
            with self._lock:
                self._pending = [
                    one
                    for one in self._pending
                    if one.missing and not one.struck and (one.call.open or one.call.billed)
                ]

    def _look(self, pending: list[_Pending]) -> bool:
        """Strike off what is stored by now; False when the database is away."""
        asked = list({sha for one in pending for sha in one.missing})
        if not asked:
            return True
        try:
            rows = self._world.chat(
                "SELECT DISTINCT embedded_sha256 FROM chunks WHERE embedded_sha256 = ANY (%s)", asked
            )
        except AWAY:
            return False
        stored = {bytes(row["embedded_sha256"]) for row in rows}
        for one in pending:
            one.missing -= stored
        return True

    def _count(self, hit: list[_Pending], workers: set[str], struck_at: float) -> None:
        self._excuse(hit)
        time.sleep(max(0.0, struck_at + ON_ITS_WAY_S - time.monotonic()))
        self._excuse(self._hit(workers, struck_at + ON_ITS_WAY_S))

    def _excuse(self, hit: list[_Pending]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self._look(hit) and time.monotonic() < deadline:
            time.sleep(0.2)
        with self._lock:
            self._in_flight += sum(len(one.missing) for one in hit)


def worker_calls(provider: RecordingProvider) -> list[Call]:
    """The embedding calls that workers were billed for."""
    return [call for call in list(provider.calls) if call.billed and call.caller.startswith("worker-")]


def identity(text: str) -> bytes:
    """An input's `embedded_sha256`; there is one embedding space."""
    return hashlib.sha256(text.encode()).digest()
