"""How a run is accepted: its row first, committed, and then the bell, which carries an id alone."""

from collections.abc import Sequence
from uuid import UUID

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import text

TRAIN = "workers.jobs.train_due"
MAX_BELLS = 500
"""Waiting bells beyond which no more are rung: each has a worker train whatever is due, so more would only be heard late."""
log = structlog.get_logger(__name__)

REMEMBER_SOURCES = text("""
    INSERT INTO sources (org_id, bot_id, source_id)
    SELECT :org_id, bot_id, source_id
    FROM unnest(CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[])) AS given (bot_id, source_id)
    ORDER BY source_id, bot_id
    ON CONFLICT (org_id, bot_id, source_id) DO UPDATE SET deleted_at = NULL, removal_held_at = NULL
    WHERE :revive AND sources.deleted_at IS NOT NULL
""")
"""Makes sources known and holds their rows, in one order for all; `revive` lifts tombstones: for a queue call alone."""
UNPIN = text("""
    UPDATE sources SET pinned_version = NULL
    WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND pinned_version IS NOT NULL
""")
"""A wish to train a source that was rolled back ends the roll-back."""

# Waiting tasks are locked before their runs are, as everybody does: that is what the counting is for. One that a worker
# puts back in this moment keeps its priority.
INSERT_RUNS = text("""
    WITH given AS (
        SELECT job_id, bot_id, source_id, source_type, small
        FROM unnest(CAST(:job_ids AS uuid[]), CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]),
                    CAST(:source_types AS text[]), CAST(:smalls AS boolean[]))
             AS given (job_id, bot_id, source_id, source_type, small)
        JOIN sources USING (bot_id, source_id) WHERE sources.org_id = :org_id AND sources.deleted_at IS NULL
    ), held AS MATERIALIZED (
        SELECT task_id, job_id FROM training_tasks
        WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND kind = 'read' AND status = 'waiting'
        ORDER BY task_id FOR UPDATE
    ), run AS (
        INSERT INTO training_jobs AS job (job_id, org_id, bot_id, source_id, source_type, priority, force, request_id)
        SELECT job_id, :org_id, bot_id, source_id, source_type, :priority, :force, :request_id
        FROM given WHERE (SELECT count(*) FROM held) >= 0 ORDER BY source_id
        ON CONFLICT (org_id, source_id) WHERE status = 'waiting' DO UPDATE
        SET bot_id = excluded.bot_id, source_type = excluded.source_type, force = job.force OR excluded.force,
            priority = greatest(job.priority, excluded.priority)  -- 'interactive' is the greater word
        RETURNING job_id, source_id, bot_id, priority
    ), upgraded AS (
        UPDATE training_tasks AS task SET bot_id = run.bot_id, priority = run.priority, small = given.small
        FROM held JOIN run USING (job_id) JOIN given USING (source_id) WHERE task.task_id = held.task_id
    ), made AS (
        INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, priority, small)
        SELECT job_id, :org_id, run.bot_id, run.source_id, 'read', run.priority, small
        FROM run JOIN given USING (job_id) ORDER BY run.source_id
    )
    SELECT job_id, source_id FROM run
""")
"""A waiting run with its first task for each source that has no tombstone: a new one, or the one it has, which then
also serves this call. `source_types` and `smalls` (see `is_small`) stand beside the ids."""

# Tasks first, and all of them: that is what the counting is for. One that is made meanwhile finds its run over.
END_RUNS_OF_SOURCE = text("""
    WITH held AS MATERIALIZED (
        SELECT task_id FROM training_tasks
        WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND job_id IS NOT NULL ORDER BY task_id FOR UPDATE
    ), ended AS (
        UPDATE training_jobs SET status = 'cancelled', finished_at = now(), status_version = nextval('status_versions')
        WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND status IN ('waiting', 'running')
          AND (SELECT count(*) FROM held) >= 0
        RETURNING job_id
    ), gone AS (
        DELETE FROM training_tasks AS task USING held WHERE task.task_id = held.task_id
    ), discarded AS (
        UPDATE generations SET state = 'discarded'
        WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND state = 'building'
          AND (SELECT count(*) FROM ended) >= 0
    )
    SELECT job_id FROM ended
""")
"""Cancels what waits or runs of the sources, whose rows the caller has locked; the ids of those runs."""

SMALL_TYPES = frozenset({"url", "text", "qa"})
SMALL_FILE_BYTES = 2 * 2**20


def is_small(source_type: str, size_bytes: int | None) -> bool:
    """Whether a source may be trained together with others of its org; `size_bytes` is its file's."""
    return source_type in SMALL_TYPES or (
        source_type == "file" and size_bytes is not None and size_bytes <= SMALL_FILE_BYTES
    )


def ring(redis: "Redis", queue_name: str, names: Sequence[UUID | str]) -> bool:
    """Wakes workers for committed runs or tasks; False when Redis is away, and the sweeper rings later.

    A bell is safe to lose and safe to ring twice: a worker that finds nothing due returns.
    """
    queue = Queue(queue_name, connection=redis, serializer=JSONSerializer)
    try:
        room = max(0, MAX_BELLS - queue.count)
        bells = [
            Queue.prepare_data(TRAIN, args=(str(name),), timeout=-1, result_ttl=0, failure_ttl=3600)
            for name in names[:room]
        ]
        if bells:
            queue.enqueue_many(bells)
    except (RedisError, OSError) as error:
        log.warning("bell_not_rung", bells=len(names), error=type(error).__name__)
        return False
    return True
