"""The sweeper on real servers: what was forgotten, lost or left behind comes right within a sweep."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import ProgrammingError
from structlog.testing import capture_logs

from chat_api.core.database import Engines
from chat_api.core.jobs import MAX_BELLS
from chat_api.core.models.dashboard import STATUS_COLUMNS, missing_columns
from chat_api.core.settings import Settings
from tests.servers import free_port
from tests.workers.chat_rows import ChatRows, engine_of, workers_engine
from workers import dashboard as told
from workers.dashboard import project_status
from workers.sweeper import Sweeper
from workers.tasks.claims import claim
from workers.tasks.life import Task, settle

pytestmark = pytest.mark.stack
AWAY = "postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1"
SETTINGS = Settings.model_construct(queue_name="bells")


@dataclass
class Deployment:
    """A sweeper's world: both databases and Redis."""

    rows: ChatRows
    dashboard: Engine
    redis: "Redis"
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Queue("bells", connection=self.redis, serializer=JSONSerializer)

    def sweeper(self, holder: str = "sweeper-1", **changes: Any) -> Sweeper:
        """A sweeper of this deployment; `changes` are its redis or dashboard."""
        engines = Engines(workers_engine(self.rows.admin), changes.get("dashboard", self.dashboard))
        return Sweeper(engines, changes.get("redis", self.redis), SETTINGS, holder)

    def sql(self, query: str, **values: object) -> list[dict[str, Any]]:
        """Rows of the dashboard database."""
        with self.dashboard.begin() as connection:
            result = connection.execute(text(query), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def add_source(self, *, age_s: int = 0, **columns: object) -> UUID:
        """A row of the dashboard, this many seconds old."""
        values = {"id": uuid4(), "bot_id": self.rows.bot_id, "org_id": self.rows.org_id, "type": "text", **columns}
        names = ", ".join(values)
        self.sql(
            f"INSERT INTO training_sources ({names}, created_at, updated_at)"
            f" SELECT {', '.join(':' + name for name in values)}, at, at FROM"
            " (SELECT now() - make_interval(secs => :age_s) AS at) AS made",
            **values,
            age_s=age_s,
        )
        return UUID(str(values["id"]))

    def source(self, source_id: UUID) -> dict[str, Any]:
        """A row of the dashboard."""
        return self.sql("SELECT * FROM training_sources WHERE id = :id", id=source_id)[0]

    def bells(self) -> list[str]:
        """The runs that were rung for."""
        return [str(job.args[0]) for job in self.queue.jobs]


@pytest.fixture(scope="module")
def dashboard(module_dashboard_db: str) -> Iterator[Engine]:
    engine = engine_of(module_dashboard_db)
    yield engine
    engine.dispose()


@pytest.fixture
def deployed(rows: ChatRows, dashboard: Engine, redis_url: str) -> Iterator[Deployment]:
    with Redis.from_url(redis_url) as redis:
        found = Deployment(rows, dashboard, redis)
        for table in ("training_sources", "bots", "orgs"):
            found.sql(f"DELETE FROM {table}")
        found.sql("INSERT INTO orgs (id, name) VALUES (:id, 'Org')", id=rows.org_id)
        found.sql("INSERT INTO bots (id, org_id, name) VALUES (:id, :org, 'Bot')", id=rows.bot_id, org=rows.org_id)
        yield found


def claimed(deployed: Deployment, source_id: UUID) -> Task:
    return deployed.rows.claimed(source_id)


def end(deployed: Deployment, run: Task, status: str, **options: Any) -> None:
    with deployed.rows.engine.begin() as connection:
        settle(connection, run, status, **options)


# --- bells -----------------------------------------------------------------------------------------------------------


def test_a_forgotten_run_is_rung_once_and_again_later(deployed: Deployment) -> None:
    job_id = deployed.rows.wait()
    for _ in range(2):
        deployed.sweeper().sweep()
        assert deployed.bells() == [str(job_id)]
    deployed.rows.change_task(
        job_id, rung_at="(now() - interval '31 seconds')", run_after="(now() - interval '1 hour')"
    )
    deployed.redis.flushall()
    deployed.sweeper().sweep()
    assert deployed.bells() == [str(job_id)]


def test_a_run_that_waits_for_its_time_is_rung_when_it_has_come(deployed: Deployment) -> None:
    job_id = deployed.rows.wait(run_after="(now() + interval '1 minute')", rung_at="(now() - interval '1 second')")
    deployed.sweeper().sweep()
    assert deployed.bells() == []
    deployed.rows.change_task(job_id, run_after="(now())")
    deployed.sweeper().sweep()
    assert deployed.bells() == [str(job_id)]


def test_while_redis_is_away_runs_stay_due_and_free_to_claim(deployed: Deployment) -> None:
    job_id = deployed.rows.wait()
    with Redis.from_url(f"redis://127.0.0.1:{free_port()}") as away:
        deployed.sweeper(redis=away).sweep()
    assert deployed.rows.task(job_id)["rung_at"] is None
    deployed.sweeper().sweep()
    assert deployed.bells() == [str(job_id)]


def test_a_run_can_be_claimed_while_its_bell_is_on_the_way(deployed: Deployment) -> None:
    job_id = deployed.rows.wait()
    taken: list[Task] = []
    noted: list[bool] = []

    class Slow(Redis):
        def pipeline(self, *arguments: Any, **options: Any) -> Any:
            noted.append(deployed.rows.task(job_id)["rung_at"] is not None)
            with deployed.rows.engine.begin() as connection:
                taken.extend(claim(connection, "worker", cap=8))
            return super().pipeline(*arguments, **options)

    with Slow(connection_pool=deployed.redis.connection_pool) as slow:
        deployed.sweeper(redis=slow).sweep()
    assert taken
    assert noted == [True], "nothing writes to the row once a worker may come for it"


def test_bells_that_nobody_hears_do_not_pile_up(deployed: Deployment) -> None:
    for _ in range(3):
        deployed.rows.sql(
            "INSERT INTO training_tasks (org_id, bot_id, source_id, kind)"
            " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'reembed' FROM generate_series(1, 300)"
        )
        deployed.sweeper().ring_due()
    assert deployed.queue.count == MAX_BELLS


# --- dead workers ----------------------------------------------------------------------------------------------------


def test_a_task_without_a_run_is_rung_by_its_own_id(deployed: Deployment) -> None:
    task_id = deployed.rows.add_task("dry_run")
    deployed.sweeper().sweep()
    assert deployed.bells() == [f"task:{task_id}"]


def test_a_dead_workers_run_is_taken_rung_and_after_three_deaths_set_aside_with_its_stage(deployed: Deployment) -> None:
    source_id = deployed.add_source()
    run = claimed(deployed, source_id)
    for death in range(1, 4):
        deployed.rows.change_task(run.task_id, lease_expires_at="(now() - interval '1 second')")
        deployed.rows.change(run.job_id, stage="embed")
        deployed.redis.flushall()
        deployed.sweeper().sweep()
        if death < 3:
            assert deployed.source(source_id)["status"] == "queued"
            deployed.rows.change_task(run.task_id, run_after="(now())")
            with deployed.rows.engine.begin() as connection:
                assert claim(connection, "worker-2", cap=8)
    row = deployed.source(source_id)
    assert (row["status"], row["error_code"]) == ("failed", "crashed_repeatedly")
    assert "embed" in row["error_message"]
    assert deployed.bells() == []


def test_a_process_that_is_known_to_be_dead_loses_its_tasks_in_the_next_sweep(deployed: Deployment) -> None:
    dead, alive = claimed(deployed, uuid4()), deployed.rows.claimed(holder="another worker")
    deployed.rows.sql("UPDATE leases SET holder = 'another sweeper'")
    sweeper = deployed.sweeper()
    sweeper.note_death("worker-1")
    sweeper.bury()
    sweeper.sweep()
    assert deployed.rows.task(dead.task_id)["status"] == "waiting"
    deployed.rows.change_task(
        dead.task_id, status="running", lease_holder="worker-1", lease_expires_at="(now() + interval '1 minute')"
    )
    sweeper.bury()
    sweeper.sweep()
    assert {deployed.rows.task(task.task_id)["status"] for task in (dead, alive)} == {"running"}


def test_a_death_that_the_database_did_not_hear_of_is_told_again(deployed: Deployment) -> None:
    run, sweeper = claimed(deployed, uuid4()), deployed.sweeper()
    sweeper.note_death("worker-1")
    deployed.rows.sql("ALTER TABLE training_tasks RENAME TO away")
    try:
        with pytest.raises(ProgrammingError):
            sweeper.bury()
    finally:
        deployed.rows.sql("ALTER TABLE away RENAME TO training_tasks")
    sweeper.bury()
    sweeper.expire()
    assert deployed.rows.task(run.task_id)["status"] == "waiting"


# --- adoption --------------------------------------------------------------------------------------------------------


def waiting(deployed: Deployment) -> dict[UUID, str]:
    found = deployed.rows.sql("SELECT source_id, priority FROM training_jobs WHERE status = 'waiting'")
    return {row["source_id"]: row["priority"] for row in found}


def test_a_pending_row_is_adopted_after_a_minute(deployed: Deployment) -> None:
    old, young = deployed.add_source(age_s=61), deployed.add_source(age_s=50)
    deployed.sweeper().sweep()
    assert waiting(deployed) == {old: "bulk"}
    assert (deployed.source(old)["status"], deployed.source(young)["status"]) == ("queued", "pending")
    assert len(deployed.bells()) == 1


def _bury(deployed: Deployment, source_id: UUID) -> None:
    deployed.rows.wait(source_id)
    deployed.rows.sql("DELETE FROM training_jobs")
    deployed.rows.sql("UPDATE sources SET deleted_at = now()")


def _train(deployed: Deployment, source_id: UUID) -> None:
    end(deployed, claimed(deployed, source_id), "succeeded")
    deployed.rows.sql("UPDATE training_jobs SET projected_version = status_version")


NOT_ADOPTED: dict[str, Callable[[Deployment, UUID], object]] = {
    "deleted there": lambda deployed, _: deployed.sql("UPDATE training_sources SET deleted_at = now()"),
    "deleted here": _bury,
    "its bot deleted": lambda deployed, _: deployed.sql("UPDATE bots SET deleted_at = now()"),
    "failed": lambda deployed, _: deployed.sql("UPDATE training_sources SET status = 'failed'"),
    "just trained, and the row not told": _train,
    "in training": claimed,
    "of a bot of another org": lambda deployed, _: deployed.sql(
        "WITH other AS (INSERT INTO orgs (id, name) VALUES (gen_random_uuid(), 'Other') RETURNING id)"
        " UPDATE bots SET org_id = other.id FROM other"
    ),
}


@pytest.mark.parametrize("why", NOT_ADOPTED)
def test_a_row_is_not_adopted_that_is(deployed: Deployment, why: str) -> None:
    source_id = deployed.add_source(age_s=120)
    NOT_ADOPTED[why](deployed, source_id)
    deployed.sweeper().sweep()
    assert waiting(deployed) == {}


# --- telling the dashboard -------------------------------------------------------------------------------------------


def test_the_dashboard_hears_later_what_it_missed(deployed: Deployment) -> None:
    source_id = deployed.add_source()
    end(deployed, claimed(deployed, source_id), "succeeded")
    away = engine_of(AWAY)
    deployed.sweeper(dashboard=away).sweep()
    assert deployed.source(source_id)["status"] == "pending"
    deployed.sweeper().sweep()
    row = deployed.source(source_id)
    assert (row["status"], row["progress"], row["error_code"]) == ("trained", 100, None)
    assert row["trained_at"]


def test_a_late_word_never_undoes_a_newer_one(deployed: Deployment) -> None:
    source_id = deployed.add_source(status="trained", status_version=2**40)
    end(deployed, claimed(deployed, source_id), "failed")
    deployed.sweeper().sweep()
    assert deployed.source(source_id)["status"] == "trained"
    assert project_status(deployed.rows.engine, deployed.dashboard) == 0


def test_a_row_that_the_dashboard_holds_locked_stops_no_other_and_is_told_later(deployed: Deployment) -> None:
    locked, free = deployed.add_source(), deployed.add_source()
    for source_id in (locked, free):
        deployed.rows.wait(source_id)
    with deployed.dashboard.connect() as connection:
        connection.execute(text("SELECT 1 FROM training_sources WHERE id = :id FOR UPDATE"), {"id": locked})
        hasty = deployed.dashboard.execution_options()
        _with_lock_timeout(hasty, lambda: deployed.sweeper(dashboard=hasty).project())
    assert [deployed.source(source_id)["status"] for source_id in (locked, free)] == ["pending", "queued"]
    deployed.sweeper().project()
    assert deployed.source(locked)["status"] == "queued"


def test_rows_of_a_transaction_left_open_are_passed_over_and_not_waited_for(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "TOLD_AT_ONCE", 7)
    sources = [deployed.add_source() for _ in range(30)]
    for source_id in sources:
        deployed.rows.wait(source_id)
    hasty = engine_of(deployed.dashboard.url.render_as_string(hide_password=False))
    failed: list[object] = []
    event.listen(hasty, "handle_error", failed.append)
    with deployed.dashboard.connect() as connection:
        connection.execute(
            text("SELECT 1 FROM training_sources WHERE id = ANY (:ids) FOR UPDATE"), {"ids": sources[:20]}
        )
        _with_lock_timeout(hasty, lambda: deployed.sweeper(dashboard=hasty).project())
    assert [deployed.source(source_id)["status"] for source_id in sources] == ["pending"] * 20 + ["queued"] * 10
    assert failed == []
    deployed.sweeper().project()
    assert {deployed.source(source_id)["status"] for source_id in sources} == {"queued"}


def test_a_run_that_is_changed_while_it_is_told_is_not_waited_for_and_told_again(deployed: Deployment) -> None:
    changed, other = deployed.add_source(), deployed.add_source()
    jobs = {source_id: deployed.rows.wait(source_id) for source_id in (changed, other)}
    with deployed.rows.engine.connect() as connection:
        connection.execute(text("SELECT 1 FROM training_jobs WHERE job_id = :id FOR UPDATE"), {"id": jobs[changed]})
        _with_lock_timeout(deployed.rows.admin, deployed.sweeper().project)
    behind = "SELECT source_id FROM training_jobs WHERE projected_version < status_version"
    assert deployed.rows.sql(behind) == [{"source_id": changed}]
    deployed.sweeper().project()
    assert deployed.rows.sql(behind) == []


def _with_lock_timeout(engine: Engine, act: Callable[[], object]) -> None:
    """Has locks waited for as briefly as tests need."""
    name = engine.url.database
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET lock_timeout = 100')
        try:
            act()
        finally:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" RESET lock_timeout')


def test_a_word_that_the_dashboard_refuses_stops_no_other(deployed: Deployment) -> None:
    refused, taken = deployed.add_source(title="no"), deployed.add_source(title="yes")
    for source_id in (refused, taken):
        deployed.rows.wait(source_id)
    deployed.sql("ALTER TABLE training_sources ADD CONSTRAINT picky CHECK (title <> 'no' OR status = 'pending')")
    try:
        deployed.sweeper().sweep()
    finally:
        deployed.sql("ALTER TABLE training_sources DROP CONSTRAINT picky")
    assert [deployed.source(source_id)["status"] for source_id in (refused, taken)] == ["pending", "queued"]


def test_a_login_that_may_not_write_the_status_is_said_once_and_made_up_for(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "_said_refused", {})
    sources = [deployed.add_source() for _ in range(3)]
    for source_id in sources:
        deployed.rows.wait(source_id)
    with _reader(deployed) as reader:
        with reader.connect() as connection:
            missing = missing_columns(connection)
        sweeper = deployed.sweeper(dashboard=reader)
        with capture_logs() as logs:
            for _ in range(2):
                sweeper.sweep()
        deployed.sql(f"GRANT UPDATE ({', '.join(STATUS_COLUMNS)}) ON training_sources TO {reader.url.username}")
        with reader.connect() as connection:
            assert missing_columns(connection) == []
        for _ in range(2):  # finds that the rows are behind, and tells them
            sweeper.sweep()
    assert missing == [
        f"training_sources.{name} (UPDATE is not granted)"
        for name in ("status", "status_version", "progress", "error_code", "error_message", "job_id", "trained_at")
    ]
    said = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert sorted(said) == ["dashboard_columns_missing", "status_refused"]
    assert {deployed.source(source_id)["status"] for source_id in sources} == {"queued"}


@contextmanager
def _reader(deployed: Deployment) -> Iterator[Engine]:
    """The dashboard's database for a login that may read it."""
    name = f"reader_{uuid4().hex[:12]}"
    deployed.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    deployed.sql(f"GRANT SELECT ON orgs, bots, files, training_sources TO {name}")
    engine = engine_of(deployed.dashboard.url.set(username=name, password=name).render_as_string(hide_password=False))
    try:
        yield engine
    finally:
        engine.dispose()
        deployed.sql(f"DROP OWNED BY {name}")
        deployed.sql(f"DROP ROLE {name}")


def test_of_a_deleted_source_the_owner_hears_that_it_is_pending(deployed: Deployment) -> None:
    source_id = deployed.add_source(status="processing", progress=50)
    run = claimed(deployed, source_id)
    deployed.rows.sql("UPDATE sources SET deleted_at = now()")
    end(deployed, run, "cancelled")
    deployed.sweeper().sweep()
    row = deployed.source(source_id)
    assert (row["status"], row["progress"], row["job_id"], row["error_code"]) == ("pending", 0, None, None)


def test_while_the_next_run_waits_the_end_of_the_last_is_not_the_last_word(deployed: Deployment) -> None:
    source_id = deployed.add_source()
    run = claimed(deployed, source_id)
    following = deployed.rows.wait(source_id)
    end(deployed, run, "failed")
    deployed.sweeper().sweep()
    row = deployed.source(source_id)
    assert (row["status"], row["job_id"], row["error_code"]) == ("queued", following, None)


@pytest.mark.parametrize("newest", ["failed", "waiting"])
def test_of_several_words_on_a_source_the_newest_counts_and_when_it_was_trained(
    deployed: Deployment, newest: str
) -> None:
    source_id, other = deployed.add_source(), deployed.add_source()
    end(deployed, claimed(deployed, source_id), "succeeded")
    if newest == "waiting":
        deployed.rows.wait(source_id)
    else:
        end(deployed, claimed(deployed, source_id), newest)
    deployed.rows.wait(other)
    assert project_status(deployed.rows.engine, deployed.dashboard) == 3
    row = deployed.source(source_id)
    assert row["status"] == {"failed": "failed", "waiting": "queued"}[newest]
    assert row["trained_at"]
    assert deployed.source(other)["status"] == "queued"


def test_more_words_than_fit_a_batch_are_told_in_one_sweep(deployed: Deployment) -> None:
    ids = [deployed.add_source() for _ in range(3)]
    for source_id in ids:
        deployed.rows.wait(source_id)
    deployed.rows.sql(
        "WITH made AS (INSERT INTO sources (org_id, bot_id, source_id)"
        " SELECT :org, :bot, gen_random_uuid() FROM generate_series(1, 1100) RETURNING *)"
        " INSERT INTO training_jobs (job_id, org_id, bot_id, source_id, status, status_version)"
        " SELECT gen_random_uuid(), org_id, bot_id, source_id, 'failed', 0 + row_number() OVER () FROM made",
        org=deployed.rows.org_id,
        bot=deployed.rows.bot_id,
    )
    deployed.rows.sql("UPDATE training_jobs SET status_version = status_version + 10000 WHERE status = 'waiting'")
    deployed.sweeper().project()
    assert {deployed.source(source_id)["status"] for source_id in ids} == {"queued"}


# --- collecting ------------------------------------------------------------------------------------------------------


def add_generation(deployed: Deployment, state: str, number: int, pages: int = 3, job_id: UUID | None = None) -> None:
    deployed.rows.sql(
        "INSERT INTO embedding_spaces (space_id, model, dimensions) VALUES (1, 'm', 4) ON CONFLICT DO NOTHING"
    )
    values: dict[str, object] = {"org": deployed.rows.org_id, "bot": deployed.rows.bot_id, "n": number}
    deployed.rows.sql(
        "INSERT INTO sources (org_id, bot_id, source_id) VALUES (:org, :bot, :bot) ON CONFLICT DO NOTHING", **values
    )
    deployed.rows.sql(
        "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version)"
        " VALUES (:org, :bot, :bot, :n, :state, 1, :job, 'v')",
        **values,
        state=state,
        job=job_id or uuid4(),
    )
    deployed.rows.sql(
        "INSERT INTO pages (org_id, bot_id, source_id, generation, url, outcome)"
        " SELECT :org, :bot, :bot, :n, 'u' || i, 'indexed' FROM generate_series(1, :pages) AS i",
        **values,
        pages=pages,
    )


def generations(deployed: Deployment) -> dict[int, str]:
    found = deployed.rows.sql("SELECT generation, state FROM generations WHERE source_id = bot_id")
    return {row["generation"]: row["state"] for row in found}


def test_what_no_reader_can_see_goes_and_the_rest_stays(deployed: Deployment) -> None:
    for number, state in enumerate(("discarded", "kept", "live", "discarded", "parked"), 1):
        add_generation(deployed, state, number)
    deployed.sweeper().collect()
    assert generations(deployed) == {2: "kept", 3: "live", 5: "parked"}
    assert deployed.rows.sql("SELECT DISTINCT generation FROM pages ORDER BY 1") == [
        {"generation": number} for number in (2, 3, 5)
    ]


def test_builds_of_runs_that_are_over_go_and_those_under_way_stay(deployed: Deployment) -> None:
    for number, status in enumerate(("failed", "quarantined", "running", "waiting"), 1):
        run = claimed(deployed, uuid4())
        deployed.rows.change(run.job_id, status=status)
        add_generation(deployed, "building", number, job_id=run.job_id)
    deployed.sweeper().collect()
    assert generations(deployed) == {3: "building", 4: "building"}


def test_tasks_that_outlived_their_run_go(deployed: Deployment) -> None:
    over, running = claimed(deployed, uuid4()), deployed.rows.claimed(holder="worker-2")
    for run in (over, running):
        deployed.rows.add_task("pages", run)
        deployed.rows.sql("DELETE FROM training_tasks WHERE task_id = :id", id=run.task_id)
    deployed.rows.change(over.job_id, status="cancelled")
    deployed.sweeper().collect()
    assert [row["job_id"] for row in deployed.rows.sql("SELECT job_id FROM training_tasks")] == [running.job_id]


def test_runs_that_were_over_long_ago_go_but_for_each_sources_newest(deployed: Deployment) -> None:
    source_id, kept = uuid4(), []
    for days, status in ((50, "succeeded"), (40, "failed"), (20, "succeeded"), (10, "succeeded")):
        job_id = deployed.rows.wait(source_id)
        at = f"(now() - interval '{days} days')"
        deployed.rows.change(job_id, status=status, created_at=at, finished_at=at)
        kept += [job_id] if days < 30 else []
    alone = deployed.rows.wait()
    deployed.rows.change(alone, status="failed", finished_at="(now() - interval '99 days')")
    sweeper = deployed.sweeper()
    for _ in range(2):
        sweeper.prune()
        left = {row["job_id"] for row in deployed.rows.sql("SELECT job_id FROM training_jobs")}
        assert left == {*kept, alone}
        deployed.rows.sql("UPDATE training_jobs SET finished_at = now() - interval '31 days'")  # not before an hour


def test_a_large_generation_is_removed_over_some_sweeps(deployed: Deployment) -> None:
    add_generation(deployed, "discarded", 1, pages=25_000)
    left = []
    for _ in range(3):
        deployed.sweeper().collect()
        left.append(deployed.rows.sql("SELECT count(*) AS n FROM pages")[0]["n"])
    assert left == [5_000, 0, 0]
    assert generations(deployed) == {}


# --- one at a time ---------------------------------------------------------------------------------------------------


def test_one_sweeper_at_a_time_and_a_dead_ones_lease_passes_on(deployed: Deployment) -> None:
    first, second = deployed.sweeper("one"), deployed.sweeper("two")
    assert (first.sweep(), second.sweep(), first.sweep()) == (True, False, True)
    deployed.rows.sql("UPDATE leases SET expires_at = now() - interval '1 second'")
    assert (second.sweep(), first.sweep()) == (True, False)
    [lease] = deployed.rows.sql("SELECT holder, swept_at IS NOT NULL AS swept FROM leases")
    assert lease == {"holder": "two", "swept": True}


@pytest.mark.parametrize(
    ("meanwhile", "kept"),
    [
        ("expires_at = now() + interval '1 second'", True),
        ("holder = 'two', expires_at = now() + interval '9 s'", False),
    ],
)
def test_a_long_sweep_keeps_its_lease_and_is_recorded(deployed: Deployment, meanwhile: str, *, kept: bool) -> None:
    dashboard = create_engine(deployed.dashboard.url)
    event.listen(dashboard, "connect", lambda *_: deployed.rows.sql(f"UPDATE leases SET {meanwhile}"))
    assert deployed.sweeper("one", dashboard=dashboard).sweep()
    dashboard.dispose()
    [lease] = deployed.rows.sql("SELECT holder, swept_at, expires_at - now() > interval '10 s' AS fresh FROM leases")
    assert (lease["holder"], lease["fresh"]) == (("one", True) if kept else ("two", False))
    assert lease["swept_at"]


def test_a_duty_that_breaks_stops_no_other_and_not_the_sweeper(deployed: Deployment) -> None:
    job_id = deployed.rows.wait()
    deployed.sql("ALTER TABLE training_sources RENAME COLUMN status TO stat")
    try:
        assert deployed.sweeper().sweep()
    finally:
        deployed.sql("ALTER TABLE training_sources RENAME COLUMN stat TO status")
    assert deployed.bells() == [str(job_id)]
    assert deployed.rows.sql("SELECT swept_at FROM leases")[0]["swept_at"]


def test_a_chat_database_that_is_away_is_waited_for(deployed: Deployment) -> None:
    away = engine_of(AWAY)
    ended = threading.Event()
    sweeper = Sweeper(Engines(away, deployed.dashboard), deployed.redis, SETTINGS, "one")
    thread = threading.Thread(target=sweeper.run, args=(ended,))
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    ended.set()
    thread.join(10)
    assert not thread.is_alive()
