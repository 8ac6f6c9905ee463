"""Workers that died: who shared one with others is tried apart, who dies alone again and again is set aside."""

from typing import Any

import pytest
from sqlalchemy import Row

from tests.workers.chat_rows import ChatRows
from workers.tasks.claims import claim
from workers.tasks.expiry import end_leases, expire_leases
from workers.tasks.life import Task, assert_held

pytestmark = pytest.mark.stack
PAST = "(now() - interval '1 second')"
URL, OTHER = "https://shop.example/deadly", "https://shop.example/deadlier"


def take(rows: ChatRows, holder: str = "worker-1") -> list[Task]:
    with rows.engine.begin() as connection:
        return claim(connection, holder, cap=1000)


def expire(rows: ChatRows) -> list[Row[Any]]:
    with rows.engine.begin() as connection:
        return expire_leases(connection)


def die(rows: ChatRows, *tasks: Task) -> list[Row[Any]]:
    """The tasks' worker dies and a sweep finds out; then a minute passes."""
    for task in tasks:
        rows.change_task(task.task_id, lease_expires_at=PAST)
    expired = expire(rows)
    rows.sql("UPDATE training_tasks SET run_after = least(run_after, now()) WHERE status = 'waiting'")
    return expired


def verdicts(expired: list[Row[Any]]) -> list[tuple[str, int, str]]:
    return [(row.verdict, row.crash_count, row.status) for row in expired]


def group(rows: ChatRows, size: int, holder: str = "worker-1") -> list[Task]:
    for _ in range(size):
        rows.wait(small=True, priority="bulk")
    tasks = take(rows, holder)
    assert len(tasks) == size
    return tasks


def crawl_task(rows: ChatRows, kind: str = "pages", **columns: object) -> Task:
    first = rows.claimed()
    rows.sql("DELETE FROM training_tasks WHERE task_id = :id", id=first.task_id)
    rows.add_task(kind, first, **columns)
    [task] = take(rows)
    return task


# --- alone -----------------------------------------------------------------------------------------------------------


def test_a_dead_workers_run_waits_again_and_the_third_death_sets_it_aside(rows: ChatRows) -> None:
    task = rows.claimed()
    rows.change(task.job_id, stage="extract")
    outcomes = []
    for _ in range(3):
        outcomes += verdicts(die(rows, task))
        take(rows)
        rows.change(task.job_id, stage="extract")
    assert outcomes == [("again", 1, "waiting"), ("again", 2, "waiting"), ("over", 3, "quarantined")]
    row = rows.job(task.job_id)
    assert (row["status"], row["error_code"], row["error_retryable"]) == ("quarantined", "crashed_repeatedly", False)
    assert row["error_message"].endswith("(at: extract)")
    assert row["finished_at"]
    assert rows.sql("SELECT 1 FROM training_tasks") == []


def test_the_wait_after_a_death_grows(rows: ChatRows) -> None:
    task = rows.claimed(lease_expires_at=PAST, crash_count=1)
    expire(rows)
    [row] = rows.sql("SELECT extract(epoch FROM run_after - now()) AS seconds FROM training_tasks")
    assert 3 < row["seconds"] <= 4
    assert rows.job(task.job_id)["status"] == "waiting"


def test_only_a_lease_that_is_over_expires(rows: ChatRows) -> None:
    task = rows.claimed()
    assert expire(rows) == []
    assert rows.job(task.job_id)["status"] == "running"


def test_the_leases_of_a_process_that_is_known_to_be_dead_end_at_once(rows: ChatRows) -> None:
    dead, alive = rows.claimed(holder="host:7:worker-a"), rows.claimed(holder="host:7:worker-b")
    with rows.engine.begin() as connection:
        assert end_leases(connection, ["host:7:worker-a", "host:8:worker-c"]) == 1
    assert [row.task_id for row in expire(rows)] == [dead.task_id]
    assert rows.task(alive.task_id)["status"] == "running"


def test_a_task_that_its_worker_holds_is_left_for_the_next_sweep(rows: ChatRows) -> None:
    task = rows.claimed(lease_expires_at="(now() + interval '0.2 seconds')")
    with rows.engine.begin() as connection:
        assert_held(connection, task)
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")
        assert expire(rows) == []
    assert len(expire(rows)) == 1


def test_a_dead_run_gives_way_to_a_newer_one_and_stops_no_other(rows: ChatRows) -> None:
    task, alone = rows.claimed(holder="one"), rows.claimed(holder="two")
    newer = rows.wait(task.source_id)
    statuses = {row.job_id: row.status for row in die(rows, task, alone)}
    assert statuses == {task.job_id: "cancelled", alone.job_id: "waiting"}
    assert rows.job(task.job_id)["finished_at"]
    left = rows.sql("SELECT job_id FROM training_tasks ORDER BY task_id")
    assert [row["job_id"] for row in left] == [alone.job_id, newer]


# --- together --------------------------------------------------------------------------------------------------------


def test_tasks_that_shared_a_dead_worker_are_tried_apart_at_once_and_none_is_blamed(rows: ChatRows) -> None:
    tasks = group(rows, 4)
    for task in tasks:
        rows.change_task(task.task_id, lease_expires_at=PAST)
    assert verdicts(expire(rows)) == [("apart", 0, "waiting")] * 4
    assert {rows.job(task.job_id)["status"] for task in tasks} == {"waiting"}
    again = [take(rows, f"worker-{n}") for n in range(5)]
    assert [[task.task_id for task in tasks] for tasks in again] == [[task.task_id] for task in tasks] + [[]]
    assert {task.suspect for tasks in again for task in tasks} == {True}


def test_of_a_group_only_the_deadly_one_ends(rows: ChatRows) -> None:
    tasks = group(rows, 3)
    deadly = tasks[1]
    die(rows, *tasks)
    for _ in range(3):
        taken = [task for n in range(3) for task in take(rows, f"worker-{n}")]
        die(rows, *(task for task in taken if task.task_id == deadly.task_id))
    statuses = [rows.job(task.job_id)["status"] for task in tasks]
    assert statuses == ["running", "quarantined", "running"]
    assert [rows.task(tasks[n].task_id)["crash_count"] for n in (0, 2)] == [0, 0]


def test_what_of_a_group_was_done_before_the_death_is_not_tried_again(rows: ChatRows) -> None:
    tasks = group(rows, 3)
    rows.sql("DELETE FROM training_tasks WHERE task_id = :id", id=tasks[0].task_id)
    assert [row.task_id for row in die(rows, *tasks)] == [task.task_id for task in tasks[1:]]


# --- a crawl ---------------------------------------------------------------------------------------------------------


def test_a_page_that_kills_its_worker_is_given_up_and_not_its_crawl(rows: ChatRows) -> None:
    task = crawl_task(rows, plan='{"visits": [["u", 0]]}')
    outcomes = verdicts(die(rows, task))
    assert rows.task(task.task_id)["suspect"]
    for url in (URL, OTHER, URL, URL):
        [task] = take(rows)
        rows.change_task(task.task_id, at_url=url)
        outcomes += verdicts(die(rows, task))
    assert outcomes == [("apart", 0, "waiting")] + [("page", n, "waiting") for n in (1, 1, 2, 3)]
    row = rows.task(task.task_id)
    assert row["plan"] == {"visits": [["u", 0]], "crashes": {URL: 3, OTHER: 1}, "given_up": [URL]}
    assert (row["crash_count"], row["at_url"]) == (0, None)
    assert rows.job(task.job_id)["status"] == "running"


def test_a_crawls_task_that_dies_before_any_page_counts_its_own_deaths(rows: ChatRows) -> None:
    task = crawl_task(rows)
    outcomes = verdicts(die(rows, task))
    for _ in range(3):
        [task] = take(rows)
        outcomes += verdicts(die(rows, task))
    assert [verdict for verdict, *_ in outcomes] == ["apart", "again", "again", "over"]
    assert rows.job(task.job_id)["status"] == "quarantined"


def test_the_end_of_a_crawl_that_dies_thrice_ends_the_run_with_all_its_tasks_and_builds(rows: ChatRows) -> None:
    task = crawl_task(rows, "finish", crash_count=2)
    rows.add_task("pages", task)
    rows.sql("INSERT INTO embedding_spaces (space_id, model, dimensions) VALUES (1, 'm', 4) ON CONFLICT DO NOTHING")
    rows.sql(
        "INSERT INTO generations (org_id, bot_id, source_id, generation, space_id, job_id, source_version)"
        " SELECT org_id, bot_id, source_id, 1, 1, job_id, 'v' FROM training_jobs"
    )
    assert verdicts(die(rows, task)) == [("over", 3, "quarantined")]
    assert rows.sql("SELECT 1 FROM training_tasks") == []
    assert rows.sql("SELECT state FROM generations") == [{"state": "discarded"}]


# --- without a run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dry_run", "reembed"])
def test_a_task_without_a_run_that_dies_thrice_says_so(rows: ChatRows, kind: str) -> None:
    task_id = rows.add_task(kind, crash_count=1)
    for crashes in (2, 3):
        [task] = take(rows)
        assert [row.crash_count for row in die(rows, task)] == [crashes]
    row = rows.task(task_id)
    assert (row["status"], row["result"]["error"]["code"]) == ("done", "crashed_repeatedly")
    assert expire(rows) == []
