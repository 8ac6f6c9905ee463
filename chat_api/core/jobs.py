"""How a run is accepted: its row first, committed, and then the bell, which carries the run's id alone."""

from uuid import UUID

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import text

from chat_api.core.settings import Settings

TRAIN = "workers.jobs.train_due"
REDIS_LIMIT_S = 2.0
MAX_BELLS = 500
"""Waiting bells beyond which no more are rung: each has a worker train whatever is due, so more would only be heard late."""
log = structlog.get_logger(__name__)

REMEMBER_SOURCES = text("""
    INSERT INTO sources (org_id, bot_id, source_id)
    SELECT :org_id, bot_id, source_id
    FROM unnest(CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[])) AS given (bot_id, source_id)
    ORDER BY source_id, bot_id
    ON CONFLICT (org_id, bot_id, source_id) DO UPDATE SET deleted_at = NULL
    WHERE :revive AND sources.deleted_at IS NOT NULL
""")
"""Makes sources known and holds their rows, in one order for all; `revive` lifts tombstones: for a queue call alone."""

INSERT_RUNS = text("""
    INSERT INTO training_jobs AS job (job_id, org_id, bot_id, source_id, priority, force, request_id)
    SELECT job_id, :org_id, bot_id, source_id, :priority, :force, :request_id
    FROM unnest(CAST(:job_ids AS uuid[]), CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]))
         AS given (job_id, bot_id, source_id)
    JOIN sources USING (bot_id, source_id) WHERE sources.org_id = :org_id AND sources.deleted_at IS NULL
    ORDER BY source_id
    ON CONFLICT (org_id, source_id) WHERE status = 'waiting' DO UPDATE
    SET bot_id = excluded.bot_id, force = job.force OR excluded.force,
        priority = greatest(job.priority, excluded.priority)  -- 'interactive' is the greater word
    RETURNING job_id, source_id
""")
"""A waiting run for each source that has no tombstone: a new one, or the one it has, which then also serves this call."""


def connect_redis(settings: Settings, *, limit_s: float = REDIS_LIMIT_S) -> "Redis":
    """A client whose every answer is waited for `limit_s` seconds at most, twice; nothing connects yet."""
    return Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_connect_timeout=limit_s,
        socket_timeout=limit_s,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),  # a connection that Redis closed meanwhile
    )


def ring(redis: "Redis", queue_name: str, job_ids: list[UUID]) -> bool:
    """Wakes workers for committed runs; False when Redis is away, and the sweeper rings later.

    A bell is safe to lose and safe to ring twice: a worker that finds nothing due returns.
    """
    queue = Queue(queue_name, connection=redis, serializer=JSONSerializer)
    try:
        room = max(0, MAX_BELLS - queue.count)
        bells = [
            Queue.prepare_data(TRAIN, args=(str(job_id),), timeout=-1, result_ttl=0, failure_ttl=3600)
            for job_id in job_ids[:room]
        ]
        if bells:
            queue.enqueue_many(bells)
    except (RedisError, OSError) as error:
        log.warning("bell_not_rung", runs=len(job_ids), error=type(error).__name__)
        return False
    return True
