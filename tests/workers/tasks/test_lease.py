"""The thread that keeps leases: it renews for a whole group, says what is lost, and hands back when nobody else does."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from tests.workers.chat_rows import ChatRows, engine_of
from workers.dashboard import project_status
from workers.tasks import lease as module
from workers.tasks.claims import claim
from workers.tasks.lease import Lease, Progress
from workers.tasks.life import HandBackError, LeaseLostError, Task

pytestmark = pytest.mark.stack


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.02)


def group(rows: ChatRows, size: int) -> list[Task]:
    for _ in range(size):
        rows.wait(small=True)
    with rows.engine.begin() as connection:
        return claim(connection, "worker-1", cap=1000)


def lease_of(
    rows: ChatRows,
    tasks: list[Task],
    told: Callable[[], object] = lambda: None,
    stopping: Callable[[], bool] | None = None,
) -> tuple[Lease, dict[int, Progress]]:
    progress = {task.task_id: Progress() for task in tasks}
    return Lease(rows.engine, tasks, progress, told=told, stopping=stopping or (lambda: False)), progress


def until(met: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := met()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


def raised(check: Callable[[], None]) -> type[Exception] | None:
    try:
        check()
    except (LeaseLostError, HandBackError) as error:
        return type(error)
    return None


def test_progress_of_each_task_is_written_and_told(rows: ChatRows) -> None:
    tasks, told = group(rows, 3), list[int]()
    lease, progress = lease_of(rows, tasks, told=lambda: told.append(1))
    with lease:
        for done, task in enumerate(tasks, 1):
            progress[task.task_id].done = done
        until(lambda: [rows.job(task.job_id)["progress_done"] for task in tasks] == [1, 2, 3])
        lease.check()
    assert told


def test_a_dashboard_that_hangs_costs_no_lease_and_is_told_when_it_answers(
    rows: ChatRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOLD_S", 0.1)
    [task] = group(rows, 1)
    with socket.create_server(("127.0.0.1", 0)) as frozen, ExitStack() as connections:
        frozen.settimeout(20)
        dashboard = engine_of(f"postgresql://nobody@127.0.0.1:{frozen.getsockname()[1]}/x?sslmode=disable")

        def tell() -> None:
            with suppress(SQLAlchemyError):
                project_status(rows.engine, dashboard)

        def expires() -> Any:
            return rows.task(task.task_id)["lease_expires_at"]

        lease, _ = lease_of(rows, [task], told=tell)
        with lease:
            with frozen.accept()[0]:
                first = expires()
                until(lambda: expires() > first)
                second = expires()
                until(lambda: expires() > second)
                lease.check()
                frozen.setblocking(False)
                with pytest.raises(BlockingIOError):
                    frozen.accept()
            frozen.settimeout(20)
            connections.enter_context(frozen.accept()[0])


def test_one_lost_task_leaves_the_others_and_all_lost_stops_the_work(rows: ChatRows) -> None:
    tasks = group(rows, 3)
    lease, _ = lease_of(rows, tasks)
    with lease:
        rows.sql("DELETE FROM training_tasks WHERE task_id = :id", id=tasks[1].task_id)
        until(lambda: lease.lost == {tasks[1].task_id})
        lease.check()
        rows.sql("DELETE FROM training_tasks")
        until(lambda: raised(lease.check) is LeaseLostError)
    assert lease.lost == {task.task_id for task in tasks}


def test_a_worker_that_is_stopped_is_told_at_its_next_step(rows: ChatRows) -> None:
    lease, _ = lease_of(rows, group(rows, 1), stopping=lambda: True)
    with pytest.raises(HandBackError):
        lease.check()


def test_tasks_in_a_long_step_are_handed_back_by_the_thread(rows: ChatRows) -> None:
    tasks = group(rows, 3)
    lease, _ = lease_of(rows, tasks, stopping=lambda: True)
    with lease:
        until(lambda: {rows.job(task.job_id)["status"] for task in tasks} == {"waiting"})
        until(lambda: raised(lease.check) is LeaseLostError)
    with rows.engine.begin() as connection:
        assert [task.attempt for task in claim(connection, "worker-2", cap=8)] == [1, 1, 1]


def test_a_lease_that_could_not_be_renewed_for_its_time_is_over(
    rows: ChatRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = group(rows, 1)
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    lease = Lease(away, tasks, {task.task_id: Progress() for task in tasks}, told=lambda: None, stopping=lambda: False)
    monkeypatch.setattr(module, "LEASE_S", 0.2)
    with lease:
        lease.check()
        until(lambda: raised(lease.check) is LeaseLostError)
