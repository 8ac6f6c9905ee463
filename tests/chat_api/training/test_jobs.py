"""The jobs' list and their cancelling: the right page, the right place in the queue, one end, nobody else's."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from chat_api.core import database
from chat_api.training import cancel
from tests.chat_api.training.office import READ, WRITE, Office

pytestmark = pytest.mark.stack


def places(office: Office, job_ids: list[UUID], org_id: UUID | None = None) -> list[int]:
    claims: dict[str, Any] = {"org_id": org_id} if org_id else {}
    return [office.get(f"/jobs/{job_id}", **claims)["queue_position"] for job_id in job_ids]


def reason(office: Office, job_id: UUID) -> str | None:
    found: str | None = office.get(f"/jobs/{job_id}")["waiting_reason"]
    return found


def test_a_database_that_does_not_answer_is_told_as_one(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.get("/jobs")
    monkeypatch.setattr(database, "ANSWER_WITHIN_S", 0.5)
    with psycopg.connect(office.chat_dsn) as holder:
        holder.execute("LOCK TABLE training_jobs IN ACCESS EXCLUSIVE MODE")
        answer = office.call("GET", "/jobs")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    office.get("/jobs")


# --- the list --------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_page_by_page(office: Office) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    made = [office.add_job(created_at=moment + timedelta(seconds=number // 3)) for number in range(8)]
    listed: list[str] = []
    cursor = None
    for _ in range(4):
        page = office.get(f"/jobs?limit=3{f'&cursor={cursor}' if cursor else ''}")
        listed += [job["job_id"] for job in page["jobs"]]
        if (cursor := page["next_cursor"]) is None:
            break
    newest_first = sorted(made, key=lambda job_id: (-(made.index(job_id) // 3), -job_id.int))
    assert listed == [str(job_id) for job_id in newest_first]
    assert cursor is None


def test_a_list_as_long_as_the_limit_has_no_next_page(office: Office) -> None:
    for _ in range(3):
        office.add_job()
    assert office.get("/jobs?limit=3")["next_cursor"] is None
    assert office.get("/jobs?limit=2")["next_cursor"]


def test_a_list_can_be_narrowed(office: Office) -> None:
    other = office.add_bot()
    mine, theirs = office.add_job(status="failed"), office.add_job(bot_id=other)
    [source] = office.chat("SELECT source_id FROM training_jobs WHERE job_id = %s", mine)

    def listed(query: str, **claims: Any) -> set[str]:
        return {job["job_id"] for job in office.get(f"/jobs?{query}", **claims)["jobs"]}

    assert listed("") == {str(mine), str(theirs)}
    assert listed(f"bot_id={other}") == listed("", bot_id=other) == {str(theirs)}
    assert listed(f"source_id={source['source_id']}") == {str(mine)}
    assert listed("status=failed") == {str(mine)}
    assert listed("status=succeeded") == set()


def test_a_job_and_its_list_show_the_same_and_are_not_cached(office: Office) -> None:
    job_id = office.add_job(status="failed", error_code="no_text", error_message="Nothing.", error_retryable=False)
    answer = office.call("GET", f"/jobs/{job_id}", scope=READ)
    assert office.get("/jobs")["jobs"] == [answer.json()]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["error"] == {"code": "no_text", "message": "Nothing.", "retryable": False}


@pytest.mark.parametrize(
    "query",
    [
        *("status=done", "limit=0", "limit=501", "bot_id=x", "cursor=%C3%A9", "cursor=e30=", "cursor=abc"),
        *(
            f"cursor={base64.urlsafe_b64encode(text).decode()}"
            for text in (b'["2026-01-01", 5]', b"\xff", b"[]", b"null")
        ),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(office: Office, query: str) -> None:
    answer = office.call("GET", f"/jobs?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.headers["content-type"] == "application/problem+json"


# --- whose -----------------------------------------------------------------------------------------------------------


def test_another_orgs_ids_are_unknown(office: Office) -> None:
    other_org = uuid4()
    other_bot = office.add_bot(other_org)
    source_id = office.add_source(org_id=other_org, bot_id=other_bot)
    job_id = office.add_job(source_id, org_id=other_org, bot_id=other_bot)
    assert office.get("/jobs")["jobs"] == []
    for method, path in (
        *(("GET", f"/jobs/{job_id}"), ("POST", f"/jobs/{job_id}/cancel")),
        *(("GET", f"/jobs?source_id={source_id}"), ("GET", f"/jobs?bot_id={other_bot}")),
        *(("GET", f"/sources/{source_id}/{part}") for part in ("pages", "generations")),
        *(("POST", f"/sources/{source_id}/{part}") for part in ("rollback", "generations/1/release")),
        ("GET", f"/events?bot_id={other_bot}"),
    ):
        answer = office.call(method, path)
        unknown = office.call(method, path.replace(str(job_id), str(uuid4())).replace(str(source_id), str(uuid4())))
        assert answer.status_code == 404, path
        assert answer.content == unknown.content
    assert office.chat("SELECT status FROM training_jobs") == [{"status": "waiting"}]


def test_a_token_of_one_bot_sees_and_ends_no_others_jobs(office: Office) -> None:
    job_id, other = office.add_job(), office.add_bot()
    [row] = office.chat("SELECT source_id FROM training_jobs")
    for method, path in (
        *(("GET", f"/jobs/{job_id}"), ("POST", f"/jobs/{job_id}/cancel")),
        *(("GET", f"/jobs?bot_id={office.bot_id}"), ("GET", f"/jobs?source_id={row['source_id']}")),
        *(("GET", f"/sources/{row['source_id']}/pages"), ("POST", f"/sources/{row['source_id']}/rollback")),
        ("GET", f"/events?bot_id={office.bot_id}"),
    ):
        answer = office.call(method, path, bot_id=other)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_bot"), path


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/jobs", WRITE),
        ("GET", "/events", WRITE),
        ("POST", f"/jobs/{UUID(int=1)}/cancel", READ),
        ("GET", f"/sources/{UUID(int=1)}/pages", WRITE),
        ("GET", f"/sources/{UUID(int=1)}/generations", WRITE),
        ("POST", f"/sources/{UUID(int=1)}/rollback", READ),
        ("POST", f"/sources/{UUID(int=1)}/generations/1/release", READ),
    ],
)
def test_reading_is_not_writing(office: Office, method: str, path: str, scope: str) -> None:
    assert office.call(method, path, scope=scope).json()["code"] == "missing_scope"
    bare = office.http.request(method, f"/api/training{path}")
    assert (bare.status_code, bare.headers["content-type"]) == (401, "application/problem+json")


def test_a_bot_without_jobs_and_a_row_never_queued_are_known(office: Office) -> None:
    assert office.get(f"/jobs?bot_id={office.bot_id}&source_id={office.add_row()}")["jobs"] == []


# --- the place in the queue ------------------------------------------------------------------------------------------


def test_within_one_org_the_oldest_is_first_and_bulk_comes_after_all_others(office: Office) -> None:
    bulk = [office.add_job(priority="bulk") for _ in range(2)]
    urgent = [office.add_job() for _ in range(3)]
    assert places(office, urgent) == [1, 2, 3]
    assert places(office, bulk) == [4, 5]


def test_equal_orgs_take_turns(office: Office) -> None:
    other_org = uuid4()
    other_bot = office.add_bot(other_org)
    mine, theirs = [], []
    for _ in range(3):
        mine.append(office.add_job())
        theirs.append(office.add_job(org_id=other_org, bot_id=other_bot))
    assert places(office, mine) == [2, 4, 6]
    assert places(office, theirs, other_org) == [2, 4, 6]


def test_a_large_org_does_not_push_a_small_one_back(office: Office) -> None:
    other_org = uuid4()
    other_bot = office.add_bot(other_org)
    theirs = [office.add_job(org_id=other_org, bot_id=other_bot, priority="bulk") for _ in range(5)]
    mine = [office.add_job(priority="bulk"), office.add_job()]
    assert places(office, mine) == [1 + 1 + 1, 1]
    assert places(office, theirs, other_org) == [3, 4, 5, 6, 7]


def test_what_waits_for_its_next_try_is_before_nobody(office: Office) -> None:
    later = office.add_job(task={"run_after": "tomorrow"}, error_code="timeout", error_message="Late.")
    soon = office.add_job()
    assert places(office, [soon, later]) == [1, 2]
    job = office.get(f"/jobs/{later}")
    assert (job["waiting_reason"], job["error"]["code"]) == ("retry_later", "timeout")


# --- why it waits ----------------------------------------------------------------------------------------------------


def test_a_job_says_that_nobody_is_there_to_take_it(office: Office) -> None:
    job_id = office.add_job()
    assert reason(office, job_id) == "in_queue"
    office.chat("UPDATE leases SET swept_at = now() - interval '61 seconds'")
    assert reason(office, job_id) == "no_workers"
    office.add_job(status="running", task={"lease_expires_at": "tomorrow"})
    assert reason(office, job_id) == "in_queue"
    office.chat("UPDATE training_tasks SET lease_expires_at = now() WHERE status = 'running'")
    assert reason(office, job_id) == "no_workers"


def test_a_job_says_that_its_org_has_its_share(office: Office) -> None:
    job_id = office.add_job()
    for holder in ("worker-1", "worker-1", "worker-2"):
        assert reason(office, job_id) == "in_queue"
        office.add_job(status="running", task={"lease_holder": holder})
        renewed(office, seconds_ago=0)
    assert reason(office, job_id) == "org_limit"


def test_workers_that_fell_silent_are_no_share_of_their_orgs(office: Office) -> None:
    job_id = office.add_job()
    for holder in ("worker-1", "worker-2"):
        office.add_job(status="running", task={"lease_holder": holder})
    renewed(office, seconds_ago=12)
    assert reason(office, job_id) == "in_queue"


def renewed(office: Office, seconds_ago: int) -> None:
    """All who hold a task have renewed their leases of a minute then."""
    left = f"now() + interval '{60 - seconds_ago} seconds'"
    office.chat(f"UPDATE training_tasks SET lease_expires_at = {left} WHERE status = 'running'")


def test_a_job_says_that_its_source_is_in_training(office: Office) -> None:
    source_id = office.add_source()
    running, waiting = office.add_job(source_id, status="running"), office.add_job(source_id)
    assert (reason(office, running), reason(office, waiting)) == (None, "source_is_running")
    assert office.get(f"/jobs/{running}")["queue_position"] is None


# --- cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["waiting", "running"])
def test_a_cancelled_job_is_over_at_once_and_leaves_nothing(office: Office, status: str) -> None:
    source_id = office.add_source()
    office.add_row(source_id)
    job_id = office.add_job(source_id, status=status)
    office.add_generation(source_id, 1, "building", "half", job_id=job_id)
    answer = office.call("POST", f"/jobs/{job_id}/cancel", scope=WRITE)
    assert (answer.status_code, answer.json()["status"], answer.json()["job_id"]) == (202, "cancelled", str(job_id))
    assert answer.json()["finished_at"]
    assert office.chat("SELECT 1 FROM training_tasks") == []
    assert office.chat("SELECT state FROM generations") == [{"state": "discarded"}]
    row = office.row(source_id)
    assert (row["status"], row["error_code"], row["job_id"]) == ("cancelled", "cancelled", job_id)


def test_a_cancelled_retrain_leaves_the_old_answers_and_says_so(office: Office) -> None:
    source_id = office.add_source()
    office.add_row(source_id)
    office.add_generation(source_id, 1, "live", "old")
    office.call("POST", f"/jobs/{office.add_job(source_id, status='running')}/cancel")
    assert office.answering(source_id) == ["old"]
    row = office.row(source_id)
    assert (row["status"], row["error_code"]) == ("trained", "cancelled")


@pytest.mark.parametrize("table", ["sources", "training_tasks", "training_jobs", "generations"])
def test_a_run_that_others_hold_is_said_to_be_held(office: Office, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    source_id = office.add_source()
    job_id = office.add_job(source_id, status="running")
    office.add_generation(source_id, 1, "building", job_id=job_id)
    monkeypatch.setattr(cancel, "LOCKS_WITHIN_S", 0.5)
    with psycopg.connect(office.chat_dsn) as holder:
        rows = holder.execute(f"SELECT FROM {table} WHERE source_id = %s FOR UPDATE".encode(), [source_id])
        assert rows.rowcount == 1
        answer = office.call("POST", f"/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (503, "held")
        assert office.get(f"/jobs/{job_id}")["status"] == "running"
    assert office.call("POST", f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "quarantined"])
def test_a_job_that_is_over_stays_as_it_is(office: Office, status: str) -> None:
    job_id = office.add_job(status=status)
    before = office.chat("SELECT * FROM training_jobs")
    answer = office.call("POST", f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, status)
    assert office.chat("SELECT * FROM training_jobs") == before


def test_the_job_that_waits_behind_a_cancelled_one_goes_on(office: Office) -> None:
    source_id = office.add_source()
    office.add_row(source_id)
    running, waiting = office.add_job(source_id, status="running"), office.add_job(source_id)
    office.call("POST", f"/jobs/{running}/cancel")
    assert reason(office, waiting) == "in_queue"
    assert [row["job_id"] for row in office.chat("SELECT job_id FROM training_tasks")] == [waiting]
    row = office.row(source_id)
    assert (row["status"], row["job_id"], row["error_code"]) == ("queued", waiting, None)


def test_a_run_goes_on_when_the_job_behind_it_is_cancelled(office: Office) -> None:
    source_id = office.add_source()
    office.add_row(source_id)
    running, waiting = office.add_job(source_id, status="running"), office.add_job(source_id)
    office.chat("UPDATE training_jobs SET progress_done = 3, progress_total = 4 WHERE job_id = %s", running)
    office.call("POST", f"/jobs/{waiting}/cancel")
    row = office.row(source_id)
    assert (row["status"], row["job_id"], row["progress"], row["error_code"]) == ("processing", running, 75, None)


# --- described -------------------------------------------------------------------------------------------------------


def test_the_routes_are_described_with_their_problems(office: Office) -> None:
    described = office.http.get("/openapi.json").json()["paths"]
    source = "/sources/{source_id}"
    expected = {
        **{("get", "/jobs"): {200}, ("get", "/jobs/{job_id}"): {200}, ("post", "/jobs/{job_id}/cancel"): {202}},
        **{("get", f"{source}/pages"): {200}, ("get", f"{source}/generations"): {200}},
        **{
            ("post", f"{source}/rollback"): {200, 409},
            ("post", f"{source}/generations/{{number}}/release"): {200, 409},
        },
        **{("get", "/events"): {200, 429}, ("post", "/queue"): {200, 202}},
    }
    for (method, path), statuses in expected.items():
        answers = described[f"/api/training{path}"][method]["responses"]
        assert {int(status) for status in answers} == statuses | {401, 403, 404, 422, 503}, path
        assert "application/problem+json" in answers["422"]["content"]
    assert list(described["/api/training/events"]["get"]["responses"]["200"]["content"]) == ["text/event-stream"]
