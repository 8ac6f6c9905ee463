"""R1 and R2: sources of all kinds come, change and go while everything is killed; then all must be as if nothing was."""

import random
import time
from collections.abc import Mapping
from uuid import UUID

from tests.faults.check import JOBS, OPEN_JOBS, compare, judge, live_chunks, several_live
from tests.faults.executioner import GAP_S, WEIGHTS, Executioner
from tests.faults.ledger import Ledger
from tests.faults.recovery import Victim, Watcher
from tests.faults.report import Figure, at_most, none_of, percentile
from tests.faults.size import Size
from tests.faults.sources import Owner, Source
from tests.faults.truth import truth
from tests.faults.world import AWAY, World, insist, world

SETTLE_S, RECOVER_S = 120.0, 75.0
WAVES = 12
KINDS = {"text": 30, "qa": 10, "url": 20, "md": 15, "txt": 8, "html": 7, "pdf": 10}
SOURCES_PER_SITE = 40
TOLD_WITHIN_S = 20.0
LATENCY_MS = 400
"""The provider's, so that workers are mostly at work when they are hit."""


def run(
    size: Size,
    broken: str = "",
    *,
    weights: Mapping[str, int] = WEIGHTS,
    gap_s: tuple[float, float] = GAP_S,
) -> list[Figure]:
    """The figures of one storm: of these faults, one every `gap_s` seconds (least, most)."""
    with world(size, broken=broken) as made, Watcher(made) as watcher, Ledger(made) as ledger:
        made.provider.controls.latency_ms = LATENCY_MS
        owner = Owner(made)
        executioner = Executioner(made, watcher, ledger, weights=weights, gap_s=gap_s)
        executioner.start()
        try:
            _work(made, owner, size)
        finally:
            executioner.stop()
        made.say("no more faults")
        settled = _settle(made, owner, executioner.last_fault)
        made.say("all over, or given up")
        bill = ledger.bill()
        figures = _verdict(made, owner)
    claimed = [victim.claimed_s for victim in watcher.victims if victim.claimed_s is not None]
    figures += [
        at_most("R1", "seconds until all was over", settled, SETTLE_S, " s"),
        none_of("R1", "inputs embedded again without a fault's excuse", bill.wasted),
        Figure("R1", "  inputs embedded", bill.embedded),
        Figure("R1", "  distinct inputs", bill.distinct),
        Figure("R1", "  in flight at faults", bill.in_flight),
        *_recovery(watcher.victims, claimed),
        Figure("", "sources", len(owner.sources)),
        *(Figure("", f"blows: {kind}", count) for kind, count in sorted(executioner.counts.items())),
    ]
    return figures


def _work(made: World, owner: Owner, size: Size) -> None:
    """What the dashboard's users do, spread over the time of the faults."""
    dice = random.Random(f"users {size.seed}")
    kinds = ["site"] * max(2, size.sources // SOURCES_PER_SITE)
    kinds += dice.choices(list(KINDS), list(KINDS.values()), k=size.sources - len(kinds))
    began, done = time.monotonic(), 0
    for wave in range(WAVES):
        upto = min(size.sources, -(-size.sources * (wave + 1) * 3 // (2 * WAVES)))
        _queue_all(owner, [owner.create(kinds[number], number) for number in range(done, upto)])
        done = upto
        _disturb(owner, dice, max(1, size.sources // (4 * WAVES)))
        owner.press()
        time.sleep(max(0.0, began + size.seconds * (wave + 1) / WAVES - time.monotonic()))


def _queue_all(owner: Owner, created: list[Source]) -> None:
    by_org: dict[UUID, list[Source]] = {}
    for source in created:
        by_org.setdefault(source.client.org_id, []).append(source)
    for sources in by_org.values():
        owner.queue(sources)


def _disturb(owner: Owner, dice: random.Random, times: int) -> None:
    """Some sources are edited, some queued again as they are, few deleted."""
    for _ in range(times):
        living = list(owner.living())
        source = dice.choice(living)
        act = dice.random()
        if act < 0.55:
            owner.edit(source)
        elif act < 0.85 or len(living) < len(owner.sources) * 0.8:
            owner.queue([source])
        else:
            owner.delete(source)


def _settle(made: World, owner: Owner, last_fault: float) -> float:
    """Seconds from the last fault until no run is open; more than the limit when some still are then."""
    deadline = last_fault + SETTLE_S
    while time.monotonic() < deadline:
        wishes = owner.press()
        if not wishes and not insist(lambda: made.chat(OPEN_JOBS))[0]["n"]:
            return time.monotonic() - last_fault
        time.sleep(0.5)
    return time.monotonic() - last_fault + 1


def _verdict(made: World, owner: Owner) -> list[Figure]:
    _wait_until_told(made)
    dsn = made.described["chat_db_dsn"]
    ours = live_chunks(dsn)
    told = made.dashboard("SELECT id, status FROM training_sources WHERE deleted_at IS NULL")
    verdict = judge(ours, made.chat(JOBS), told, owner.sources)
    deleted = {source.source_id for source in owner.sources if source.deleted}
    made.say("read; now the truth")
    with truth(made) as truth_dsn:
        there = live_chunks(truth_dsn)
    compare({key: chunks for key, chunks in ours.items() if key not in deleted}, there, verdict)
    verdict.doubled += several_live(dsn)
    chunks = sum(map(len, there.values()))
    return [
        none_of("R1", "sources that lost a chunk", verdict.lost),
        none_of("R1", "sources with a chunk twice", verdict.doubled),
        none_of("R1", "sources with a chunk of an older state", verdict.mixed),
        none_of("R1", "sources that say not what they must", verdict.misread),
        none_of("R1", "sources stuck", verdict.stuck),
        none_of("R1", "deleted sources that answer", verdict.resurrected),
        none_of("R1", "sources quarantined", verdict.quarantined),
        none_of("R1", "sources failed", verdict.failed),
        none_of("R1", "sources of which the dashboard says another thing", verdict.untold),
        Figure("", "chunks compared with the truth's", chunks, "> 0", chunks > 0),
    ]


def _wait_until_told(made: World) -> None:
    """Until the dashboard's rows say what the runs say, or should by now."""
    deadline = time.monotonic() + TOLD_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if not made.dashboard(
                "SELECT 1 FROM training_sources WHERE deleted_at IS NULL AND status <> 'trained' LIMIT 1"
            ):
                return
        except AWAY:
            pass
        time.sleep(0.5)


def _recovery(victims: list[Victim], claimed: list[float]) -> list[Figure]:
    ended = [victim.ended_s for victim in victims if victim.ended_s is not None]
    lost = [victim for victim in victims if victim.claimed_s is None and not victim.dropped]
    return [
        Figure("R2", "tasks taken from their worker", len(victims)),
        none_of("R2", "  of them never claimed again", lost),
        Figure("R2", "  seconds until claimed again, p50", round(percentile(claimed, 0.5), 1)),
        at_most("R2", "  seconds until claimed again, p95", percentile(claimed, 0.95), RECOVER_S, " s"),
        Figure("R2", "  seconds until claimed again, max", round(max(claimed, default=0.0), 1)),
        Figure("R2", "  seconds until the run's end, p95", round(percentile(ended, 0.95), 1)),
    ]
