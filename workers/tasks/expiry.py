"""What becomes of the tasks of workers that died: tried again, apart from each other, until one has to be set aside."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from chat_api.core.errors import CrashedRepeatedly, ServiceError
from chat_api.core.storable import storable
from workers.tasks.life import GIVES_WAY, end_run

MAX_CRASHES = 3

END_LEASES = text("""
    UPDATE training_tasks SET lease_expires_at = now() WHERE lease_holder = ANY (:holders) AND status = 'running'
""")


def end_leases(connection: Connection, holders: Sequence[str]) -> int:
    """Ends the leases of processes that are known to be dead, for the next sweep to take; how many."""
    return connection.execute(END_LEASES, {"holders": list(holders)}).rowcount


# A first death is most often the worker's own: the task keeps its place before those that were queued after it.
# Of tasks that shared a worker nobody knows which one killed it; of a task with many pages, which page: it reads them
# one by one then, and a page's third death is the page's end alone.
EXPIRE = text(f"""
    WITH shared AS (
        SELECT lease_holder FROM training_tasks WHERE status = 'running' GROUP BY lease_holder HAVING count(*) > 1
    ), dead AS MATERIALIZED (
        SELECT task_id, job_id, kind, suspect, crash_count, at_url, run_after, plan,
               coalesce(CAST(plan -> 'crashes' ->> at_url AS int), 0) + 1 AS page_crashes,
               lease_holder IN (SELECT lease_holder FROM shared) AS is_shared
        FROM training_tasks AS task WHERE status = 'running' AND lease_expires_at < now()
        ORDER BY task_id LIMIT 500 FOR UPDATE OF task SKIP LOCKED
    ), judged AS MATERIALIZED (
        SELECT *, CASE WHEN NOT suspect AND (is_shared OR kind = 'pages') THEN 'apart'
                       WHEN kind = 'pages' AND at_url IS NOT NULL THEN 'page'
                       WHEN crash_count + 1 < :max_crashes THEN 'again' ELSE 'over' END AS verdict
        FROM dead
    ), told AS (
        UPDATE training_jobs AS job
        SET status = CASE WHEN {GIVES_WAY} THEN 'cancelled' ELSE 'waiting' END,
            finished_at = CASE WHEN {GIVES_WAY} THEN now() END, status_version = nextval('status_versions')
        FROM judged
        WHERE job.job_id = judged.job_id AND job.status = 'running' AND kind = 'read' AND verdict <> 'over'
        RETURNING job.job_id, job.status
    ), given_up AS (
        DELETE FROM training_tasks AS task USING told WHERE task.job_id = told.job_id AND told.status = 'cancelled'
    ), back AS (
        UPDATE training_tasks AS task
        SET status = 'waiting', lease_holder = NULL, lease_expires_at = NULL, at_url = NULL,
            suspect = task.suspect OR verdict = 'apart',
            crash_count = task.crash_count + CAST(verdict = 'again' AS int),
            run_after = CASE WHEN verdict = 'apart' OR greatest(task.crash_count, page_crashes - 1) = 0
                             THEN task.run_after
                             ELSE now() + make_interval(secs => 2 * greatest(task.crash_count + 1, page_crashes)) END,
            plan = CASE WHEN verdict <> 'page' THEN task.plan ELSE
                task.plan
                || jsonb_build_object('crashes', coalesce(task.plan -> 'crashes', '{{}}')
                                                 || jsonb_build_object(judged.at_url, page_crashes))
                || CASE WHEN page_crashes < :max_crashes THEN '{{}}' ELSE jsonb_build_object(
                       'given_up', coalesce(task.plan -> 'given_up', '[]') || to_jsonb(judged.at_url)) END END
        FROM judged LEFT JOIN told USING (job_id)
        WHERE task.task_id = judged.task_id AND verdict <> 'over' AND told.status IS DISTINCT FROM 'cancelled'
    )
    SELECT task_id, job_id, kind, verdict, at_url,
           CASE verdict WHEN 'again' THEN crash_count + 1 WHEN 'over' THEN crash_count + 1
                        WHEN 'page' THEN page_crashes ELSE crash_count END AS crash_count,
           CASE WHEN verdict = 'over' THEN 'quarantined' ELSE coalesce(told.status, 'waiting') END AS status
    FROM judged LEFT JOIN told USING (job_id) ORDER BY task_id
""")  # noqa: S608  # the parts are this module's own
# What has no run says it by itself: to who asked for a dry run, or waits for a bot to be embedded anew, which is held
# while the source is as it is.
SET_ASIDE = text("""
    UPDATE training_tasks AS task SET status = 'done', lease_holder = NULL, lease_expires_at = NULL,
        result = jsonb_build_object(
            'error', jsonb_build_object('code', CAST(:code AS text), 'message', CAST(:message AS text)), 'state', 'live',
            'generation', (SELECT live_generation FROM sources AS source WHERE source.org_id = task.org_id
                           AND source.bot_id = task.bot_id AND source.source_id = task.source_id))
    WHERE task_id = ANY (:task_ids) AND status = 'running' AND (CAST(:fence AS bigint) IS NULL OR fence = :fence)
""")


def set_aside(
    connection: Connection, task_ids: Sequence[int], error: ServiceError, *, fence: int | None = None
) -> None:
    """Ends tasks that have no run with their error: those under this fence, or whoever holds them."""
    values = {"task_ids": list(task_ids), "fence": fence, "code": error.code, "message": storable(error.message)}
    connection.execute(SET_ASIDE, values)


def expire_leases(connection: Connection) -> list[Row[Any]]:
    """Takes tasks whose leases are over: back to waiting; after a task's third death its run is quarantined.

    Rows have task_id, job_id, kind, verdict (`apart`, `page`, `again`, `over`), at_url, crash_count and status, which
    is the task's or `quarantined`, or `cancelled` when the run gave way to a newer one.
    """
    expired = list(connection.execute(EXPIRE, {"max_crashes": MAX_CRASHES}).all())
    over = [row for row in expired if row.verdict == "over"]
    error = CrashedRepeatedly()
    for row in over:
        if row.job_id:
            end_run(connection, row.job_id, "quarantined", error=error, say_stage=True)
    if alone := [row.task_id for row in over if not row.job_id]:
        set_aside(connection, alone, error)
    return expired
