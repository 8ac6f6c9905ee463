"""A source's ledger and generations: what is shown, back to the one before, and releasing one that was held."""

import base64
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.chat_api.training.office import READ, Office, Row

pytestmark = pytest.mark.stack
DIFF = {"removed": ["https://shop.example/old"], "removed_count": 1, "added_count": 0, "changed_count": 2}


@pytest.fixture
def source_id(office: Office) -> UUID:
    """A source with a live generation and the one before."""
    source_id = office.add_row(office.add_source(last_generation=2))
    office.add_generation(source_id, 1, "kept", "first")
    office.add_generation(source_id, 2, "live", "second", receipt={"tokens": 7})
    return source_id


def pages(office: Office, source_id: UUID, query: str = "") -> Row:
    found: Row = office.get(f"/sources/{source_id}/pages{query}", scope=READ)
    return found


def rollback(office: Office, source_id: UUID) -> tuple[int, Row]:
    answer = office.call("POST", f"/sources/{source_id}/rollback")
    return answer.status_code, answer.json()


def release(office: Office, source_id: UUID, number: int) -> tuple[int, Row]:
    answer = office.call("POST", f"/sources/{source_id}/generations/{number}/release")
    return answer.status_code, answer.json()


def states(office: Office, source_id: UUID) -> dict[int, str]:
    rows = office.chat("SELECT generation, state FROM generations WHERE source_id = %s", source_id)
    return {row["generation"]: row["state"] for row in rows}


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_the_ledger_shows_what_came_of_each_url(office: Office, source_id: UUID) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    office.add_page(
        source_id, 2, "https://shop.example/", content_sha256=b"\x01\xab", chunks=3, http_status=200, fetched_at=moment
    )
    office.add_page(source_id, 2, "https://shop.example/b", outcome="not_found", message="Gone.", http_status=404)
    office.add_page(source_id, 1, "https://shop.example/before")
    ledger = pages(office, source_id)
    assert ledger["next_cursor"] is None
    assert ledger["pages"] == [
        {
            **{"url": "https://shop.example/", "outcome": "indexed", "message": None, "http_status": 200},
            **{"fetched_at": "2026-01-01T00:00:00Z", "content_sha256": "01ab", "chunks": 3},
        },
        {
            **{"url": "https://shop.example/b", "outcome": "not_found", "message": "Gone.", "http_status": 404},
            **{"fetched_at": None, "content_sha256": None, "chunks": 0},
        },
    ]


def test_the_ledger_is_in_the_order_of_reading_and_then_of_addresses(office: Office, source_id: UUID) -> None:
    for position, url in enumerate(["start", "z", "a", "é", "B"]):
        office.add_page(source_id, 2, url, position=position)
    for url in ("skipped-z", "skipped-a", "Skipped"):
        office.add_page(source_id, 2, url, outcome="excluded")
    whole = [page["url"] for page in pages(office, source_id)["pages"]]
    assert whole[:5] == ["start", "z", "a", "é", "B"]
    for limit in (1, 3, 7):
        listed: list[str] = []
        query = f"?limit={limit}"
        while True:
            ledger = pages(office, source_id, query)
            listed += [page["url"] for page in ledger["pages"]]
            if not ledger["next_cursor"]:
                break
            query = f"?limit={limit}&cursor={ledger['next_cursor']}"
        assert listed == whole


def test_a_cursor_stays_with_its_generation(office: Office, source_id: UUID) -> None:
    for url in ("a", "b"):
        office.add_page(source_id, 2, url)
    cursor = pages(office, source_id, "?limit=1")["next_cursor"]
    rollback(office, source_id)
    assert pages(office, source_id)["pages"] == []
    assert [page["url"] for page in pages(office, source_id, f"?cursor={cursor}")["pages"]] == ["b"]


def test_any_generation_can_be_asked_for_that_is_not_discarded(office: Office, source_id: UUID) -> None:
    office.add_generation(source_id, 3, "building")
    office.add_generation(source_id, 4, "discarded")
    for number in (1, 3, 4):
        office.add_page(source_id, number, f"page-{number}")
    for number in (1, 3):
        ledger = pages(office, source_id, f"?generation={number}")
        assert [page["url"] for page in ledger["pages"]] == [f"page-{number}"]
    for number in (4, 9):
        answer = office.call("GET", f"/sources/{source_id}/pages?generation={number}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_generation")


def test_without_a_live_generation_the_newest_is_shown(office: Office) -> None:
    source_id = office.add_source()
    assert pages(office, source_id)["pages"] == pages(office, office.add_row())["pages"] == []
    office.add_generation(source_id, 1, "building")
    office.add_page(source_id, 1, "waits", outcome="waiting")
    assert [page["outcome"] for page in pages(office, source_id)["pages"]] == ["waiting"]


@pytest.mark.parametrize(
    "place",
    [r'[1,1,"\u0000"]', r'[1,1,"\ud800"]', '[1,-2,""]', '[1,99999999999,""]', f'[{10**30},1,""]', '[2147483648,1,""]'],
)
def test_a_cursor_that_no_row_can_have_is_refused(office: Office, source_id: UUID, place: str) -> None:
    cursor = base64.urlsafe_b64encode(place.encode()).decode()
    assert office.call("GET", f"/sources/{source_id}/pages?cursor={cursor}").status_code == 422


# --- generations -----------------------------------------------------------------------------------------------------


def test_generations_are_listed_with_what_they_hold(office: Office, source_id: UUID) -> None:
    office.add_generation(source_id, 3, "parked", "a", "b", held_by="removals_held", diff=DIFF)
    office.add_generation(source_id, 4, "building")
    office.add_generation(source_id, 5, "discarded")
    found = office.get(f"/sources/{source_id}/generations", scope=READ)
    shown = [(one["generation"], one["state"], one["documents"], one["chunks"]) for one in found["generations"]]
    assert shown == [(3, "parked", 1, 2), (2, "live", 1, 1), (1, "kept", 1, 1)]
    parked, live, _ = found["generations"]
    assert (parked["held_by"], parked["diff"], live["receipt"]) == ("removals_held", DIFF, {"tokens": 7})
    first = office.get(f"/sources/{source_id}/generations?limit=2")
    rest = office.get(f"/sources/{source_id}/generations?limit=2&cursor={first['next_cursor']}")
    assert (first["generations"] + rest["generations"], rest["next_cursor"]) == (found["generations"], None)


# --- rollback --------------------------------------------------------------------------------------------------------


def test_a_rollback_has_the_generation_before_answer(office: Office, source_id: UUID) -> None:
    status, body = rollback(office, source_id)
    assert (status, {one["generation"]: one["state"] for one in body["generations"]}) == (200, {1: "live", 2: "kept"})
    assert office.answering(source_id) == ["first"]
    assert office.chat("SELECT pinned_version FROM sources") == [{"pinned_version": "row-2"}]
    assert rollback(office, source_id)[0] == 200
    assert office.answering(source_id) == ["second"]
    assert office.chat("SELECT pinned_version FROM sources") == [{"pinned_version": "row-1"}]


def test_a_rollback_ends_what_is_in_training(office: Office, source_id: UUID) -> None:
    running = office.add_job(source_id, status="running")
    waiting = office.add_job(source_id)
    office.add_generation(source_id, 3, "building", "third", job_id=running)
    other = office.add_job()
    assert rollback(office, source_id)[0] == 200
    assert states(office, source_id) == {1: "live", 2: "kept", 3: "discarded"}
    assert {office.get(f"/jobs/{job_id}")["status"] for job_id in (running, waiting)} == {"cancelled"}
    assert [row["job_id"] for row in office.chat("SELECT job_id FROM training_tasks")] == [other]
    assert office.row(source_id)["status"] == "trained"


def test_without_a_generation_before_there_is_nothing_to_roll_back(office: Office, source_id: UUID) -> None:
    office.chat("UPDATE generations SET state = 'discarded' WHERE state = 'kept'")
    job_id = office.add_job(source_id)
    for source in (source_id, office.add_source(), office.add_row()):
        status, body = rollback(office, source)
        assert (status, body["code"]) == (409, "nothing_to_roll_back")
    assert office.answering(source_id) == ["second"]
    assert office.get(f"/jobs/{job_id}")["status"] == "waiting"


def test_a_deleted_source_is_not_brought_back(office: Office, source_id: UUID) -> None:
    assert office.call("DELETE", f"/delete/{source_id}").status_code == 200
    assert rollback(office, source_id)[0] == 409
    assert release(office, source_id, 1)[0] == 404
    assert office.answering(source_id) == []


def test_a_source_that_was_moved_is_deleted_by_a_token_of_the_bot_that_has_it(office: Office, source_id: UUID) -> None:
    office.chat("UPDATE sources SET deleted_at = now(), live_generation = NULL WHERE source_id = %s", source_id)
    new_bot = office.add_bot()
    office.chat(
        "INSERT INTO sources (org_id, bot_id, source_id) VALUES (%s, %s, %s)", office.org_id, new_bot, source_id
    )
    for method, path in (("GET", f"/sources/{source_id}/pages"), ("DELETE", f"/delete/{source_id}")):
        answer = office.call(method, path, bot_id=office.bot_id)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_bot")
    assert office.chat("SELECT bot_id FROM sources WHERE deleted_at IS NULL") == [{"bot_id": new_bot}]
    assert pages(office, source_id)["pages"] == []
    assert office.call("DELETE", f"/delete/{source_id}", bot_id=new_bot).status_code == 200
    assert office.chat("SELECT bot_id FROM sources WHERE deleted_at IS NULL") == []


def test_a_source_that_was_moved_and_never_trained_there_is_its_new_bots(office: Office, source_id: UUID) -> None:
    office.chat("UPDATE sources SET deleted_at = now(), live_generation = NULL WHERE source_id = %s", source_id)
    new_bot = office.add_bot()
    office.dashboard("UPDATE training_sources SET bot_id = %s, status = 'failed' WHERE id = %s", new_bot, source_id)
    for method, path in (("GET", f"/sources/{source_id}/generations"), ("DELETE", f"/delete/{source_id}")):
        assert office.call(method, path, bot_id=new_bot).status_code == 200


def test_a_deletion_ends_the_answers_of_every_bot_that_had_the_source(office: Office, source_id: UUID) -> None:
    new_bot = office.add_bot()
    office.chat(
        "INSERT INTO sources (org_id, bot_id, source_id, created_at) VALUES (%s, %s, %s, now() + interval '1 s')",
        *(office.org_id, new_bot, source_id),
    )
    answer = office.call("DELETE", f"/delete/{source_id}", bot_id=new_bot)
    assert (answer.status_code, answer.json()["chunks"]) == (200, 1)
    assert office.answering(source_id) == []
    assert set(states(office, source_id).values()) == {"discarded"}


@pytest.mark.parametrize("state", ["kept", "parked"])
def test_what_the_bot_can_not_search_does_not_go_live(office: Office, source_id: UUID, state: str) -> None:
    office.add_generation(source_id, 3, "parked", "third")
    job_id = office.add_job(source_id)
    office.chat("UPDATE bots SET space_id = %s", office.space("another"))
    office.chat("UPDATE generations SET state = %s WHERE generation = 1", state)
    status, body = rollback(office, source_id) if state == "kept" else release(office, source_id, 3)
    assert (status, body["code"]) == (409, "other_embedding_space")
    assert states(office, source_id) == {1: state, 2: "live", 3: "parked"}
    assert office.get(f"/jobs/{job_id}")["status"] == "waiting"


# --- release ---------------------------------------------------------------------------------------------------------


def parked(office: Office, source_id: UUID) -> UUID:
    held: Row = {"error_code": "removals_held", "error_message": "Much is gone.", "error_retryable": False}
    job_id = office.add_job(source_id, status="failed", **held)
    office.add_generation(source_id, 3, "parked", "third", held_by="removals_held", diff=DIFF, job_id=job_id)
    return job_id


def test_a_released_generation_answers_and_its_job_has_succeeded(office: Office, source_id: UUID) -> None:
    job_id = parked(office, source_id)
    office.chat("UPDATE sources SET pinned_version = 'row-2'")
    status, body = release(office, source_id, 3)
    assert (status, [(one["generation"], one["state"]) for one in body["generations"]]) == (
        200,
        [(3, "live"), (2, "kept")],
    )
    assert (body["generations"][0]["held_by"], body["generations"][0]["diff"]) == (None, DIFF)
    assert body["generations"][0]["switched_at"]
    assert office.answering(source_id) == ["third"]
    assert states(office, source_id)[1] == "discarded"
    assert office.chat("SELECT pinned_version FROM sources") == [{"pinned_version": None}]
    job = office.get(f"/jobs/{job_id}")
    assert (job["status"], job["error"]) == ("succeeded", None)
    row = office.row(source_id)
    assert (row["status"], row["error_code"], row["job_id"]) == ("trained", None, job_id)


def test_a_release_does_not_speak_over_a_newer_job(office: Office, source_id: UUID) -> None:
    job_id = parked(office, source_id)
    newer = office.add_job(source_id)
    assert release(office, source_id, 3)[0] == 200
    assert office.answering(source_id) == ["third"]
    assert office.get(f"/jobs/{job_id}")["status"] == "failed"
    assert office.get(f"/jobs/{newer}")["status"] == "waiting"
    assert office.row(source_id)["job_id"] is None


def test_only_a_parked_generation_is_released(office: Office, source_id: UUID) -> None:
    office.add_generation(source_id, 3, "building")
    office.add_generation(source_id, 4, "discarded")
    for number in (1, 2, 3):
        status, body = release(office, source_id, number)
        assert (status, body["code"]) == (409, "not_parked")
    for number in (4, 9):
        status, body = release(office, source_id, number)
        assert (status, body["code"]) == (404, "unknown_generation")
    assert office.answering(source_id) == ["second"]


def test_a_first_generation_that_was_held_is_released_where_none_answers(office: Office) -> None:
    source_id = office.add_row(office.add_source())
    office.add_generation(source_id, 1, "parked", "first")
    assert release(office, source_id, 1)[0] == 200
    assert office.answering(source_id) == ["first"]
