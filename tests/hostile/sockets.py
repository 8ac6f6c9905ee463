"""Hostile peers against the chat's sockets while ordinary visitors ask, and the memory of idle ones.

`python -m tests.hostile.sockets`, with SEED, IDLE (sockets), PEERS, RATE (of floods, a second), SECONDS (of each attack),
QUESTIONS (a second, by ordinary visitors), ATTACKS (comma separated). Caps on sockets and messages are raised for it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Self

from tests.faults.report import Figure, at_most, none_of, percentile, table
from tests.hostile.sockets_attacks import ATTACKS
from tests.hostile.sockets_world import Attack, Target, Turns, Visitors, deployment

MIB, GIB = 2**20, 2**30
MOST_GROWTH = 1.2
PER_GIB = 25_000
MEMORY_LIMIT_MIB = 256
"""By which the API may grow under an attack that is not of idle sockets."""
KEPT_LIMIT_MIB = 96
"""By which it may be larger for good."""
SETTLING = {"readers", "pings", "half_open"}
"""Attacks whose peers the service has to be rid of while they are still there."""
LEFT_WITHIN_S = 60.0
MOST_READERS = 10
"""Each has a model write for it until it is cut, which is work that a model's speed and an org's limits bound."""
WARM_SOCKETS, WARM_S = 200, 3.0
OWN_FILES = 40
"""Connections to databases, Redis and the provider that may come and go."""


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    seed: int = 1
    idle: int = 300
    peers: int = 20
    rate: float = 40
    seconds: float = 3
    questions: float = 4
    attacks: tuple[str, ...] = tuple(ATTACKS)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """The size that the environment asks for. Raises ValueError for what is no number, or no attack."""
        attacks = tuple(name for name in environ.get("ATTACKS", "").split(",") if name) or cls.attacks
        if unknown := set(attacks) - set(ATTACKS):
            raise ValueError(f"there is no attack {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
        return cls(
            seed=int(environ.get("SEED") or 1),
            idle=int(environ.get("IDLE") or 10_000),
            peers=int(environ.get("PEERS") or 200),
            rate=float(environ.get("RATE") or 100),
            seconds=float(environ.get("SECONDS") or 30),
            questions=float(environ.get("QUESTIONS") or 5),
            attacks=attacks,
        )


@dataclass
class Result:
    """What one attack came to. `kept`: bytes of memory that did not come back; `left_s`: until its peers were gone."""

    attack: Attack
    turns: Turns
    quiet: Turns
    begun: int
    peak: int
    kept: int
    left_s: float
    busy: float
    """The API's processor seconds a second under the attack."""


def run(target: Target, size: Size) -> list[Figure]:
    """All attacks, one after the other."""
    return asyncio.run(_run(target, size))


async def _run(target: Target, size: Size) -> list[Figure]:
    visitors = Visitors(target, size.questions, max(4, int(4 * size.questions)))
    figures: list[Figure] = []
    async with visitors.there():
        await _warm(target, visitors, size)
        for name in size.attacks:
            result = await _attack(target, visitors, size, name)
            figures += _figures(result, size)
            wrong = dict(result.turns.wrong + result.quiet.wrong)
            print(
                f"{name}: {result.attack.met}, wrong: {wrong}, API at {100 * result.busy:.0f} % of a core", flush=True
            )
        figures.append(none_of("R12", "the API died", int(target.replica.process.poll() is not None)))
    return figures


async def _warm(target: Target, visitors: Visitors, size: Size) -> None:
    """Has the API allocate what it allocates once."""
    files = target.files()
    async with target.attacked("idle", min(WARM_SOCKETS, size.idle), 1, size.seed):
        await visitors.ask(WARM_S)
    await target.settled(files + OWN_FILES)


async def _attack(target: Target, visitors: Visitors, size: Size, name: str) -> Result:
    quiet = await visitors.ask(size.seconds / 2)
    before, most = target.resident(), target.files() + OWN_FILES
    watching = asyncio.create_task(_peak(target))
    number = {"idle": size.idle, "readers": min(size.peers, MOST_READERS)}.get(name, size.peers)
    async with target.attacked(name, number, size.rate, size.seed) as attack:
        begun, spent = target.resident(), target.spent()
        turns = await visitors.ask(size.seconds)
        busy = (target.spent() - spent) / size.seconds
        left_s = await target.settled(most) if name in SETTLING else 0.0
    left_s = left_s or await target.settled(most)
    watching.cancel()
    peak = await watching
    kept = target.resident() - before
    if name == "idle":
        # What an allocator keeps is there for the next ones: only what they need beside it is lost.
        async with target.attacked(name, size.idle // 4, size.rate, size.seed):
            kept = target.resident() - begun
        await target.settled(most)
    quiet.add(await visitors.ask(size.seconds / 2))
    return Result(attack, turns, quiet, begun - before, peak - before, kept, left_s, busy)


async def _peak(target: Target) -> int:
    """The most memory that the API has until this is cancelled."""
    peak = 0
    with suppress(asyncio.CancelledError):
        while True:
            peak = max(peak, target.resident())
            await asyncio.sleep(0.1)
    return peak


def _figures(result: Result, size: Size) -> list[Figure]:
    name, slow, quick = result.attack.name, result.turns, result.quiet
    grown = (percentile(slow.whole, 0.95) or inf) / (percentile(quick.whole, 0.95) or inf)
    first = 1000 * percentile(slow.first, 0.95), 1000 * percentile(quick.first, 0.95)
    figures = [
        Figure("R12", f"{name}: answers' p50 / p95, ms", _ms(slow.whole), f"alone {_ms(quick.whole)}"),
        Figure("R12", f"{name}: first piece's p95, ms", f"{first[0]:.0f}", f"alone {first[1]:.0f}"),
        # Times of other programs on the machine are in it.
        Figure("R12", f"{name}: p95 has grown by", round(grown, 2), f"≤ {MOST_GROWTH}", grown <= MOST_GROWTH, True),
        none_of("R12", f"{name}: visitors cut or refused", (slow.wrong + quick.wrong).total()),
        at_most("R12", f"{name}: seconds until its peers are gone", result.left_s, LEFT_WITHIN_S),
        at_most("R12", f"{name}: memory that stays", result.kept / MIB, KEPT_LIMIT_MIB, " MiB"),
    ]
    if name != "idle":
        return [*figures, at_most("R12", f"{name}: memory at most", result.peak / MIB, MEMORY_LIMIT_MIB, " MiB")]
    lost = result.attack.met["lost"] + size.idle - result.attack.met["open"]
    each = result.begun / result.attack.met["open"]
    return [
        *figures,
        none_of("R12", "idle: sockets lost", lost),
        Figure("P7", f"idle sockets per GiB ({result.attack.met['open']} open)", int(GIB / each), f"≥ {PER_GIB}",
               GIB / each >= PER_GIB, size.idle < 1_000),
    ]  # fmt: skip


def _ms(seconds: list[float]) -> str:
    return f"{1000 * percentile(seconds, 0.5):.0f} / {1000 * percentile(seconds, 0.95):.0f}"


def main() -> int:
    """0 when every promise was kept, 1 when one was broken, 2 for orders that can't be read."""
    try:
        size = Size.of(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with deployment() as target:
        figures = run(target, size)
    print(f"{size}\n{table(figures)}")
    return int(any(figure.broken for figure in figures))


if __name__ == "__main__":
    # One that is told to stop takes its servers down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
