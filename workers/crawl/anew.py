"""Begins a crawl anew when its bot reads another embedding space by now: what it has built could never be switched to."""

import structlog
from sqlalchemy import Connection, Engine, text

from workers.store.generation import alive_sources, find_build
from workers.store.rows import Build
from workers.tasks.life import GIVES_WAY, LeaseLostError, Task

log = structlog.get_logger(__name__)

READS_ANOTHER = text("""
    SELECT EXISTS (SELECT FROM bots WHERE org_id = :org_id AND bot_id = :bot_id AND space_id <> :space_id)
""")
LOCK_TASKS = text("""
    SELECT count(*) FILTER (WHERE fence = :fence AND status = 'running') FROM (
        SELECT fence, status FROM training_tasks WHERE job_id = :job_id ORDER BY task_id FOR UPDATE) AS task
""")
END_TASKS = text("""
    WITH held AS (SELECT task_id FROM training_tasks WHERE job_id = :job_id ORDER BY task_id FOR UPDATE)
    DELETE FROM training_tasks USING held WHERE training_tasks.task_id = held.task_id
""")
WAIT_ANEW = text(f"""
    WITH told AS (
        UPDATE training_jobs AS job
        SET status = CASE WHEN {GIVES_WAY} THEN 'cancelled' ELSE 'waiting' END,
            finished_at = CASE WHEN {GIVES_WAY} THEN now() END, status_version = nextval('status_versions')
        WHERE job_id = :job_id AND status = 'running'
        RETURNING job_id, org_id, bot_id, source_id, status, priority
    ), discarded AS (
        UPDATE generations AS build SET state = 'discarded' FROM told
        WHERE build.org_id = told.org_id AND build.bot_id = told.bot_id AND build.source_id = told.source_id
          AND build.job_id = told.job_id AND build.state = 'building'
    )
    INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, priority)
    SELECT job_id, org_id, bot_id, source_id, 'read', priority FROM told WHERE status = 'waiting'
""")  # noqa: S608  # the part is this package's own


def build_of(task: Task, chat: Engine) -> Build:
    """The crawl's build. Raises LeaseLostError when that was given up, also here: the run then waits to begin anew."""
    with chat.begin() as connection:
        build = find_build(connection, task)
        org_id, bot_id, *_ = build.key
        values = {"org_id": org_id, "bot_id": bot_id, "space_id": build.space_id}
        if not connection.execute(READS_ANOTHER, values).scalar_one():
            return build
        _wait_anew(connection, task)
    log.info("crawl_begins_anew", **task.names)
    raise LeaseLostError


def _wait_anew(connection: Connection, task: Task) -> None:
    """Has the run wait with a first task again, or gives it up where a newer one waits; nothing if the fence is gone."""
    alive_sources(connection, [task])
    values = {"job_id": task.job_id, "fence": task.fence}
    if not connection.execute(LOCK_TASKS, values).scalar_one():
        return
    # A worker that was waited for may have made further tasks in the transaction that is now over.
    while connection.execute(END_TASKS, values).rowcount:
        pass
    connection.execute(WAIT_ANEW, values)
