"""Buries sources whose rows are gone: a tombstone, no answers, no runs; the collector removes the rest.

Rows are locked in the order that everybody keeps: sources, tasks, jobs, generations.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, text

from workers.reconcile.verdicts import Place

GIVEN = """
    unnest(CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]))
    AS given (org_id, bot_id, source_id)
"""
# One that was unmarked meanwhile is there again.
STILL = "deleted_at IS NULL AND (removal_held_at IS NOT NULL OR NOT CAST(:marked AS boolean))"
TOMBSTONES = text(f"""
    WITH held AS (SELECT org_id, bot_id, source_id FROM sources JOIN {GIVEN} USING (org_id, bot_id, source_id)
                  WHERE {STILL} ORDER BY source_id, bot_id FOR UPDATE OF sources)
    UPDATE sources SET deleted_at = now(), live_generation = NULL,
        removal_held_at = CASE WHEN :for_good THEN NULL ELSE coalesce(removal_held_at, now()) END
    FROM held WHERE (sources.org_id, sources.bot_id, sources.source_id) = (held.org_id, held.bot_id, held.source_id)
    RETURNING sources.org_id, sources.bot_id, sources.source_id
""")  # noqa: S608  # the parts are this module's own
END_TASKS = text(f"""
    WITH ended AS (SELECT task_id FROM training_tasks JOIN {GIVEN} USING (org_id, bot_id, source_id)
                   WHERE job_id IS NOT NULL ORDER BY task_id FOR UPDATE OF training_tasks)
    DELETE FROM training_tasks USING ended WHERE training_tasks.task_id = ended.task_id
""")  # noqa: S608
END_RUNS = text(f"""
    UPDATE training_jobs AS job
    SET status = 'cancelled', finished_at = now(), status_version = nextval('status_versions')
    FROM {GIVEN} WHERE (job.org_id, job.bot_id, job.source_id) = (given.org_id, given.bot_id, given.source_id)
                   AND status IN ('waiting', 'running')
""")  # noqa: S608
DISCARD = text(f"""
    UPDATE generations SET state = 'discarded' FROM {GIVEN}
    WHERE (generations.org_id, generations.bot_id, generations.source_id)
        = (given.org_id, given.bot_id, given.source_id) AND state <> 'discarded'
""")  # noqa: S608


def arrays(places: Sequence[Place]) -> dict[str, Any]:
    """The parameters of a statement on `GIVEN` places."""
    return {
        "org_ids": [place.org_id for place in places],
        "bot_ids": [place.bot_id for place in places],
        "source_ids": [place.source_id for place in places],
    }


def bury(chat: Engine, places: Sequence[Place], *, marked: bool = False, for_good: bool = False) -> list[Place]:
    """Takes sources out of all answers and ends their runs, in one transaction; those that were not buried before.

    `marked` leaves those alone that are no longer marked as gone. A tombstone is lifted when the dashboard has the row
    again, unless it is `for_good`.
    """
    if not places:
        return []
    with chat.begin() as connection:
        return _bury(connection, {**arrays(places), "marked": marked, "for_good": for_good})


def _bury(connection: Connection, values: dict[str, Any]) -> list[Place]:
    buried = [Place(*row) for row in connection.execute(TOMBSTONES, values)]
    if buried:
        of_buried = arrays(buried)
        # A worker that was waited for may have made further tasks in the transaction that is now over.
        while connection.execute(END_TASKS, of_buried).rowcount:
            pass
        connection.execute(END_RUNS, of_buried)
        connection.execute(DISCARD, of_buried)
    return buried
