"""How a run is accepted: its row first, committed, and then the bell, which carries the run's id alone."""

from uuid import UUID

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import text

TRAIN = "workers.jobs.train_due"
log = structlog.get_logger(__name__)

REMEMBER_SOURCES = text("""
    INSERT INTO sources (org_id, bot_id, source_id)
    SELECT :org_id, bot_id, source_id FROM unnest(CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[])) AS given (bot_id, source_id)
    ON CONFLICT (org_id, bot_id, source_id) DO UPDATE SET deleted_at = CASE WHEN :revive THEN NULL ELSE sources.deleted_at END
""")
"""Makes sources known; `revive` lifts their tombstones: for an explicit queue call alone."""

INSERT_RUNS = text("""
    INSERT INTO training_jobs (job_id, org_id, bot_id, source_id, priority, force, request_id)
    SELECT gen_random_uuid(), :org_id, bot_id, source_id, :priority, :force, :request_id
    FROM unnest(CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[])) AS given (bot_id, source_id)
    ON CONFLICT (org_id, source_id) WHERE status = 'waiting' DO NOTHING
    RETURNING job_id, source_id
""")
"""New waiting runs; none for a source that has one already."""


def ring(redis: "Redis", queue_name: str, job_ids: list[UUID]) -> bool:
    """Wakes workers for committed runs; False when Redis is away, and the sweeper rings later.

    A bell is safe to lose and safe to ring twice: a worker that finds nothing due returns.
    """
    queue = Queue(queue_name, connection=redis, serializer=JSONSerializer)
    bells = [
        Queue.prepare_data(TRAIN, args=(str(job_id),), timeout=-1, result_ttl=0, failure_ttl=3600) for job_id in job_ids
    ]
    try:
        queue.enqueue_many(bells)
    except (RedisError, OSError) as error:
        log.warning("bell_not_rung", runs=len(job_ids), error=type(error).__name__)
        return False
    return True
