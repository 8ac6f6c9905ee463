"""Which tasks a worker is given next: the owner's wishes before bulk, every org in turn, its oldest task first."""

import time
from uuid import UUID

from sqlalchemy import Connection, text

from chat_api.core.models.training import BUSY, SILENT_S
from workers.tasks.life import LEASE_S, Task

NOBODY = UUID(int=0)
TOGETHER = {"interactive": 8, "bulk": 32}
"""How many small tasks of one org are claimed at once, by priority; where many wait, a part of them."""
MOST_TOGETHER, PART = 32, 4
"""Of many, a quarter is taken, and no more than 32: the fewer are left, the more evenly workers share them."""
LOOKED_AT = MOST_TOGETHER * PART
"""How many of the org's oldest tasks are looked at for more small ones."""
TURN_LOCK = 7_305_101
TURN_WITHIN_S = 1.0

# Asked first: CLAIM alone takes milliseconds to plan.
ANY_WAITING = text("SELECT EXISTS (SELECT FROM training_tasks WHERE status = 'waiting' AND priority = :priority)")
TAKE_TURN = text("SELECT pg_try_advisory_xact_lock(:lock)")
WAITING = "FROM training_tasks WHERE status = 'waiting' AND priority = :priority"
# A run's first task waits while another run of its source is under way; later ones are done while their own run is.
FREE = """
    (task.job_id IS NULL OR EXISTS (
        SELECT FROM training_jobs AS job WHERE job.job_id = task.job_id
        AND job.status = CASE task.kind WHEN 'read' THEN 'waiting' ELSE 'running' END))
    AND NOT (task.kind = 'read' AND EXISTS (
        SELECT FROM training_jobs AS other WHERE other.org_id = task.org_id AND other.source_id = task.source_id
        AND other.status = 'running'))
"""


def _walk(name: str, start: str, end: str) -> str:
    """Every org that has waiting tasks, once, by id, with its earliest `run_after`: one index probe for each."""
    bounds = f"org_id {start} AND {end}"
    return f"""
    {name} AS (
        (SELECT org_id, run_after {WAITING} AND {bounds} ORDER BY org_id, run_after LIMIT 1)
        UNION ALL
        SELECT next.org_id, next.run_after FROM {name} CROSS JOIN LATERAL (
            SELECT org_id, run_after {WAITING} AND org_id > {name}.org_id AND {end}
            ORDER BY org_id, run_after LIMIT 1) AS next
    )"""  # noqa: S608  # the parts are this module's own


# Whoever has not renewed its lease for a while is most likely dead, and no reason for its org to wait until that is over.
# The orgs are walked lazily, in the order written: those with nothing under way, from the one after the last served
# round to that one; then the busy ones, least busy first. The first that has a task nobody else is about to take gets
# it. `near` is bounded, since most of an org's tasks may be large ones.
CLAIM = text(f"""
    WITH RECURSIVE busy AS MATERIALIZED (
        SELECT org_id, count(DISTINCT lease_holder) AS claims FROM training_tasks
        WHERE {BUSY} GROUP BY org_id
    ), {_walk("later", "> CAST(:after AS uuid)", "true")}, {_walk("earlier", ">= CAST(:least AS uuid)", "org_id <= :after")},
    idle AS (
        SELECT org_id FROM (SELECT * FROM later UNION ALL SELECT * FROM earlier) AS org
        WHERE run_after <= now() AND org_id NOT IN (SELECT org_id FROM busy)
    ), least_busy AS (
        SELECT org_id FROM busy WHERE claims < :cap ORDER BY claims, org_id <= :after, org_id
    ), first AS MATERIALIZED (
        SELECT task.* FROM (SELECT org_id FROM idle UNION ALL SELECT org_id FROM least_busy) AS org
        CROSS JOIN LATERAL (
            SELECT task_id, org_id, kind, small AND kind = 'read' AND NOT suspect AS shares
            FROM training_tasks AS task
            WHERE status = 'waiting' AND priority = :priority AND task.org_id = org.org_id AND run_after <= now()
              AND {FREE}
            ORDER BY run_after, task_id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS task LIMIT 1
    ), near AS MATERIALIZED (
        SELECT near.task_id FROM first CROSS JOIN LATERAL (
            SELECT task_id {WAITING} AND org_id = first.org_id AND run_after <= now() AND first.shares
            ORDER BY run_after, task_id LIMIT :looked_at
        ) AS near
    ), more AS MATERIALIZED (
        SELECT task.task_id FROM near JOIN training_tasks AS task USING (task_id)
        WHERE task.status = 'waiting' AND task.kind = 'read' AND task.small AND NOT task.suspect
          AND task.task_id NOT IN (SELECT task_id FROM first) AND {FREE}
        ORDER BY task.run_after, task.task_id
        LIMIT (SELECT greatest(:together, least(:most, count(*) / :part)) - 1 FROM near)
        FOR UPDATE OF task SKIP LOCKED
    ), taken AS (
        UPDATE training_tasks AS task
        SET status = 'running', attempt = attempt + 1, started_at = coalesce(started_at, now()),
            fence = nextval('fences'), lease_holder = :holder, lease_expires_at = now() + make_interval(secs => :lease_s)
        WHERE task_id IN (SELECT task_id FROM first UNION ALL SELECT task_id FROM more)
        RETURNING task.*
    ), begun AS (
        UPDATE training_jobs AS job
        SET status = 'running', stage = 'fetch', attempt = taken.attempt, started_at = coalesce(job.started_at, now()),
            source_version = NULL, error_code = NULL, error_message = NULL, error_retryable = NULL,
            progress_done = 0, progress_total = NULL, status_version = nextval('status_versions')
        FROM taken WHERE job.job_id = taken.job_id AND taken.kind = 'read'
    )
    SELECT task_id, taken.kind, job_id, taken.org_id, taken.bot_id, taken.source_id,
           coalesce(job.source_type, '') AS source_type, fence, taken.attempt, coalesce(job.force, false) AS force,
           CAST(extract(epoch FROM now() - taken.started_at) AS float8) AS age_s, job.request_id, job.generation,
           ordinal, suspect, at_url, crash_count, coalesce(plan, '{{}}') AS plan, taken.priority
    FROM taken LEFT JOIN training_jobs AS job USING (job_id) ORDER BY task_id
""")  # noqa: S608


def claim(connection: Connection, holder: str, *, cap: int, after: UUID = NOBODY) -> list[Task]:
    """Takes the next due task, or several small ones of one org; none when none is due. Nobody else gets the same.

    Orgs take turns by id: `after` is the one served last. None keeps more than `cap` holders busy.
    """
    _take_turn(connection)
    for priority, together in TOGETHER.items():
        if not connection.execute(ANY_WAITING, {"priority": priority}).scalar_one():
            continue
        values = {
            **{"priority": priority, "holder": holder, "lease_s": LEASE_S, "cap": cap, "after": after},
            "busy_s": LEASE_S - SILENT_S,
            **{"least": NOBODY, "together": together, "looked_at": LOOKED_AT},
            **{"most": MOST_TOGETHER, "part": PART},
        }
        if taken := connection.execute(CLAIM, values).all():
            return [Task(**row._mapping) for row in taken]
    return []


def _take_turn(connection: Connection) -> None:
    """Claims are made one after another, so that the cap holds; one that is stuck is waited for only briefly."""
    until = time.monotonic() + TURN_WITHIN_S
    while not connection.execute(TAKE_TURN, {"lock": TURN_LOCK}).scalar_one() and time.monotonic() < until:
        time.sleep(0.002)
