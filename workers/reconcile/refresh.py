"""Trains sources again when their `options.refresh` says that it is time."""

import hashlib
import time
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
# gave up on something passing is tried again after an hour.
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
        JOIN LATERAL (SELECT status, error_retryable, finished_at FROM training_jobs AS job
                      WHERE (job.org_id, job.bot_id, job.source_id) = (given.org_id, given.bot_id, given.source_id)
                      ORDER BY created_at DESC LIMIT 1) AS newest ON true
        WHERE live.generation = source.live_generation AND source.deleted_at IS NULL
          AND source.pinned_version IS NULL AND source.removal_held_at IS NULL
          AND live.switched_at < now() - make_interval(secs => period_s)
          AND newest.finished_at < now() - CASE
              WHEN newest.status = 'succeeded' THEN interval '0'
              WHEN newest.status = 'failed' AND newest.error_retryable THEN interval '1 hour'
              ELSE make_interval(secs => period_s) END
          AND NOT EXISTS (SELECT FROM training_jobs AS job WHERE job.org_id = given.org_id
                          AND job.source_id = given.source_id AND job.status IN ('waiting', 'running'))
    )
    SELECT source_id FROM due LEFT JOIN active USING (org_id) WHERE place <= :at_once - coalesce(active.runs, 0)
""")


class Refresher:
    """Looks once a minute, one page of the dashboard's scheduled sources at a time."""

    def __init__(self, engines: Engines, runs_per_org: int) -> None:
        self._engines, self._runs_per_org = engines, runs_per_org
        self._after, self._looked_at = FIRST, -EVERY_S

    def refresh(self) -> int:
        """Queues what is due as bulk runs, so many of an org at once as it may have; how many."""
        if self._after == FIRST:
            if time.monotonic() - self._looked_at < EVERY_S:
                return 0
            self._looked_at = time.monotonic()
        scheduled = self._scheduled()
        if not scheduled:
            return 0
        values = {
            "org_ids": [row.org_id for row in scheduled],
            "bot_ids": [row.bot_id for row in scheduled],
            "source_ids": [row.source_id for row in scheduled],
            "periods": [period_s(row.source_id, row.refresh) for row in scheduled],
            "refresh": REFRESH,
            "at_once": self._runs_per_org,
        }
        with self._engines.chat.connect() as connection:
            due = set(connection.execute(DUE, values).scalars())
        wanted = [_wanted(row) for row in scheduled if row.source_id in due]
        return len(queue_runs(self._engines.chat, wanted, request_id=REFRESH))

    def _scheduled(self) -> Sequence[Row[Any]]:
        values = {"after": self._after, "names": list(PERIOD_S), "page": PAGE}
        with self._engines.dashboard.connect() as connection:
            found = connection.execute(SCHEDULED, values).all()
        self._after = found[-1].source_id if len(found) == PAGE else FIRST
        return found


def period_s(source_id: UUID, refresh: str) -> float:
    """Seconds between two trainings of a source: its period give or take a tenth, always the same for one source."""
    spread = int.from_bytes(hashlib.sha256(source_id.bytes).digest()[:4]) / 2**32
    return PERIOD_S[refresh] * (1 - JITTER + 2 * JITTER * spread)


def _wanted(row: Row[Any]) -> Wanted:
    return Wanted(row.org_id, row.bot_id, row.source_id, row.type, is_small(row.type, row.size_bytes))
