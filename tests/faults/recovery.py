"""Watches the tasks that a fault took from their workers: how long until they are claimed again, and until their end."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.faults.world import AWAY, World

EVERY_S = 0.25
OVER = ("succeeded", "failed", "cancelled", "quarantined")


@dataclass(slots=True)
class Victim:
    """A task under way in a worker when the fault came; `claimed_s` and `ended_s` count from then."""

    task_id: int
    job_id: UUID | None
    fence: int
    at: float
    claimed_s: float | None = None
    ended_s: float | None = None
    dropped: bool = False
    """Its owner cancelled or deleted it meanwhile."""


class Watcher:
    """Looks at the victims' rows four times a second, in a thread of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.victims: list[Victim] = []

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def held_by(self, pids: Sequence[int]) -> list[Victim]:
        """The tasks that these processes hold now; none while the database is away."""
        found = "SELECT task_id, job_id, fence, lease_holder FROM training_tasks WHERE status = 'running'"
        try:
            rows = self._world.chat(found)
        except AWAY:
            return []
        ours = {str(pid) for pid in pids}
        now = time.monotonic()
        return [
            Victim(row["task_id"], row["job_id"], row["fence"], now)
            for row in rows
            if ours & set(str(row["lease_holder"]).split(":"))
        ]

    def watch(self, victims: Sequence[Victim]) -> None:
        """Follow these from now on."""
        self.victims.extend(victims)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            open_ones = [victim for victim in self.victims if victim.ended_s is None and not victim.dropped]
            try:
                self._look(open_ones)
            except AWAY:
                continue

    def _look(self, open_ones: Sequence[Victim]) -> None:
        if not open_ones:
            return
        tasks = self._world.chat(
            "SELECT task_id, fence, status FROM training_tasks WHERE task_id = ANY (%s)",
            [victim.task_id for victim in open_ones],
        )
        jobs = self._world.chat(
            "SELECT job_id, status FROM training_jobs WHERE job_id = ANY (%s)", [victim.job_id for victim in open_ones]
        )
        by_task = {row["task_id"]: row for row in tasks}
        by_job = {row["job_id"]: row["status"] for row in jobs}
        for victim in open_ones:
            _note(victim, by_task.get(victim.task_id), by_job.get(victim.job_id or UUID(int=0)))


def _note(victim: Victim, task: dict[str, Any] | None, job_status: str | None) -> None:
    seconds = time.monotonic() - victim.at
    claimed = task is None or task["fence"] not in {victim.fence, None}
    over = job_status is None or job_status in OVER
    if over and victim.claimed_s is None and job_status in {None, "cancelled"}:
        victim.dropped = True
        return
    if victim.claimed_s is None and (claimed or over):
        victim.claimed_s = seconds
    if over:
        victim.ended_s = seconds
