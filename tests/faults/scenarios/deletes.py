"""R6: sources are deleted, or their runs cancelled, at random moments; the wish wins, at once and for good."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

import httpx2

from tests.faults.report import Figure, at_most, none_of, percentile
from tests.faults.size import Size
from tests.faults.sources import Owner, Source
from tests.faults.sources import run as execute
from tests.faults.world import World, insist, until, world

AT_ONCE, LATENCY_MS = 12, 300
LONGEST_MOMENT_S, TERMINAL_S = 3.0, 10.0
KINDS = {"text": 5, "md": 3, "url": 3, "qa": 2, "site": 1}
COLLECTED_S = 90.0
LIVING = """
    SELECT source.source_id, source.live_generation, chunk.chunk_id FROM sources AS source
    LEFT JOIN chunks AS chunk ON (chunk.org_id, chunk.bot_id, chunk.source_id)
        = (source.org_id, source.bot_id, source.source_id)
    WHERE source.source_id = ANY (%s) AND (chunk.chunk_id IS NOT NULL OR source.live_generation IS NOT NULL)
"""
# A row's times are those at which its transaction began, a tombstone's too: only what began after the answer is late.
LATER = """
    SELECT source_id FROM training_jobs AS job JOIN sources USING (org_id, bot_id, source_id)
    JOIN unnest(%s::uuid[], %s::timestamptz[]) AS wish (source_id, answered_at) USING (source_id)
    WHERE sources.deleted_at IS NULL OR job.created_at > answered_at
       OR job.finished_at > answered_at AND job.status = 'succeeded'
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One wish: what it was, when it was granted, and seconds until its run was over (None: it was not)."""

    source: Source
    wish: str
    answered_at: datetime
    seconds: float | None
    status: str


def run(size: Size, broken: str = "") -> list[Figure]:
    """The figures of so many trials."""
    with world(size, broken=broken) as made, ThreadPoolExecutor(AT_ONCE) as pool:
        made.provider.controls.latency_ms = LATENCY_MS
        owner, dice, one_at_a_time = Owner(made), random.Random(f"deletes {size.seed}"), Lock()

        def attempt(number: int, kind: str, wish: str, moment: float) -> Trial:
            with one_at_a_time:  # and not all at first: a source that waits for a minute is trained unasked
                source = owner.create(kind, number)
            return _try(made, owner, source, wish, moment)

        kinds = dice.choices(list(KINDS), list(KINDS.values()), k=size.trials)
        wishes = dice.choices(("delete", "forget", "cancel"), k=size.trials)
        trials = list(pool.map(attempt, range(size.trials), kinds, wishes, (dice.random() for _ in kinds)))
        made.provider.controls.latency_ms = 0
        return _figures(made, trials)


def _try(made: World, owner: Owner, source: Source, wish: str, moment: float) -> Trial:
    owner.queue([source])
    time.sleep(moment * LONGEST_MOMENT_S)
    if wish == "forget":
        # The dashboard's row stays, pending and old: whoever looks for forgotten sources finds it.
        age = "UPDATE training_sources SET created_at = now() - interval '1 day', updated_at = created_at WHERE id = %s"
        insist(lambda: execute(source.client, age, source.source_id))
    if wish == "cancel":
        insist(lambda: _cancel(made, source))
    elif wish == "forget":
        insist(lambda: _call(source, "DELETE", f"/api/training/delete/{source.source_id}"))
        source.deleted = True
    else:
        owner.delete(source)
    began, answered_at = time.monotonic(), datetime.now(UTC)
    until(lambda: _status(made, source) not in {"waiting", "running"}, TERMINAL_S + 5)
    status = _status(made, source)
    over = status not in {"waiting", "running"}
    return Trial(source, wish, answered_at, time.monotonic() - began if over else None, status)


def _status(made: World, source: Source) -> str:
    rows = insist(
        lambda: made.chat(
            "SELECT status FROM training_jobs WHERE source_id = %s ORDER BY created_at DESC LIMIT 1", source.source_id
        )
    )
    return str(rows[0]["status"]) if rows else "none"


def _cancel(made: World, source: Source) -> None:
    for row in made.chat("SELECT job_id FROM training_jobs WHERE source_id = %s", source.source_id):
        _call(source, "POST", f"/api/training/jobs/{row['job_id']}/cancel")


def _call(source: Source, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {source.client.sign_token('training:write training:read')}"}
    address = source.client.stack["api_url"] + path
    httpx2.request(method, address, headers=headers, timeout=15, trust_env=False).raise_for_status()


def _figures(made: World, trials: Sequence[Trial]) -> list[Figure]:
    buried = {trial.source.source_id: trial.answered_at for trial in trials if trial.wish != "cancel"}
    deleted = list(buried)
    cancelled = [one.source.source_id for one in trials if (one.wish, one.status) == ("cancel", "cancelled")]
    gone = deleted + cancelled
    until(lambda: not made.chat(LIVING, gone), COLLECTED_S)
    alive = made.chat(LIVING, gone)
    times = [trial.seconds for trial in trials if trial.seconds is not None]
    return [
        Figure("R6", "trials", len(trials)),
        Figure("R6", "  of them deleted, cancelled in time", f"{len(deleted)}, {len(cancelled)}"),
        none_of("R6", "runs not over after the wish", [trial for trial in trials if trial.seconds is None]),
        at_most("R6", "seconds until a run was over, max", max(times, default=0.0), TERMINAL_S, " s"),
        Figure("R6", "  p95", round(percentile(times, 0.95), 2)),
        none_of("R6", "chunks alive", [row for row in alive if row["chunk_id"]]),
        none_of("R6", "sources that answer again", [row for row in alive if row["live_generation"]]),
        none_of("R6", "deleted sources trained again", made.chat(LATER, deleted, list(buried.values()))),
    ]
