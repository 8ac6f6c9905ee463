"""A task's life on a real database: one owner at a time, no write without its fence, and always an end of its run."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from chat_api.core.database import make_engines
from chat_api.core.errors import FetchFailed, NoText, ServiceError
from chat_api.core.jobs import END_RUNS_OF_SOURCE, INSERT_RUNS, REMEMBER_SOURCES
from chat_api.core.settings import Settings
from tests.workers.chat_rows import ChatRows
from workers.tasks.claims import claim
from workers.tasks.life import (
    LeaseLostError,
    Task,
    assert_held,
    conclude,
    hand_back,
    hold,
    holder_name,
    note_versions,
    put_back,
    renew,
    settle,
)

pytestmark = pytest.mark.stack
PROGRESS: dict[str, Any] = {"stage": "embed", "done": 3, "total": 10, "unit": "chunks"}
PAST = "(now() - interval '1 second')"


def take(rows: ChatRows, holder: str = "worker-1") -> list[Task]:
    with rows.engine.begin() as connection:
        return claim(connection, holder, cap=1000)


def retake(rows: ChatRows) -> Task:
    [task] = take(rows)
    return task


def end(rows: ChatRows, task: Task, status: str, error: ServiceError | None = None, **options: Any) -> str | None:
    with rows.engine.begin() as connection:
        return settle(connection, task, status, error=error, **options)


def back(rows: ChatRows, task: Task, error: ServiceError, wait_s: float = 5, *, refund: bool = False) -> str | None:
    with rows.engine.begin() as connection:
        return put_back(connection, task, error, wait_s, refund)


def hand(rows: ChatRows, *tasks: Task, **options: bool) -> None:
    with rows.engine.begin() as connection:
        hand_back(connection, tasks, **options)


def held(rows: ChatRows, *tasks: Task) -> set[int]:
    with rows.engine.begin() as connection:
        return hold(connection, tasks)


def group(rows: ChatRows, size: int) -> list[Task]:
    for _ in range(size):
        rows.wait(small=True, priority="bulk")
    tasks = take(rows)
    assert len(tasks) == size
    return tasks


def crawl_task(rows: ChatRows, kind: str = "pages") -> Task:
    """A task of a crawl that is under way, just claimed; its `read` task is done with."""
    first = rows.claimed()
    rows.sql("DELETE FROM training_tasks WHERE task_id = :id", id=first.task_id)
    rows.add_task(kind, first)
    return retake(rows)


def wait_for_a_lock(rows: ChatRows) -> None:
    deadline = time.monotonic() + 10
    while not rows.sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- renew, hold -----------------------------------------------------------------------------------------------------


def test_renewing_lengthens_the_lease_and_tells_progress_once(rows: ChatRows) -> None:
    task = rows.claimed(lease_expires_at="(now() + interval '1 second')")
    versions = [rows.job(task.job_id)["status_version"]]
    for done in (3, 3, 4):
        with rows.engine.begin() as connection:
            assert renew(connection, [task], {task.task_id: {**PROGRESS, "done": done}}) == {task.task_id}
        versions.append(rows.job(task.job_id)["status_version"])
    assert versions[0] < versions[1] == versions[2] < versions[3]
    [left] = rows.sql("SELECT extract(epoch FROM lease_expires_at - now()) AS seconds FROM training_tasks")
    assert left["seconds"] > 50
    row = rows.job(task.job_id)
    assert (row["stage"], row["progress_done"], row["progress_total"], row["progress_unit"]) == (
        "embed", 4, 10, "chunks",
    )  # fmt: skip


def test_a_group_is_renewed_at_once_each_with_its_own_progress(rows: ChatRows) -> None:
    tasks = group(rows, 3)
    rows.change_task(tasks[1].task_id, lease_expires_at=PAST)
    snapshots = {task.task_id: {**PROGRESS, "done": n} for n, task in enumerate(tasks, 1)}
    with rows.engine.begin() as connection:
        assert renew(connection, tasks, snapshots) == {tasks[0].task_id, tasks[2].task_id}
    assert [rows.job(task.job_id)["progress_done"] for task in tasks] == [1, 0, 3]


def test_a_crawls_task_tells_no_progress_of_its_own(rows: ChatRows) -> None:
    task = crawl_task(rows)
    before = rows.job(task.job_id)
    with rows.engine.begin() as connection:
        assert renew(connection, [task], {task.task_id: PROGRESS}) == {task.task_id}
    assert rows.job(task.job_id) == before


LOST: dict[str, Callable[[ChatRows, Task], object]] = {
    "the lease is over": lambda rows, task: rows.change_task(task.task_id, lease_expires_at=PAST),
    "the fence is another's": lambda rows, task: rows.change_task(task.task_id, fence="(nextval('fences'))"),
    "the task waits again": lambda rows, task: rows.change_task(task.task_id, status="waiting"),
    "the task is done": lambda rows, task: rows.change_task(task.task_id, status="done"),
    "the task is gone": lambda rows, task: rows.sql("DELETE FROM training_tasks"),
    "the run is over": lambda rows, task: rows.change(task.job_id, status="cancelled"),
}


@pytest.mark.parametrize("why", LOST)
def test_a_worker_that_lost_its_task_is_told(rows: ChatRows, why: str) -> None:
    task, other = rows.claimed(), rows.claimed()
    LOST[why](rows, task)
    if why == "the task is gone":
        other = rows.claimed()
    before = rows.job(task.job_id)
    with rows.engine.begin() as connection:
        assert renew(connection, [task, other], {task.task_id: PROGRESS}) == {other.task_id}
    with rows.engine.begin() as connection, pytest.raises(LeaseLostError):
        assert_held(connection, task)
    assert held(rows, task, other) == {other.task_id}
    assert rows.job(task.job_id) == before


def test_a_held_task_can_not_be_taken_away_before_its_write_is_over(rows: ChatRows) -> None:
    task = rows.claimed()
    with ThreadPoolExecutor(1) as threads, rows.engine.connect() as writing:
        assert_held(writing, task)
        ending = threads.submit(_end_runs, rows, task)
        wait_for_a_lock(rows)
        assert rows.job(task.job_id)["status"] == "running"
        writing.commit()
        assert ending.result(10) == [task.job_id]
    assert held(rows, task) == set()


def test_versions_are_noted_under_their_fences(rows: ChatRows) -> None:
    tasks = group(rows, 2)
    rows.change_task(tasks[1].task_id, fence="(nextval('fences'))")
    with rows.engine.begin() as connection:
        note_versions(connection, [(task, f"v{task.task_id}") for task in tasks])
    assert [rows.job(task.job_id)["source_version"] for task in tasks] == [f"v{tasks[0].task_id}", None]


# --- settle ----------------------------------------------------------------------------------------------------------


def test_settling_ends_a_run_once_and_all_its_tasks(rows: ChatRows) -> None:
    task = rows.claimed()
    rows.add_task("pages", task)
    assert end(rows, task, "failed", NoText()) == "failed"
    row = rows.job(task.job_id)
    assert (row["status"], row["error_code"], row["stage"]) == ("failed", "no_text", "fetch")
    assert row["finished_at"]
    assert rows.sql("SELECT 1 FROM training_tasks") == []
    assert end(rows, task, "succeeded") is None
    assert rows.job(task.job_id) == row


@pytest.mark.parametrize(("status", "state"), [("succeeded", "building"), ("failed", "discarded")])
def test_what_a_run_has_built_is_given_up_unless_it_succeeded(rows: ChatRows, status: str, state: str) -> None:
    task, other = rows.claimed(), rows.claimed()
    for number, built_by in enumerate((task, other), 1):
        add_generation(rows, built_by, number)
    end(rows, task, status, receipt='{"tokens": 7}')
    states = rows.sql("SELECT state FROM generations ORDER BY generation")
    assert [row["state"] for row in states] == [state, "building"]
    assert rows.job(task.job_id)["receipt"] == {"tokens": 7}


def add_generation(rows: ChatRows, task: Task, number: int, state: str = "building") -> None:
    rows.sql("INSERT INTO embedding_spaces (space_id, model, dimensions) VALUES (1, 'm', 4) ON CONFLICT DO NOTHING")
    rows.sql(
        "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version)"
        " VALUES (:org, :bot, :source, :number, :state, 1, :job, 'v')",
        **{"org": task.org_id, "bot": task.bot_id, "source": task.source_id, "number": number, "state": state},
        job=task.job_id,
    )


def test_a_zombie_settles_nothing(rows: ChatRows) -> None:
    old = rows.claimed()
    hand(rows, old)
    assert retake(rows).task_id == old.task_id
    before = rows.job(old.job_id)
    assert end(rows, old, "failed", NoText()) is None
    assert back(rows, old, FetchFailed()) is None
    assert rows.job(old.job_id) == before


def test_a_crawls_task_ends_the_whole_run_while_others_are_at_work(rows: ChatRows) -> None:
    task = crawl_task(rows)
    rows.add_task("pages", task)
    other = retake(rows)
    assert end(rows, task, "failed", NoText()) == "failed"
    assert held(rows, other) == set()


def test_strangers_words_are_stored_as_far_as_they_can_be(rows: ChatRows) -> None:
    task = rows.claimed()
    end(rows, task, "failed", NoText("a\0b \ud800 c"))
    assert rows.job(task.job_id)["error_message"] == "ab ? c"


# --- waiting again ---------------------------------------------------------------------------------------------------


def test_a_run_that_waits_again_keeps_its_reason(rows: ChatRows) -> None:
    task = rows.claimed()
    assert back(rows, task, FetchFailed("away"), 100) == "waiting"
    row = rows.job(task.job_id)
    assert (row["error_code"], row["error_retryable"], row["finished_at"], row["attempt"]) == (
        "fetch_failed", True, None, 1,
    )  # fmt: skip
    assert take(rows) == []
    rows.change_task(task.task_id, run_after=PAST)
    assert retake(rows).attempt == 2
    assert rows.job(task.job_id)["attempt"] == 2


def test_a_crawl_goes_on_while_one_of_its_tasks_waits_again_with_its_error_shown(rows: ChatRows) -> None:
    task = crawl_task(rows)
    assert back(rows, task, FetchFailed("away"), 100, refund=True) == "running"
    row = rows.job(task.job_id)
    assert (row["status"], row["error_code"], row["attempt"]) == ("running", "fetch_failed", 1)
    assert (rows.task(task.task_id)["status"], rows.task(task.task_id)["attempt"]) == ("waiting", 0)


def test_a_task_without_a_run_waits_again(rows: ChatRows) -> None:
    rows.add_task("reembed")
    task = retake(rows)
    assert back(rows, task, FetchFailed("away")) == "running"
    assert rows.task(task.task_id)["status"] == "waiting"


def test_tasks_handed_back_are_due_at_once_and_have_spent_nothing(rows: ChatRows) -> None:
    tasks = group(rows, 3)
    places = [row["run_after"] for row in rows.sql("SELECT run_after FROM training_tasks ORDER BY task_id")]
    hand(rows, *tasks)
    assert [row["run_after"] for row in rows.sql("SELECT run_after FROM training_tasks ORDER BY task_id")] == places
    assert {rows.job(task.job_id)["status"] for task in tasks} == {"waiting"}
    again = take(rows, "worker-2")
    assert [(task.task_id, task.attempt) for task in again] == [(task.task_id, 1) for task in tasks]


def test_tasks_that_failed_together_are_tried_apart(rows: ChatRows) -> None:
    tasks = group(rows, 3)
    hand(rows, *tasks, suspect=True)
    assert [len(take(rows)) for _ in range(4)] == [1, 1, 1, 0]


def test_a_crawls_task_handed_back_leaves_the_run_as_it_is(rows: ChatRows) -> None:
    task = crawl_task(rows)
    before = rows.job(task.job_id)
    hand(rows, task)
    assert rows.job(task.job_id) == before
    assert retake(rows).attempt == 1


@pytest.mark.parametrize("how", ["put back", "handed back"])
def test_a_run_that_would_wait_again_gives_way_to_a_newer_one(rows: ChatRows, how: str) -> None:
    source_id = uuid4()
    task = rows.claimed(source_id)
    newer = rows.wait(source_id)
    if how == "put back":
        assert back(rows, task, FetchFailed()) == "cancelled"
    else:
        hand(rows, task)
    row = rows.job(task.job_id)
    assert (row["status"], row["finished_at"] is not None) == ("cancelled", True)
    assert [row["job_id"] for row in rows.sql("SELECT job_id FROM training_tasks")] == [newer]
    assert retake(rows).job_id == newer


def test_a_newer_run_that_comes_at_the_same_moment_is_met_at_the_second_try(rows: ChatRows) -> None:
    source_id = uuid4()
    task = rows.claimed(source_id)
    with ThreadPoolExecutor(1) as threads, rows.engine.connect() as other:
        other.exec_driver_sql(
            "INSERT INTO training_jobs (job_id, org_id, bot_id, source_id) VALUES (%s, %s, %s, %s)",
            (uuid4(), rows.org_id, rows.bot_id, source_id),
        )
        waiting = threads.submit(back, rows, task, FetchFailed())
        wait_for_a_lock(rows)
        other.commit()
        with pytest.raises(IntegrityError):
            waiting.result(10)
    assert back(rows, task, FetchFailed()) == "cancelled"


# --- tasks without a run ---------------------------------------------------------------------------------------------


def test_a_task_without_a_run_ends_with_its_result_or_without_a_trace(rows: ChatRows) -> None:
    rows.add_task("dry_run")
    asked = retake(rows)
    rows.add_task("reembed")
    unasked = retake(rows)
    with rows.engine.begin() as connection:
        conclude(connection, asked, {"chunks": 3})
        conclude(connection, unasked, None)
    [row] = rows.sql("SELECT task_id, status, result, lease_holder FROM training_tasks")
    assert row == {"task_id": asked.task_id, "status": "done", "result": {"chunks": 3}, "lease_holder": None}


# --- made, and ended by others ---------------------------------------------------------------------------------------


def _insert(rows: ChatRows, job_id: Any, source_id: Any, *, small: bool, priority: str = "interactive") -> list[Any]:
    values = {"org_id": rows.org_id, "bot_ids": [rows.bot_id], "source_ids": [source_id], "job_ids": [job_id]}
    run = {"source_types": ["text"], "smalls": [small], "priority": priority, "force": False, "request_id": None}
    with rows.engine.begin() as connection:
        connection.execute(REMEMBER_SOURCES, {**values, "revive": False})
        return [row.job_id for row in connection.execute(INSERT_RUNS, {**values, **run})]


def test_a_wish_for_a_waiting_run_lifts_its_task_too(rows: ChatRows) -> None:
    source_id = uuid4()
    job_id = rows.wait(source_id, priority="bulk", small=True)
    assert _insert(rows, uuid4(), source_id, small=False) == [job_id]
    [row] = rows.sql("SELECT job_id, kind, priority, small FROM training_tasks")
    assert row == {"job_id": job_id, "kind": "read", "priority": "interactive", "small": False}
    assert (rows.job(job_id)["priority"], rows.job(job_id)["source_type"]) == ("interactive", "text")


def test_wishes_and_claims_at_once_never_get_in_each_others_way(rows: ChatRows) -> None:
    ids = [uuid4() for _ in range(4)]

    def wish(number: int) -> None:
        _insert(rows, uuid4(), ids[number % 4], small=True, priority=("bulk", "interactive")[number % 2])

    def again(task: Task) -> None:
        while True:
            with suppress(IntegrityError):  # a newer run came in between
                return hand(rows, task)

    def work(number: int) -> None:
        for task in take(rows, f"worker-{number}"):
            if number % 3:
                again(task)
            else:
                end(rows, task, "succeeded")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: (work if number % 2 else wish)(number // 2), range(400)))
    waiting = "SELECT job_id, priority FROM training_{} WHERE status = 'waiting' ORDER BY job_id"
    assert [row["job_id"] for row in rows.sql(waiting.format("jobs"))] == [
        row["job_id"] for row in rows.sql(waiting.format("tasks"))
    ]


def _end_runs(rows: ChatRows, *tasks: Task) -> list[Any]:
    values = {"org_id": rows.org_id, "source_ids": [task.source_id for task in tasks]}
    with rows.engine.begin() as connection:
        return list(connection.execute(END_RUNS_OF_SOURCE, values).scalars())


def test_ending_a_sources_runs_ends_all_that_is_done_for_it_and_nothing_else(rows: ChatRows) -> None:
    task, other = rows.claimed(), rows.claimed()
    further, following = rows.add_task("pages", task), rows.wait(task.source_id)
    alone = rows.add_task("reembed", source_id=task.source_id)
    for number, (of, state) in enumerate([(task, "building"), (task, "live"), (other, "building")], 1):
        add_generation(rows, of, number, state)
    assert set(_end_runs(rows, task)) == {task.job_id, following}
    assert {rows.job(job_id)["status"] for job_id in (task.job_id, following)} == {"cancelled"}
    left = {row["task_id"] for row in rows.sql("SELECT task_id FROM training_tasks")}
    assert left == {other.task_id, alone}
    assert further not in left
    states = rows.sql("SELECT state FROM generations ORDER BY generation")
    assert [row["state"] for row in states] == ["discarded", "live", "building"]
    assert held(rows, task, other) == {other.task_id}
    assert _end_runs(rows, task) == []


# --- limits and names ------------------------------------------------------------------------------------------------


def _tell_name(names: "multiprocessing.SimpleQueue[str]") -> None:
    names.put(holder_name())


def test_a_pools_process_is_named_alike_by_itself_and_by_its_pool() -> None:
    context = multiprocessing.get_context("spawn")
    names = context.SimpleQueue()
    process = context.Process(target=_tell_name, args=(names,), name="worker-0123")
    process.start()
    process.join(30)
    assert names.get() == holder_name(process.pid, process.name)
    assert holder_name() != holder_name(None, "worker-0123")


def test_a_stopped_workers_locks_are_bounded(settings: Settings) -> None:
    def limits(connection: Connection) -> list[str]:
        names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    engines = make_engines(settings)
    for engine in (engines.chat, engines.dashboard):
        with engine.begin() as connection:
            assert limits(connection) == ["5s", "1min", "30s"]
        engine.dispose()
