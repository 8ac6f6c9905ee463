"""What must happen though nobody asks: forgotten runs are rung, dead leases end, the dashboard is told.

One sweeper at a time, by a lease row that passes on when its holder dies or is stopped.
"""

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from redis import Redis
from sqlalchemy import Connection, text

from chat_api.core.database import DATABASE_DOWN, Engines
from chat_api.core.errors import CrashedRepeatedly
from chat_api.core.jobs import ring
from workers.adopt import adopt_pending
from workers.dashboard import TOLD_AT_ONCE, project_status
from workers.runs import expire_leases

EVERY_S = 5.0
LEASE_S = 15
RING_AGAIN_S = 30
DUTY_S = 5.0
"""How long one sweep may tell or collect what has piled up."""
COLLECT_AT_ONCE = 20_000
log = structlog.get_logger(__name__)

TAKE_LEASE = text("""
    INSERT INTO leases AS lease (name, holder, expires_at)
    VALUES ('sweeper', :holder, now() + make_interval(secs => :lease_s))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE lease.holder = excluded.holder OR lease.expires_at < now()
    RETURNING true
""")
SWEPT = text("UPDATE leases SET swept_at = now() WHERE name = 'sweeper' AND holder = :holder")
DUE = text("""
    SELECT job_id FROM training_jobs
    WHERE status = 'waiting' AND run_after <= now()
      AND (rung_at IS NULL OR rung_at < run_after OR rung_at < now() - make_interval(secs => :again_s))
    ORDER BY priority DESC, created_at LIMIT 500
""")
RUNG = text("UPDATE training_jobs SET rung_at = now() WHERE job_id = ANY (:job_ids) AND status = 'waiting'")


class Sweeper:
    """Sweeps every five seconds while it holds the lease; each duty stands alone, so that one failing stops no other."""

    def __init__(self, engines: Engines, redis: "Redis", queue_name: str, holder: str) -> None:
        self._engines, self._redis, self._queue_name, self._holder = engines, redis, queue_name, holder

    def run(self, ended: threading.Event) -> None:
        """Sweeps until `ended` is set."""
        while not ended.is_set():
            self._attempt(self.sweep)
            ended.wait(EVERY_S)

    def sweep(self) -> bool:
        """One round; False when another process holds the lease."""
        if not self._take_lease():
            return False
        duties: list[Callable[[], object]] = [
            self.expire, self.adopt, self.ring_due, self.project, self.collect, self.note_sweep
        ]  # fmt: skip
        for duty in duties:
            self._attempt(duty)
        return True

    def _take_lease(self) -> bool:
        with self._engines.chat.begin() as connection:
            return bool(connection.execute(TAKE_LEASE, {"holder": self._holder, "lease_s": LEASE_S}).scalar())

    def _attempt(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except DATABASE_DOWN as error:
            log.warning("sweep_failed", duty=duty.__name__, error=type(error).__name__)
        except Exception:  # the edge of a duty: the others, and the next sweep, must go on
            log.exception("sweep_broke", duty=duty.__name__)

    def expire(self) -> None:
        """Takes runs from workers that died."""
        with self._engines.chat.begin() as connection:
            expired = expire_leases(connection, code=CrashedRepeatedly.code, message=CrashedRepeatedly().message)
        for row in expired:
            log.warning(
                "lease_expired", job_id=str(row.job_id), stage=row.stage, crashes=row.crash_count, now=row.status
            )

    def adopt(self) -> None:
        """Queues the dashboard's pending rows that nobody queued."""
        adopt_pending(self._engines)

    def ring_due(self) -> None:
        """Rings for runs that are due and were not rung lately."""
        with self._engines.chat.connect() as connection:
            due: list[UUID] = list(connection.execute(DUE, {"again_s": RING_AGAIN_S}).scalars())
        # The rows are not held meanwhile: a worker could not claim them.
        if due and ring(self._redis, self._queue_name, due):
            with self._engines.chat.begin() as connection:
                connection.execute(RUNG, {"job_ids": due})

    def project(self) -> None:
        """Tells the dashboard what it has not been told."""
        until = time.monotonic() + DUTY_S
        while project_status(self._engines.chat, self._engines.dashboard) == TOLD_AT_ONCE and time.monotonic() < until:
            pass

    def collect(self) -> None:
        """Removes what no reader can see any more, a bounded number of rows at a time."""
        with self._engines.chat.begin() as connection:
            connection.execute(GIVE_UP_BUILDS)
        left, until = COLLECT_AT_ONCE, time.monotonic() + DUTY_S
        while left > 0 and time.monotonic() < until:
            with self._engines.chat.begin() as connection:
                removed = collect_discarded(connection, left)
            if removed is None:
                return
            left -= removed

    def note_sweep(self) -> None:
        """Records that a sweep came to its end; `/readyz` reads it."""
        with self._engines.chat.begin() as connection:
            connection.execute(SWEPT, {"holder": self._holder})


GENERATION = "org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = :generation"
GIVE_UP_BUILDS = text("""
    UPDATE generations SET state = 'discarded'
    WHERE state = 'building' AND NOT EXISTS (SELECT FROM training_jobs AS job WHERE job.job_id = generations.job_id
                                             AND job.status IN ('waiting', 'running'))
""")
DISCARDED = text("""
    SELECT org_id, bot_id, source_id, generation FROM generations WHERE state = 'discarded' LIMIT 1
    FOR UPDATE SKIP LOCKED
""")


def collect_discarded(connection: Connection, limit: int) -> int | None:
    """Removes up to `limit` rows of one discarded generation; how many were removed, None if there is none."""
    key = connection.execute(DISCARDED).mappings().one_or_none()
    if key is None:
        return None
    removed = 0
    for table in ("embeddings", "chunks", "documents", "pages"):
        values: dict[str, Any] = {**key, "limit": limit - removed}
        some = text(
            f"DELETE FROM {table} WHERE {GENERATION} AND ctid = ANY (ARRAY("  # noqa: S608  # names are this module's own
            f"SELECT ctid FROM {table} WHERE {GENERATION} LIMIT :limit))"
        )
        removed += connection.execute(some, values).rowcount
        if removed >= limit:
            return removed
    connection.execute(text(f"DELETE FROM generations WHERE {GENERATION}"), dict(key))  # noqa: S608
    return removed
