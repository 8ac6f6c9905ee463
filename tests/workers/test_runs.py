"""A run's life on a real database: one owner at a time, no write without its fence, and always an end."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from chat_api.core.database import make_engines
from chat_api.core.errors import (
    EmbeddingThrottled,
    EmbeddingUnavailable,
    FetchFailed,
    NoText,
    ServiceError,
    StorageUnavailable,
)
from chat_api.core.settings import Settings
from tests.workers.chat_rows import ChatRows
from workers.runs import (
    LeaseLostError,
    Run,
    RunCancelledError,
    assert_held,
    claim,
    expire_leases,
    note_version,
    renew,
    retry_in,
    settle,
)

pytestmark = pytest.mark.stack
PROGRESS: dict[str, Any] = {"stage": "embed", "done": 3, "total": 10, "unit": "chunks"}
PAST = "(now() - interval '1 second')"


def take(rows: ChatRows, holder: str = "worker-1") -> Run | None:
    with rows.engine.begin() as connection:
        return claim(connection, holder)


def end(rows: ChatRows, run: Run, status: str, error: ServiceError | None = None, **options: Any) -> str | None:
    with rows.engine.begin() as connection:
        return settle(connection, run, status, error=error, **options)


def expire(rows: ChatRows) -> list[Row[Any]]:
    with rows.engine.begin() as connection:
        return expire_leases(connection, code="crashed_repeatedly", message="It crashed.")


# --- claim -----------------------------------------------------------------------------------------------------------


def test_many_workers_get_every_run_once(rows: ChatRows) -> None:
    expected = {rows.wait() for _ in range(40)}

    def work(number: int) -> list[Run]:
        taken = []
        while run := take(rows, f"worker-{number}"):
            taken.append(run)
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [run for runs in threads.map(work, range(8)) for run in runs]
    assert {run.job_id for run in taken} == expected
    assert len(taken) == len({run.fence for run in taken}) == 40


def test_the_owner_waits_for_no_bulk_and_the_oldest_comes_first(rows: ChatRows) -> None:
    bulk = rows.wait(priority="bulk", created_at="(now() - interval '1 day')")
    young = rows.wait()
    old = rows.wait(created_at="(now() - interval '1 hour')")
    rows.wait(run_after="(now() + interval '1 hour')")
    assert [run and run.job_id for run in (take(rows), take(rows), take(rows), take(rows))] == [old, young, bulk, None]


def test_a_source_is_trained_by_one_run_at_a_time(rows: ChatRows) -> None:
    source_id = uuid4()
    first = rows.claimed(source_id)
    second = rows.wait(source_id)
    assert take(rows) is None
    end(rows, first, "succeeded")
    run = take(rows)
    assert run is not None
    assert (run.job_id, run.fence > first.fence) == (second, True)


def test_a_claim_forgets_what_the_last_attempt_said(rows: ChatRows) -> None:
    run = rows.claimed()
    with rows.engine.begin() as connection:
        note_version(connection, run, "v1")
    end(rows, run, "waiting", FetchFailed())
    again = take(rows)
    assert again is not None
    row = rows.job(run.job_id)
    assert (row["source_version"], row["error_code"], row["attempt"]) == (None, None, 2)


def test_an_edit_before_the_claim_is_found_by_its_version(rows: ChatRows) -> None:
    run = rows.claimed()
    with rows.engine.begin() as connection:
        note_version(connection, run, "v1")
        note_version(connection, replace(run, fence=run.fence - 1), "stale")
    assert rows.job(run.job_id)["source_version"] == "v1"


# --- renew, held -----------------------------------------------------------------------------------------------------


def test_renewing_lengthens_the_lease_and_tells_progress_once(rows: ChatRows) -> None:
    run = rows.claimed(lease_expires_at="(now() + interval '1 second')")
    versions = [rows.job(run.job_id)["status_version"]]
    for done in (3, 3, 4):
        with rows.engine.begin() as connection:
            renew(connection, run, {**PROGRESS, "done": done})
        versions.append(rows.job(run.job_id)["status_version"])
    assert versions[0] < versions[1] == versions[2] < versions[3]
    [left] = rows.sql("SELECT extract(epoch FROM lease_expires_at - now()) AS seconds FROM training_jobs")
    assert left["seconds"] > 50
    assert rows.job(run.job_id)["progress_done"] == 4


LOST: dict[str, dict[str, object]] = {
    "the lease is over": {"lease_expires_at": PAST},
    "the fence is another's": {"fence": "(nextval('fences'))"},
    "the run is over": {"status": "failed"},
    "the run waits again": {"status": "waiting"},
}


@pytest.mark.parametrize("why", LOST)
def test_a_worker_that_lost_its_run_is_told(rows: ChatRows, why: str) -> None:
    run = rows.claimed()
    rows.change(run.job_id, **LOST[why])
    before = rows.job(run.job_id)
    with rows.engine.begin() as connection, pytest.raises(LeaseLostError):
        renew(connection, run, PROGRESS)
    with rows.engine.begin() as connection, pytest.raises(LeaseLostError):
        assert_held(connection, run)
    assert rows.job(run.job_id) == before


def test_a_worker_whose_run_is_cancelled_is_told(rows: ChatRows) -> None:
    run = rows.claimed(cancel_requested_at="(now())")
    with rows.engine.begin() as connection, pytest.raises(RunCancelledError):
        renew(connection, run, PROGRESS)
    with rows.engine.begin() as connection, pytest.raises(RunCancelledError):
        assert_held(connection, run)


# --- settle ----------------------------------------------------------------------------------------------------------


def test_settling_ends_a_run_once(rows: ChatRows) -> None:
    run = rows.claimed()
    assert end(rows, run, "failed", NoText(), progress=PROGRESS) == "failed"
    row = rows.job(run.job_id)
    assert (row["status"], row["error_code"], row["stage"], row["lease_holder"]) == ("failed", "no_text", "embed", None)
    assert row["finished_at"]
    assert end(rows, run, "succeeded") is None
    assert rows.job(run.job_id) == row


def test_a_zombie_settles_nothing(rows: ChatRows) -> None:
    old = rows.claimed(lease_expires_at=PAST)
    expire(rows)
    new = take(rows)
    assert new is not None
    before = rows.job(old.job_id)
    assert end(rows, old, "failed", NoText()) is None
    assert rows.job(old.job_id) == before


def test_a_run_that_waits_again_keeps_its_reason(rows: ChatRows) -> None:
    run = rows.claimed()
    assert end(rows, run, "waiting", FetchFailed("away"), wait_s=100) == "waiting"
    row = rows.job(run.job_id)
    assert (row["error_code"], row["error_retryable"], row["finished_at"], row["attempt"]) == (
        "fetch_failed", True, None, 1,
    )  # fmt: skip
    assert take(rows) is None


def test_a_run_handed_back_is_due_at_once_and_has_spent_nothing(rows: ChatRows) -> None:
    run = rows.claimed()
    end(rows, run, "waiting", refund=True)
    again = take(rows, "worker-2")
    assert again is not None
    assert (again.job_id, again.attempt) == (run.job_id, 1)


def test_a_run_that_would_wait_again_gives_way_to_a_newer_one(rows: ChatRows) -> None:
    source_id = uuid4()
    run = rows.claimed(source_id)
    newer = rows.wait(source_id)
    assert end(rows, run, "waiting", FetchFailed(), wait_s=5) == "cancelled"
    assert rows.job(run.job_id)["finished_at"]
    following = take(rows)
    assert following is not None
    assert following.job_id == newer


def test_a_newer_run_that_comes_at_the_same_moment_is_met_at_the_second_try(rows: ChatRows) -> None:
    source_id = uuid4()
    run = rows.claimed(source_id)
    with ThreadPoolExecutor(1) as threads, rows.engine.connect() as other:
        other.exec_driver_sql(
            "INSERT INTO training_jobs (job_id, org_id, bot_id, source_id) VALUES (%s, %s, %s, %s)",
            (uuid4(), rows.org_id, rows.bot_id, source_id),
        )
        settling = threads.submit(end, rows, run, "waiting", FetchFailed())
        _wait_for_a_lock(rows)
        other.commit()
        with pytest.raises(IntegrityError):
            settling.result(10)
    assert end(rows, run, "waiting", FetchFailed()) == "cancelled"


def _wait_for_a_lock(rows: ChatRows) -> None:
    deadline = time.monotonic() + 10
    while not rows.sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_is_to_be_cancelled_does_not_wait_again(rows: ChatRows) -> None:
    run = rows.claimed(cancel_requested_at="(now())")
    assert end(rows, run, "waiting", FetchFailed(), wait_s=300) == "cancelled"


def test_strangers_words_are_stored_as_far_as_they_can_be(rows: ChatRows) -> None:
    run = rows.claimed()
    end(rows, run, "failed", NoText("a\0b \ud800 c"))
    assert rows.job(run.job_id)["error_message"] == "ab ? c"


# --- expiry ----------------------------------------------------------------------------------------------------------


def test_a_dead_workers_run_waits_again_and_the_third_death_sets_it_aside(rows: ChatRows) -> None:
    run = rows.claimed()
    outcomes = []
    for _ in range(3):
        rows.change(run.job_id, lease_expires_at=PAST, stage="extract")
        outcomes += [(row.status, row.crash_count) for row in expire(rows)]
        rows.change(run.job_id, run_after=PAST)
        take(rows)
    assert outcomes == [("waiting", 1), ("waiting", 2), ("quarantined", 3)]
    row = rows.job(run.job_id)
    assert (row["error_code"], row["error_message"], row["error_retryable"]) == (
        "crashed_repeatedly", "It crashed. (at: extract)", False,
    )  # fmt: skip
    assert row["finished_at"]


def test_only_a_lease_that_is_over_expires(rows: ChatRows) -> None:
    run = rows.claimed()
    assert expire(rows) == []
    assert rows.job(run.job_id)["status"] == "running"


def test_a_row_that_its_worker_holds_is_left_for_the_next_sweep(rows: ChatRows) -> None:
    run = rows.claimed(lease_expires_at="(now() + interval '0.2 seconds')")
    with rows.engine.begin() as connection:
        assert_held(connection, run)
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")
        assert expire(rows) == []
    assert len(expire(rows)) == 1


def test_a_dead_run_gives_way_to_a_newer_one_and_stops_no_other(rows: ChatRows) -> None:
    source_id = uuid4()
    run, alone = rows.claimed(source_id), rows.claimed()
    rows.wait(source_id)
    for job_id in (run.job_id, alone.job_id):
        rows.change(job_id, lease_expires_at=PAST)
    assert {row.job_id: row.status for row in expire(rows)} == {run.job_id: "cancelled", alone.job_id: "waiting"}
    assert rows.job(run.job_id)["finished_at"]


def test_a_dead_run_that_was_to_be_cancelled_is(rows: ChatRows) -> None:
    run = rows.claimed(lease_expires_at=PAST, cancel_requested_at="(now())", crash_count=2)
    assert [row.status for row in expire(rows)] == ["cancelled"]
    assert rows.job(run.job_id)["error_code"] is None


# --- retries ---------------------------------------------------------------------------------------------------------


RUN = Run(UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4), 1, 1, False, 0.0, None)


@pytest.mark.parametrize(
    ("error", "attempt", "age_s", "between"),
    [
        (FetchFailed(), 1, 0, (4, 6)),
        (FetchFailed(), 4, 0, (32, 48)),
        (FetchFailed(), 5, 0, None),
        (ServiceError(), 5, 0, None),
        (NoText(), 1, 0, None),
        (EmbeddingUnavailable(), 5, 0, (4, 6)),
        (StorageUnavailable(), 50, 400, (80, 120)),
        (StorageUnavailable(), 1, 80_000, (240, 360)),
        (StorageUnavailable(), 1, 90_000, None),
        (EmbeddingThrottled(retry_after=700), 1, 0, (700, 700)),
        (EmbeddingThrottled(retry_after=1e9), 1, 0, (3600, 3600)),
    ],
)
def test_retries(error: ServiceError, attempt: int, age_s: float, between: tuple[float, float] | None) -> None:
    wait = retry_in(replace(RUN, attempt=attempt, age_s=age_s), error)
    assert wait is None if between is None else wait is not None and between[0] <= wait <= between[1]


def test_a_stopped_workers_locks_are_bounded(settings: Settings) -> None:
    def limits(connection: Connection) -> list[str]:
        names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]

    engines = make_engines(settings)
    for engine in (engines.chat, engines.dashboard):
        with engine.begin() as connection:
            assert limits(connection) == ["5s", "1min", "30s"]
        engine.dispose()
