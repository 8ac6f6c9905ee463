"""What must happen though nobody asks: forgotten tasks are rung, dead leases end, the dashboard is told.

One sweeper at a time, by a lease row that passes on when its holder dies or is stopped.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from redis import Redis
from sqlalchemy import Connection, text

from chat_api.core.database import DATABASE_DOWN, Engines, say_org
from chat_api.core.jobs import ring
from chat_api.core.keys import OF_GENERATION
from chat_api.core.settings import Settings
from workers.dashboard import project_all
from workers.metrics import LEASES_EXPIRED, EndedRuns
from workers.quantize import Quantizer
from workers.reconcile.reconciler import Reconciler
from workers.reconcile.refresh import Refresher
from workers.retention import Retention
from workers.spaces import tend_spaces
from workers.store.failed import LEDGER, keep_ledger, let_ledgers_go
from workers.tasks.expiry import end_leases, expire_leases

EVERY_S = 5.0
WAKE_S = 0.5
LEASE_S = 15
RING_AGAIN_S = 30
DUTY_S = 5.0
"""How long one sweep may tell or collect what has piled up."""
COLLECT_AT_ONCE = 20_000
PRUNE_EVERY_S = 3600.0
PRUNED_AT_ONCE = 2_000
log = structlog.get_logger(__name__)

TAKE_LEASE = text("""
    INSERT INTO leases AS lease (name, holder, expires_at)
    VALUES ('sweeper', :holder, now() + make_interval(secs => :lease_s))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE lease.holder = excluded.holder OR lease.expires_at < now()
    RETURNING true
""")
SWEPT = text("UPDATE leases SET swept_at = now() WHERE name = 'sweeper'")
DUE = text("""
    SELECT task_id, coalesce(CAST(job_id AS text), 'task:' || task_id) AS name FROM training_tasks
    WHERE status = 'waiting' AND run_after <= now()
      AND (rung_at IS NULL OR rung_at < run_after OR rung_at < now() - make_interval(secs => :again_s))
    ORDER BY priority DESC, org_id, run_after, task_id LIMIT 500
""")
RUNG = text("UPDATE training_tasks SET rung_at = now() WHERE task_id = ANY (:task_ids) AND status = 'waiting'")
NOT_RUNG = text("UPDATE training_tasks SET rung_at = NULL WHERE task_id = ANY (:task_ids) AND status = 'waiting'")


class Sweeper:
    """Sweeps every five seconds while it holds the lease; each duty stands alone, so that one failing stops no other."""

    def __init__(self, engines: Engines, redis: "Redis", settings: Settings, holder: str) -> None:
        self._engines, self._redis, self._settings, self._holder = engines, redis, settings, holder
        self._prune_at = time.monotonic()
        self._dead: list[str] = []
        self._woken = threading.Event()
        self._reconciler, self._ended_runs = Reconciler(engines), EndedRuns(engines.chat)
        self._quantizer = Quantizer(engines.chat)
        self._refresher = Refresher(engines, settings.refresh_runs_per_org)
        self._retention = Retention(
            engines.chat,
            conversation_days=settings.conversation_retention_days,
            journal_hours=settings.journal_retention_h,
        )

    def run(self, ended: threading.Event) -> None:
        """Sweeps until `ended` is set."""
        while not ended.is_set():
            self._attempt(self.bury)
            self._attempt(self.sweep)
            until = time.monotonic() + EVERY_S
            while time.monotonic() < until and not self._woken.is_set() and not ended.wait(WAKE_S):
                pass
            self._woken.clear()

    def note_death(self, holder: str) -> None:
        """Has the process's tasks taken from it at the next round, which is soon."""
        self._dead.append(holder)
        self._woken.set()

    def bury(self) -> None:
        """Ends the leases of processes of this pool that died, whoever sweeps."""
        if holders := self._dead.copy():
            with self._engines.chat.begin() as connection:
                end_leases(connection, holders)
            del self._dead[: len(holders)]

    def sweep(self) -> bool:
        """One round; False when another process holds the lease. A long one keeps it, as no duty takes long."""
        if not self.take_lease():
            self._ended_runs.forget()
            return False
        duties: list[Callable[[], object]] = [
            self.expire, self._reconciler.reconcile, self._refresher.refresh, self.ring_due, self.project, self.collect,
            self.tend_spaces, self._quantizer.quantize, self.prune, self._retention.collect, self._ended_runs.count,
            self.note_sweep,
        ]  # fmt: skip
        for duty in duties:
            self._attempt(duty)
            self._attempt(self.take_lease)
        return True

    def take_lease(self) -> bool:
        """Takes the lease, or keeps it; False when another process holds it."""
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
        """Takes tasks from workers that died."""
        with self._engines.chat.begin() as connection:
            expired = expire_leases(connection)
        LEASES_EXPIRED.inc(len(expired))
        for row in expired:
            log.warning(
                "lease_expired", task_id=row.task_id, job_id=str(row.job_id), kind=row.kind, verdict=row.verdict,
                crashes=row.crash_count, now=row.status,
            )  # fmt: skip

    def ring_due(self) -> None:
        """Rings for tasks that are due and were not rung lately."""
        # Noted before: a worker that a bell has woken passes by rows that are held in that moment.
        with self._engines.chat.begin() as connection:
            due = connection.execute(DUE, {"again_s": RING_AGAIN_S}).all()
            task_ids = {"task_ids": [row.task_id for row in due]}
            connection.execute(RUNG, task_ids)
        if due and not ring(self._redis, self._settings.queue_name, [row.name for row in due]):
            with self._engines.chat.begin() as connection:
                connection.execute(NOT_RUNG, task_ids)

    def project(self) -> None:
        """Tells the dashboard what it has not been told."""
        project_all(self._engines.chat, self._engines.dashboard, DUTY_S)

    def collect(self) -> None:
        """Removes what no reader can see any more, a bounded number of rows at a time."""
        with self._engines.chat.begin() as connection:
            connection.execute(GIVE_UP_BUILDS)
            connection.execute(GIVE_UP_TASKS)
        left, until = COLLECT_AT_ONCE, time.monotonic() + DUTY_S
        while left > 0 and time.monotonic() < until:
            with self._engines.chat.begin() as connection:
                removed = collect_discarded(connection, left)
            if removed is None:
                return
            left -= removed

    def prune(self) -> None:
        """Removes runs that were over long ago, and lets ledgers of failed ones go, once an hour."""
        until = time.monotonic() + DUTY_S
        removed = PRUNED_AT_ONCE
        while removed == PRUNED_AT_ONCE and self._prune_at <= time.monotonic() < until:
            with self._engines.chat.begin() as connection:
                values = {"days": self._settings.job_retention_days, "limit": PRUNED_AT_ONCE}
                gone = let_ledgers_go(connection, **values), connection.execute(PRUNE, values).rowcount
                removed = max(gone)
        if removed < PRUNED_AT_ONCE:
            self._prune_at = time.monotonic() + PRUNE_EVERY_S

    def tend_spaces(self) -> None:
        """Switches bots that are whole in their next embedding space, and removes vectors that nobody reads."""
        tend_spaces(self._engines.chat)

    def note_sweep(self) -> None:
        """Records that a sweep came to its end, whoever holds the lease by now; `/readyz` reads it."""
        with self._engines.chat.begin() as connection:
            connection.execute(SWEPT)


RUNLESS = """
    state = 'building' AND NOT EXISTS (SELECT FROM training_jobs AS job WHERE job.job_id = generations.job_id
                                       AND job.status IN ('waiting', 'running'))
"""
GIVE_UP_BUILDS = text(f"UPDATE generations SET state = 'discarded' WHERE {RUNLESS}")  # noqa: S608  # the part is our own
# What a crawl made in the moment in which its run was ended.
GIVE_UP_TASKS = text("""
    DELETE FROM training_tasks WHERE task_id IN (
        SELECT task_id FROM training_tasks AS task JOIN training_jobs AS job USING (job_id)
        WHERE kind IN ('pages', 'finish') AND job.status NOT IN ('waiting', 'running')
        ORDER BY task_id FOR UPDATE OF task SKIP LOCKED)
""")
PRUNE = text("""
    DELETE FROM training_jobs WHERE job_id = ANY (ARRAY(
        SELECT job_id FROM training_jobs AS job WHERE finished_at < now() - make_interval(days => :days)
        AND EXISTS (SELECT FROM training_jobs AS newer WHERE newer.org_id = job.org_id AND newer.bot_id = job.bot_id
                    AND newer.source_id = job.source_id AND newer.created_at > job.created_at)
        LIMIT :limit))
""")
DISCARDED = text(f"""
    SELECT org_id, bot_id, source_id, generation FROM generations
    WHERE state = 'discarded' AND held_by IS DISTINCT FROM '{LEDGER}' LIMIT 1
    FOR UPDATE SKIP LOCKED
""")  # noqa: S608  # a word of our own


def collect_discarded(connection: Connection, limit: int) -> int | None:
    """Removes up to `limit` rows of one discarded generation; how many were removed, None if there is none.

    What a source's failed run has met stays while that is the newest that is known of it.
    """
    found = connection.execute(DISCARDED).mappings().one_or_none()
    if found is None:
        return None
    key = dict(found)
    say_org(connection, key["org_id"])
    removed = 0
    for table in ("quantized_embeddings", "embeddings", "chunks", "documents", "pages"):
        if table == "pages" and keep_ledger(connection, key):
            return removed
        values: dict[str, Any] = {**key, "limit": limit - removed}
        some = text(
            f"DELETE FROM {table} WHERE {OF_GENERATION} AND ctid = ANY (ARRAY("  # noqa: S608  # the names are our own
            f"SELECT ctid FROM {table} WHERE {OF_GENERATION} LIMIT :limit))"
        )
        removed += connection.execute(some, values).rowcount
        if removed >= limit:
            return removed
    connection.execute(text(f"DELETE FROM generations WHERE {OF_GENERATION}"), key)  # noqa: S608
    return removed
