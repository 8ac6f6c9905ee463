"""What must happen though nobody asks: forgotten runs are rung, dead leases end, the dashboard is told.

One sweeper at a time, by a lease row that passes on when its holder dies or is stopped.
"""

import threading
from collections.abc import Callable
from uuid import UUID

import structlog
from redis import Redis
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from chat_api.core.database import Engines
from chat_api.core.errors import CrashedRepeatedly
from chat_api.core.jobs import ring
from workers.adopt import adopt_pending
from workers.dashboard import project_status
from workers.runs import expire_leases

EVERY_S = 5.0
LEASE_S = 15
RING_AGAIN_S = 30
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
    UPDATE training_jobs SET rung_at = now()
    WHERE job_id IN (SELECT job_id FROM training_jobs
                     WHERE status = 'waiting' AND run_after <= now()
                       AND (rung_at IS NULL OR rung_at < run_after OR rung_at < now() - make_interval(secs => :again_s))
                     ORDER BY created_at LIMIT 500 FOR UPDATE SKIP LOCKED)
    RETURNING job_id
""")


class Sweeper:
    """Sweeps every five seconds while it holds the lease; each duty stands alone, so that one failing stops no other."""

    def __init__(self, engines: Engines, redis: "Redis", queue_name: str, holder: str) -> None:
        self._engines, self._redis, self._queue_name, self._holder = engines, redis, queue_name, holder

    def run(self, ended: threading.Event) -> None:
        """Sweeps until `ended` is set."""
        while not ended.is_set():
            self.sweep()
            ended.wait(EVERY_S)

    def sweep(self) -> bool:
        """One round; False when another process holds the lease, or the chat database is away."""
        try:
            if not self._take_lease():
                return False
        except SQLAlchemyError as error:
            log.warning("sweep_skipped", error=type(error).__name__)
            return False
        duties: list[Callable[[], object]] = [
            self.expire, self.adopt, self.ring_due, self.project, self.collect, self.note_sweep
        ]  # fmt: skip
        for duty in duties:
            self._attempt(duty)
        return True

    def _take_lease(self) -> bool:
        with self._engines.chat.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            return bool(connection.execute(TAKE_LEASE, {"holder": self._holder, "lease_s": LEASE_S}).scalar())

    def _attempt(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except SQLAlchemyError as error:
            log.warning("sweep_duty_failed", duty=duty.__name__, error=type(error).__name__)

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
        with self._engines.chat.begin() as connection:
            due: list[UUID] = list(connection.execute(DUE, {"again_s": RING_AGAIN_S}).scalars())
            if due and not ring(self._redis, self._queue_name, due):
                connection.rollback()

    def project(self) -> None:
        """Tells the dashboard what it has not been told."""
        project_status(self._engines.chat, self._engines.dashboard)

    def collect(self) -> None:
        """Removes what no reader can see any more, a bounded number of rows at a time."""
        with self._engines.chat.begin() as connection:
            collect_discarded(connection)

    def note_sweep(self) -> None:
        """Records that a sweep came to its end; `/readyz` reads it."""
        with self._engines.chat.begin() as connection:
            connection.execute(SWEPT, {"holder": self._holder})


DISCARDED = text("""
    SELECT org_id, bot_id, source_id, generation FROM generations WHERE state = 'discarded' LIMIT 1
    FOR UPDATE SKIP LOCKED
""")


def collect_discarded(connection: Connection) -> int:
    """Removes up to 20,000 rows of one discarded generation; how many were removed."""
    key = connection.execute(DISCARDED).mappings().one_or_none()
    if key is None:
        return 0
    removed = 0
    where = "org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = :generation"
    for table in ("embeddings", "chunks", "documents", "pages"):
        some = text(
            f"DELETE FROM {table} WHERE {where} AND ctid = ANY (ARRAY("  # noqa: S608  # names are this module's own
            f"SELECT ctid FROM {table} WHERE {where} LIMIT :limit))"
        )
        removed += connection.execute(some, {**key, "limit": COLLECT_AT_ONCE - removed}).rowcount
        if removed >= COLLECT_AT_ONCE:
            return removed
    connection.execute(text(f"DELETE FROM generations WHERE {where}"), dict(key))  # noqa: S608
    return removed
