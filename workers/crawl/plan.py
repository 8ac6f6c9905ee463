"""Cuts what a crawl has yet to read into tasks."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, text

from workers.crawl.state import Crawl
from workers.tasks.life import Task

MOST_VISITS = 20
"""Pages of one task."""
BUSY_TASKS = 4
"""While so many tasks are not done, a few addresses wait until they fill one."""

ADD_TASKS = text("""
    INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, priority, ordinal, plan, run_after)
    SELECT :job_id, :org_id, :bot_id, :source_id, :kind, :priority, given.ordinal, CAST(given.plan AS jsonb),
           now() + make_interval(secs => given.wait_s)
    FROM unnest(CAST(:ordinals AS int[]), CAST(:plans AS text[]), CAST(:waits_s AS float8[]))
         AS given (ordinal, plan, wait_s)
    ORDER BY given.ordinal
""")


def hand_out(connection: Connection, task: Task, crawl: Crawl, *, wait_s: float = 0) -> int:
    """Makes tasks of the addresses that wait, all of one size; how many.

    Where the website asks for a pace, each waits until those before it will have been read: no worker idles for it.
    """
    waiting = len(crawl.pending)
    if crawl.made - crawl.consumed >= BUSY_TASKS and waiting < MOST_VISITS:
        return 0
    count = -(-waiting // MOST_VISITS)
    cuts = [waiting * number // count for number in range(count + 1)] if count else []
    plans = [{"visits": crawl.pending[start:end]} for start, end in pairwise(cuts)]
    step_s, ahead = crawl.pace_s * MOST_VISITS, crawl.made - crawl.consumed
    waits = [wait_s + step_s * (ahead + place) for place in range(count)]
    add_tasks(connection, task, crawl, "pages", plans, waits)
    crawl.pending = []
    return count


def add_tasks(
    connection: Connection,
    task: Task,
    crawl: Crawl,
    kind: str,
    plans: Sequence[Mapping[str, Any]],
    waits_s: Sequence[float],
) -> None:
    """Adds a task for each plan, `waits_s` seconds from now on."""
    values = {
        **{"job_id": task.job_id, "org_id": task.org_id, "bot_id": task.bot_id, "source_id": task.source_id},
        **{"kind": kind, "priority": task.priority},
        "ordinals": list(range(crawl.made, crawl.made + len(plans))),
        "plans": [json.dumps(plan) for plan in plans],
        "waits_s": list(waits_s),
    }
    if plans:
        connection.execute(ADD_TASKS, values)
    crawl.made += len(plans)
