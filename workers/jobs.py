"""What a bell sets off: claim due tasks, do them, settle what did not come off; then the next, until none is due."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from chat_api.core.database import DATABASE_DOWN, of_org
from chat_api.core.errors import DatabaseUnavailable, ServiceError, SourceDeleted
from chat_api.core.jobs import ring
from chat_api.core.login import check_login
from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import load_settings
from chat_api.core.storable import storable
from chat_api.core.telemetry import bind_request_id, configure_logging
from workers.bootstrap import Collaborators, bootstrap
from workers.crawl import tasks as crawl
from workers.dashboard import load_sources, project_status
from workers.dry_run import measure
from workers.failures import Failed, note_failures
from workers.migrations import MigrationsMissingError, check_migrations
from workers.pipeline import train
from workers.reembed import embed_again
from workers.runs import Training
from workers.tasks.claims import claim
from workers.tasks.expiry import set_aside
from workers.tasks.lease import Lease, Progress
from workers.tasks.life import (
    LEASE_S,
    HandBackError,
    LeaseLostError,
    Task,
    conclude,
    hand_back,
    note_versions,
    put_back,
    settle,
)
from workers.tasks.retries import costs_attempt, retry_in

SHIFT_S = 60
CRAWLED = frozenset({"site", "sitemap"})
log = structlog.get_logger(__name__)
stopping = threading.Event()
"""Set when this process is told to stop: the tasks in hand are handed back, and no others are claimed."""
_wired: dict[int, Collaborators] = {}


def train_due(_name: str) -> None:
    """The RQ job: claims what is due for a minute at most; its argument only says why the bell was rung."""
    parent = os.getppid()  # once it is gone nobody could tell this process to stop
    try:
        worker = collaborators()
    except MigrationsMissingError as error:
        log.warning("migrations_awaited", problem=str(error))  # the sweeper rings again
        return
    work(
        worker,
        until=time.monotonic() + SHIFT_S,
        stop=lambda: stopping.is_set() or os.getppid() != parent,
    )


def collaborators() -> Collaborators:
    """This process's collaborators: made once, and anew after a fork.

    Raises PowerfulLoginError, MigrationsMissingError.
    """
    if os.getpid() not in _wired:
        settings = load_settings()
        configure_logging(settings)
        _wired.clear()
        made = bootstrap(settings)
        check_login(settings, made.engines.chat)
        with suppress(*DATABASE_DOWN):  # then nothing is claimed either
            check_migrations(made.engines.chat)
        _wired[os.getpid()] = made
    return _wired[os.getpid()]


def work(worker: Collaborators, *, until: float, stop: Callable[[], bool] = stopping.is_set) -> int:
    """Does due tasks until there are none, or `until` on the monotonic clock, or `stop`; how many."""
    done, served = 0, uuid4()  # anywhere: so workers that begin together begin with different orgs
    while time.monotonic() < until and not stop():
        try:
            with worker.engines.chat.begin() as connection:
                tasks = claim(connection, worker.holder, cap=worker.settings.org_running_tasks, after=served)
        except (*DATABASE_DOWN, IntegrityError) as error:
            log.warning("nothing_claimed", error=type(error).__name__)  # the sweeper rings again
            break
        if not tasks:
            break
        process(worker, tasks, stop)
        done += len(tasks)
        if not tasks[0].suspect:  # one that must run alone is a small part of its org's turn
            served = tasks[0].org_id
    return done


def process(worker: Collaborators, tasks: Sequence[Task], stop: Callable[[], bool]) -> None:
    """Does what one claim has given, all of one org, and settles what did not come off, whatever happens."""
    worker = replace(worker, stages=replace(worker.stages, chat=of_org(worker.stages.chat, tasks[0].org_id)))
    began = time.perf_counter()
    alone = len(tasks) == 1
    bind_request_id(tasks[0].request_id if alone else None)
    with structlog.contextvars.bound_contextvars(**(tasks[0].names if alone else {"org_id": str(tasks[0].org_id)})):
        for task in tasks:
            log.info("task_started", kind=task.kind, attempt=task.attempt, **task.names)
        outcomes = _do(worker, tasks, stop)
        seconds = round(time.perf_counter() - began, 3)
        for task in tasks:
            log.info(
                "task_ended", kind=task.kind, outcome=outcomes.get(task.task_id, "done"), seconds=seconds, **task.names
            )
        _tell(worker, tasks)


def _do(worker: Collaborators, tasks: Sequence[Task], stop: Callable[[], bool]) -> dict[int, str]:
    """Task id → what became of it, as far as it needed settling here."""
    progress = {task.task_id: Progress() for task in tasks}
    lease = Lease(worker.engines.chat, tasks, progress, told=lambda: _tell(worker, tasks), stopping=stop)
    try:
        with lease:
            errors = _try(worker, tasks, progress, lease)
    except LeaseLostError:
        return dict.fromkeys(_ids(tasks), "lease_lost")
    except HandBackError:
        return _hand_back(worker, _left(tasks, lease))
    except Exception as error:  # noqa: BLE001  # the edge of a task: it must be settled, and the worker live on
        return _fail_together(worker, tasks, lease, _failure(error))
    return {task.task_id: _fail(worker, task, errors[task.task_id]) for task in tasks if task.task_id in errors}


def _fail_together(worker: Collaborators, tasks: Sequence[Task], lease: Lease, failed: ServiceError) -> dict[int, str]:
    """Settles tasks that failed as one; of several nobody knows whose the error is, and each is tried alone."""
    left = _left(tasks, lease)
    if len(tasks) > 1 and costs_attempt(failed):
        return _hand_back(worker, left, suspect=True)
    return {task.task_id: _fail(worker, task, failed) for task in left}


def _failure(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, DATABASE_DOWN):
        log.warning("database_away", error=type(error).__name__)
        return DatabaseUnavailable()
    log.error("task_broke", exc_info=error)
    return ServiceError()


def _ids(tasks: Iterable[Task]) -> list[int]:
    return [task.task_id for task in tasks]


def _left(tasks: Sequence[Task], lease: Lease) -> list[Task]:
    return [task for task in tasks if task.task_id not in lease.lost]


def _try(
    worker: Collaborators, tasks: Sequence[Task], progress: Mapping[int, Progress], lease: Lease
) -> dict[int, ServiceError]:
    """Does the tasks; by task id, the error of each that failed by itself."""
    if tasks[0].kind == "reembed":
        embed_again(tasks[0], worker.stages, progress[tasks[0].task_id], lease.check)
        return {}
    found, errors = load_sources(worker.engines.dashboard, tasks)
    group = [Training(task, found[task.task_id], progress[task.task_id]) for task in tasks if task.task_id in found]
    if tasks[0].kind != "read":
        return errors or _do_part(worker, group[0], lease)
    _note_versions(worker, group)
    _tell(worker, tasks)
    errors |= _begin_crawls(worker, [one for one in group if one.found.source.type in CRAWLED], lease)
    group = [one for one in group if one.found.source.type not in CRAWLED]
    return errors | (train(group, worker.stages, lease.check, lambda: lease.lost) if group else {})


def _begin_crawls(worker: Collaborators, sites: Sequence[Training], lease: Lease) -> dict[int, ServiceError]:
    errors: dict[int, ServiceError] = {}
    for site in sites:
        try:
            _ring(worker, site.task, crawl.begin(site.task, site.found, worker.stages, site.progress, lease.check))
        except ServiceError as error:
            errors[site.task.task_id] = error
            note_failures([Failed(site.task, site.found, error, site.found.row_version)], worker.stages)
    return errors


def _do_part(worker: Collaborators, part: Training, lease: Lease) -> dict[int, ServiceError]:
    """Does what is not a run's beginning."""
    task, given = part.task, (part.found, worker.stages, part.progress, lease.check)
    if task.kind == "pages":
        _ring(worker, task, crawl.read_pages(task, *given))
    elif task.kind == "finish":
        crawl.finish(task, *given)
    else:
        result = measure(task, *given)
        _persist(worker, lambda connection: conclude(connection, task, result))
    return {}


def _note_versions(worker: Collaborators, group: Sequence[Training]) -> None:
    with worker.engines.chat.begin() as connection:
        note_versions(connection, [(one.task, one.found.row_version) for one in group])


def _ring(worker: Collaborators, task: Task, made: int) -> None:
    """Wakes as many workers as the run has new tasks for, and its org may keep busy."""
    if made:
        with connect_redis(worker.settings) as redis:
            bells = min(made, worker.settings.org_running_tasks)
            ring(redis, worker.settings.queue_name, [str(task.job_id)] * bells)


def _fail(worker: Collaborators, task: Task, error: ServiceError) -> str:
    wait_s = None if task.kind == "dry_run" else retry_in(task, error)
    log.warning("task_failed", code=error.code, message=error.message, retry_in_s=wait_s, **task.names)

    def act(connection: Connection) -> str | None:
        if wait_s is not None:
            return put_back(connection, task, error, wait_s, refund=not costs_attempt(error))
        if task.job_id:
            return settle(connection, task, "cancelled" if isinstance(error, SourceDeleted) else "failed", error=error)
        if task.kind == "reembed" and costs_attempt(error):
            set_aside(connection, [task.task_id], error, fence=task.fence)
        else:
            conclude(connection, task, {"error": {"code": error.code, "message": storable(error.message)}})
        return "failed"

    return _persist(worker, act) or "lease_lost"


def _hand_back(worker: Collaborators, tasks: Sequence[Task], *, suspect: bool = False) -> dict[int, str]:
    outcome = _persist(worker, lambda connection: hand_back(connection, tasks, suspect=suspect)) or "waiting"
    return dict.fromkeys(_ids(tasks), outcome)


def _persist(worker: Collaborators, act: Callable[[Connection], str | None]) -> str | None:
    """Does it, trying again until the lease is over; then the sweeper takes the task. What it gives."""
    until = time.monotonic() + LEASE_S
    while time.monotonic() < until:
        try:
            with worker.engines.chat.begin() as connection:
                return act(connection)
        except (*DATABASE_DOWN, IntegrityError):
            time.sleep(1)
    return "left_to_sweeper"


def _tell(worker: Collaborators, tasks: Sequence[Task]) -> None:
    job_ids = [task.job_id for task in tasks if task.job_id]
    if not job_ids:
        return
    try:
        project_status(worker.engines.chat, worker.engines.dashboard, job_ids)
    except SQLAlchemyError as error:
        log.warning("dashboard_not_told", error=type(error).__name__)
