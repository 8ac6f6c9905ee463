"""Trains sources again when their `options.refresh` says that it is time."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from chat_api.core.database import Engines
from chat_api.core.jobs import is_small
from workers.reconcile.queueing import Wanted, queue_runs

EVERY_S = 60.0
PAGE = 10_000
PERIOD_S = {"daily": 86_400, "weekly": 7 * 86_400, "monthly": 30 * 86_400}
JITTER = 0.1
REFRESH = "refresh"
"""The request id of refreshes, by which they are known; a caller's has eight characters at least."""
FIRST = UUID(int=0)

SCHEDULED = text("""
    SELECT source.id AS source_id, source.org_id, source.bot_id, source.type, file.size_bytes,
           source.options ->> 'refresh' AS refresh
    FROM training_sources AS source JOIN bots AS bot ON bot.id = source.bot_id AND bot.org_id = source.org_id
    LEFT JOIN files AS file ON file.id = source.file_id AND file.org_id = source.org_id
    WHERE source.id > :after AND source.options ->> 'refresh' = ANY (:names)
      AND source.deleted_at IS NULL AND bot.deleted_at IS NULL
    ORDER BY source.id LIMIT :page
""")
# A run that failed for good, or was cancelled, is as good as a training: the next one is due a period later. One that
# gave up on something passing is tried again after an hour, and one that found the month's pages used up in the next month.
DUE = text("""
    WITH active AS (
        SELECT org_id, count(*) AS runs FROM training_jobs
        WHERE status IN ('waiting', 'running') AND request_id = :refresh GROUP BY org_id
    ), due AS (
        SELECT source_id, org_id, row_number() OVER (PARTITION BY org_id ORDER BY live.switched_at, source_id) AS place
        FROM unnest(CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]),
                    CAST(:periods AS float8[])) AS given (org_id, bot_id, source_id, period_s)
        JOIN sources AS source USING (org_id, bot_id, source_id)
        JOIN generations AS live USING (org_id, bot_id, source_id)
        JOIN LATERAL (SELECT status, error_code, error_retryable, finished_at FROM training_jobs AS job
                      WHERE (job.org_id, job.bot_id, job.source_id) = (given.org_id, given.bot_id, given.source_id)
                      ORDER BY created_at DESC LIMIT 1) AS newest ON true
        WHERE live.generation = source.live_generation AND source.deleted_at IS NULL
          AND source.pinned_version IS NULL AND source.removal_held_at IS NULL
          AND live.switched_at < now() - make_interval(secs => period_s)
          AND (newest.error_code = 'quota_exceeded'
               AND newest.finished_at < date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
               OR newest.finished_at < now() - CASE
                   WHEN newest.status = 'succeeded' THEN interval '0'
                   WHEN newest.status = 'failed' AND newest.error_retryable THEN interval '1 hour'
                   ELSE make_interval(secs => period_s) END)
          AND NOT EXISTS (SELECT FROM training_jobs AS job WHERE job.org_id = given.org_id
                          AND job.source_id = given.source_id AND job.status IN ('waiting', 'running'))
    )
    SELECT source_id, org_id, place <= :at_once - coalesce(active.runs, 0) AS has_room
    FROM due LEFT JOIN active USING (org_id) WHERE place <= :at_once
""")


class Refresher:
    """Looks at one page of the dashboard's scheduled sources at a time; a minute after a round in which none was due."""

    def __init__(self, engines: Engines, runs_per_org: int) -> None:
        self._engines, self._runs_per_org = engines, runs_per_org
        self._after, self._looked_at = FIRST, -EVERY_S
        self._page, self._any_due, self._turns = 0, False, Turns()

    def refresh(self) -> int:
        """Queues what is due as bulk runs, so many of an org at once as it may have; how many."""
        if time.monotonic() - self._looked_at < EVERY_S:
            return 0
        if self._after == FIRST:
            self._page, self._any_due = 0, False
        scheduled = self._scheduled()
        due = self._due(scheduled)
        chosen = self._turns.choose(self._page, due)
        self._page, self._any_due = self._page + 1, self._any_due or bool(due)
        if self._after == FIRST:
            self._turns.end_round(self._page)
            if not self._any_due:
                self._looked_at = time.monotonic()
        wanted = [_wanted(row) for row in scheduled if row.source_id in chosen]
        return len(queue_runs(self._engines.chat, wanted, request_id=REFRESH))

    def _due(self, scheduled: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
        """Those that are due: the stalest of each org, and whether it may have a run more for it."""
        values = {
            "org_ids": [row.org_id for row in scheduled],
            "bot_ids": [row.bot_id for row in scheduled],
            "source_ids": [row.source_id for row in scheduled],
            "periods": [period_s(row.source_id, row.refresh) for row in scheduled],
            "refresh": REFRESH,
            "at_once": self._runs_per_org,
        }
        with self._engines.chat.connect() as connection:
            return connection.execute(DUE, values).all()

    def _scheduled(self) -> Sequence[Row[Any]]:
        values = {"after": self._after, "names": list(PERIOD_S), "page": PAGE}
        with self._engines.dashboard.connect() as connection:
            found = connection.execute(SCHEDULED, values).all()
        self._after = found[-1].source_id if len(found) == PAGE else FIRST
        return found


class Turns:
    """Whose turn it is among the pages, for each org: none is served again while one waits that was not."""

    def __init__(self) -> None:
        self._waiting: defaultdict[UUID, set[int]] = defaultdict(set)
        self._served: defaultdict[UUID, set[int]] = defaultdict(set)

    def choose(self, page: int, due: Sequence[Row[Any]]) -> set[UUID]:
        """Those of the page's due sources (source_id, org_id, has_room) that are to be trained now."""
        with_room: dict[UUID, set[UUID]] = {row.org_id: set() for row in due}
        for row in due:
            if row.has_room:
                with_room[row.org_id].add(row.source_id)
        for org_id, pages in self._waiting.items():
            if org_id not in with_room:
                pages.discard(page)
        served = (some for org_id, some in with_room.items() if self._serves(org_id, page, has_room=bool(some)))
        return set().union(*served)

    def _serves(self, org_id: UUID, page: int, *, has_room: bool) -> bool:
        waiting, served = self._waiting[org_id], self._served[org_id]
        waiting.add(page)
        if waiting <= served:
            served.clear()
        if not has_room or page in served:
            return False
        waiting.remove(page)
        served.add(page)
        return True

    def end_round(self, pages: int) -> None:
        """Forgets pages that are no longer there, and orgs for which none waits."""
        for org_id in list(self._served):
            self._waiting[org_id] &= set(range(pages))
            if not self._waiting[org_id]:
                del self._waiting[org_id], self._served[org_id]


def period_s(source_id: UUID, refresh: str) -> float:
    """Seconds between two trainings of a source: its period give or take a tenth, always the same for one source."""
    spread = int.from_bytes(hashlib.sha256(source_id.bytes).digest()[:4]) / 2**32
    return PERIOD_S[refresh] * (1 - JITTER + 2 * JITTER * spread)


def _wanted(row: Row[Any]) -> Wanted:
    return Wanted(row.org_id, row.bot_id, row.source_id, row.type, is_small(row.type, row.size_bytes))
