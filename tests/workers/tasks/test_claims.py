"""Claims on a real database: every task once, the owner before bulk, every org in turn, and never too many of one."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, text

from tests.workers.chat_rows import ChatRows
from workers.tasks.claims import claim
from workers.tasks.life import Task, settle

pytestmark = pytest.mark.stack
NOBODY = UUID(int=0)
HOUR_AGO, IN_AN_HOUR = "(now() - interval '1 hour')", "(now() + interval '1 hour')"


def take(rows: ChatRows, holder: str | None = None, *, cap: int = 1000, after: UUID = NOBODY) -> list[Task]:
    """A claim; by a worker of its own unless named."""
    with rows.engine.begin() as connection:
        return claim(connection, holder or str(uuid4()), cap=cap, after=after)


def jobs(tasks: list[Task]) -> list[UUID | None]:
    return [task.job_id for task in tasks]


def end(rows: ChatRows, task: Task) -> None:
    with rows.engine.begin() as connection:
        assert settle(connection, task, "succeeded")


def orgs(count: int) -> list[UUID]:
    return sorted(uuid4() for _ in range(count))


# --- each once, in order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [False, True])
def test_many_workers_get_every_task_once(rows: ChatRows, small: bool) -> None:
    some = orgs(5)
    expected = {rows.wait(org_id=some[n % 5], small=small, priority="bulk") for n in range(80)}

    def work(number: int) -> list[Task]:
        taken: list[Task] = []
        while tasks := take(rows, f"worker-{number}"):
            taken += tasks
        return taken

    with ThreadPoolExecutor(16) as threads:
        taken = [task for tasks in threads.map(work, range(16)) for task in tasks]
    assert {task.job_id for task in taken} == expected
    assert len(taken) == len({task.fence for task in taken}) == 80


def test_the_owner_waits_for_no_bulk_and_the_oldest_comes_first(rows: ChatRows) -> None:
    bulk = rows.wait(priority="bulk", run_after="(now() - interval '1 day')")
    young = rows.wait()
    old = rows.wait(run_after=HOUR_AGO)
    rows.wait(run_after=IN_AN_HOUR)
    assert [jobs(take(rows)) for _ in range(4)] == [[old], [young], [bulk], []]


def test_a_claim_says_what_the_task_is_and_begins_its_run(rows: ChatRows) -> None:
    job_id = rows.wait(source_type="site")
    rows.change(
        job_id, error_code="fetch_failed", error_message="m", error_retryable=True, source_version="v", force=True
    )
    before = rows.job(job_id)["status_version"]
    [task] = take(rows, "worker-7")
    assert (task.kind, task.source_type, task.attempt, task.force, task.plan) == ("read", "site", 1, True, {})
    assert (task.age_s, task.suspect, task.generation) == (0.0, False, None)
    row = rows.job(job_id)
    assert (row["status"], row["stage"], row["attempt"]) == ("running", "fetch", 1)
    assert row["started_at"]
    assert (row["error_code"], row["error_message"], row["source_version"]) == (None, None, None)
    assert row["status_version"] > before
    held = rows.task(job_id)
    assert (held["lease_holder"], held["fence"]) == ("worker-7", task.fence)


def test_a_source_is_trained_by_one_run_at_a_time(rows: ChatRows) -> None:
    source_id = uuid4()
    first = rows.claimed(source_id)
    second = rows.wait(source_id)
    assert take(rows) == []
    end(rows, first)
    [task] = take(rows)
    assert (task.job_id, task.fence > first.fence) == (second, True)


def test_a_runs_further_tasks_are_due_while_it_runs_and_not_after(rows: ChatRows) -> None:
    first = rows.claimed()
    pages, finish = (
        rows.add_task("pages", first, plan='{"visits": [["u", 0]]}', ordinal=3),
        rows.add_task("finish", first),
    )
    before = rows.job(first.job_id)
    [task] = take(rows)
    assert (task.task_id, task.plan, task.ordinal) == (pages, {"visits": [["u", 0]]}, 3)
    assert rows.job(first.job_id) == before
    rows.change(first.job_id, status="cancelled")  # as when a run ends while its last tasks are being made
    assert take(rows) == []
    rows.change(first.job_id, status="running")
    assert [task.task_id for task in take(rows)] == [finish]


def test_a_task_without_a_run_is_claimed_like_any_other(rows: ChatRows) -> None:
    task_id = rows.add_task("dry_run")
    [task] = take(rows)
    assert (task.task_id, task.kind, task.job_id, task.source_type, task.request_id) == (
        task_id,
        "dry_run",
        None,
        "",
        None,
    )


# --- small ones together ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priority", "sizes"),
    [
        ("bulk", [32, 8]),
        ("interactive", [8, 4]),
        ("interactive", [10, 8, 8, 8, 6]),
        ("interactive", [32, 29, 22, 16, 12, 9, 8, 8, 8, 6]),
    ],
)
def test_small_tasks_of_one_org_and_priority_come_together(rows: ChatRows, priority: str, sizes: list[int]) -> None:
    one, other = orgs(2)
    for _ in range(sum(sizes)):
        rows.wait(org_id=one, small=True, priority=priority)
    rows.wait(org_id=other, small=True, priority=priority)
    taken = [take(rows, after=other) for _ in range(len(sizes) + 1)]
    ours = [tasks for tasks in taken if tasks[0].org_id == one]
    assert [len(tasks) for tasks in ours] == sizes
    assert all({task.org_id for task in tasks} == {one} for tasks in ours)
    assert [len(tasks) for tasks in taken if tasks[0].org_id == other] == [1]


def test_large_suspect_and_further_tasks_come_alone(rows: ChatRows) -> None:
    busy = uuid4()
    running = rows.claimed(busy)
    rows.wait(busy, small=True)  # its source is in training
    rows.add_task("pages", running, small=True, run_after="(now() - interval '4 hours')")
    large = rows.wait(run_after="(now() - interval '3 hours')")
    suspect = rows.wait(small=True, suspect=True, run_after=HOUR_AGO)
    small = [rows.wait(small=True) for _ in range(2)]
    taken = [take(rows) for _ in range(4)]
    assert [task.kind for task in taken[0]] == ["pages"]
    assert [jobs(tasks) for tasks in taken[1:]] == [[large], [suspect], small]
    assert take(rows) == []


# --- orgs in turn ----------------------------------------------------------------------------------------------------


def test_orgs_take_turns(rows: ChatRows) -> None:
    some = orgs(3)
    for org_id, count in zip(some, (50, 2, 1), strict=True):
        for _ in range(count):
            rows.wait(org_id=org_id, priority="bulk")
    served = [NOBODY]
    for _ in range(6):
        [task] = take(rows, "the only worker", after=served[-1])
        served.append(task.org_id)
        end(rows, task)
    assert [some.index(org_id) for org_id in served[1:]] == [0, 1, 2, 0, 1, 0]


def test_the_org_with_the_least_under_way_comes_first(rows: ChatRows) -> None:
    some = orgs(3)
    for org_id in some:
        for _ in range(5):
            rows.wait(org_id=org_id)
    taken = [take(rows)[0].org_id for _ in range(6)]
    assert Counter(taken[:3]) == Counter(taken[3:]) == dict.fromkeys(some, 1)
    rows.sql("UPDATE training_tasks SET lease_holder = lease_holder || task_id WHERE status = 'running'")
    rows.sql("DELETE FROM training_tasks WHERE status = 'running' AND org_id = :org", org=some[1])
    assert [take(rows)[0].org_id for _ in range(2)] == [some[1]] * 2


def test_an_org_keeps_no_more_workers_busy_than_it_may(rows: ChatRows) -> None:
    large, small = orgs(2)
    for _ in range(20):
        rows.wait(org_id=large, priority="interactive")
    late = rows.wait(org_id=small, priority="bulk")
    assert [len(take(rows, cap=2)) for _ in range(2)] == [1, 1]
    assert jobs(take(rows, cap=2)) == [late]
    assert take(rows, cap=2) == []
    assert len(take(rows, cap=3)) == 1


def test_a_worker_that_fell_silent_keeps_its_org_from_nothing(rows: ChatRows) -> None:
    for _ in range(2):
        rows.wait()
    take(rows, cap=1)
    assert take(rows, cap=1) == []
    rows.sql("UPDATE training_tasks SET lease_expires_at = lease_expires_at - interval '15 s' WHERE status = 'running'")
    assert len(take(rows, cap=1)) == 1


def test_an_org_gets_no_more_than_it_may_from_many_claims_at_once(rows: ChatRows) -> None:
    for _ in range(40):
        rows.wait()
    with ThreadPoolExecutor(16) as threads:
        taken = list(threads.map(lambda _: take(rows, cap=8), range(16)))
    assert sum(map(len, taken)) == 8


def test_a_group_keeps_one_worker_busy(rows: ChatRows) -> None:
    for _ in range(70):
        rows.wait(small=True, priority="bulk")
    assert [len(take(rows, cap=2)) for _ in range(3)] == [32, 32, 0]


def test_rows_that_are_locked_are_passed_over_for_the_next_org(rows: ChatRows) -> None:
    some = orgs(2)
    locked, free = (rows.wait(org_id=org_id) for org_id in some)
    with rows.engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM training_tasks WHERE job_id = :id FOR UPDATE"), {"id": locked})
        assert jobs(take(rows)) == [free]
        assert take(rows) == []
    assert jobs(take(rows)) == [locked]


def test_a_claimer_that_is_stuck_holds_nobody_up(rows: ChatRows) -> None:
    expected = [rows.wait(small=True) for _ in range(16)]
    with rows.engine.begin() as stuck, rows.engine.begin() as connection:
        first = claim(stuck, "stuck", cap=8)
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        assert jobs(first) + jobs(claim(connection, "worker", cap=8)) == expected


# --- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)  # the rows take most of it on a busy machine
def test_a_claim_among_a_hundred_thousand_tasks(rows: ChatRows) -> None:
    rows.sql(
        "INSERT INTO training_jobs (job_id, org_id, bot_id, source_id, priority)"
        " SELECT gen_random_uuid(), CAST(md5(CAST(i % 1000 AS text)) AS uuid), :bot, gen_random_uuid(), 'bulk'"
        " FROM generate_series(1, 100000) AS i",
        bot=rows.bot_id,
    )
    rows.sql("ANALYZE training_jobs")  # else what the tasks refer to may be looked for among few rows, one by one
    rows.sql(
        "INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, priority)"
        " SELECT job_id, org_id, bot_id, source_id, 'read', priority FROM training_jobs"
    )
    pooled: Any = create_engine(rows.engine.url)
    seconds, served = [], [NOBODY]
    for number in range(100):
        began = time.perf_counter()
        with pooled.begin() as connection:
            [task] = claim(connection, f"worker-{number}", cap=8, after=served[-1])
        seconds.append(time.perf_counter() - began)
        served.append(task.org_id)
    pooled.dispose()
    assert len(set(served)) == 101, "each is another org's"
    seconds.sort()
    print(f"claim among 100,000 tasks of 1,000 orgs: median {seconds[50] * 1e3:.1f} ms, p95 {seconds[95] * 1e3:.1f} ms")
