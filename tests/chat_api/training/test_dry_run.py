"""Dry runs as the API sees them: workers' findings are added up, the late are said so, and nothing is left behind."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.chat_api.training.conftest import DRY_RUN_S
from tests.chat_api.training.office import Office, Row

pytestmark = pytest.mark.stack
FOUND = {
    **{"type": "site", "pages": {"fetch": 3, "unchanged": 1, "skip": {"excluded": 2}}, "chunks": 9, "tokens": 1200},
    **{"cost": 0.000024, "error": None, "complete": True, "notes": ["Extrapolated from 20 pages."]},
}


def dry_run(office: Office, *source_ids: UUID, **options: object) -> Row:
    answer = office.call("POST", "/queue", {"source_ids": [str(one) for one in source_ids], "dry_run": True, **options})
    assert answer.status_code == 200, answer.text
    found: Row = answer.json()
    return found


@contextmanager
def workers(office: Office, results: dict[UUID, Row]) -> Iterator[list[Row]]:
    """Finishes the dry runs of these sources as soon as they are there; the tasks seen."""
    seen: list[Row] = []
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            waiting = office.chat("SELECT * FROM training_tasks WHERE status = 'waiting'")
            for task in waiting:
                if task["source_id"] in results:
                    office.chat(
                        "UPDATE training_tasks SET status = 'done', result = %s WHERE task_id = %s",
                        *(Jsonb(results[task["source_id"]]), task["task_id"]),
                    )
                    seen.append(task)

    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(work)
        try:
            yield seen
        finally:
            over.set()
            working.result(10)


def test_findings_are_told_and_added_up_and_nothing_is_queued(office: Office) -> None:
    site, text, unknown = office.add_row(), office.add_row(), uuid4()
    with workers(office, {site: FOUND, text: {**FOUND, "type": "text", "cost": 0.000001, "tokens": 50}}) as seen:
        answer = dry_run(office, text, unknown, site, force=True)
    assert [source["source_id"] for source in answer["sources"]] == [str(text), str(site)]
    assert answer["sources"][1] == {**FOUND, "source_id": str(site)}
    assert (answer["tokens"], answer["cost"]) == (1250, 0.000025)
    assert answer["rejected"] == [{"source_id": str(unknown), "code": "unknown_source"}]
    for task in seen:
        assert (task["kind"], task["job_id"], task["priority"], task["small"]) == (
            "dry_run",
            None,
            "interactive",
            False,
        )
        assert task["plan"] == {"force": True}
    for table in ("training_tasks", "training_jobs", "sources"):
        assert office.chat(f"SELECT 1 FROM {table}") == []


def test_what_is_not_finished_in_time_is_said_so(office: Office) -> None:
    quick, slow = office.add_row(), office.add_row()
    with workers(office, {quick: FOUND}):
        began = time.monotonic()
        answer = dry_run(office, quick, slow)
    assert time.monotonic() - began >= DRY_RUN_S
    assert [source["complete"] for source in answer["sources"]] == [True, False]
    assert answer["tokens"] == FOUND["tokens"]
    assert office.chat("SELECT 1 FROM training_tasks") == []


def test_an_error_is_told_with_its_code_and_a_cost_without_price_is_null(office: Office) -> None:
    source_id = office.add_row()
    error = {"code": "not_found", "message": "The page does not exist."}
    with workers(office, {source_id: {"type": "url", "error": error, "complete": True}}):
        answer = dry_run(office, source_id)
    [source] = answer["sources"]
    assert (source["error"], source["complete"], source["tokens"], answer["cost"]) == (error, True, 0, None)


def test_a_bots_sources_that_need_training_are_looked_at(office: Office) -> None:
    source_id = office.add_row()
    body = {"bot_id": str(office.bot_id), "dry_run": True}
    with workers(office, {source_id: FOUND}):
        answer = office.call("POST", "/queue", body)
    assert (answer.status_code, [one["source_id"] for one in answer.json()["sources"]]) == (200, [str(source_id)])
    empty = office.call("POST", "/queue", {"bot_id": str(office.add_bot()), "dry_run": True}).json()
    assert empty == {"sources": [], "tokens": 0, "cost": None, "rejected": [], "next_cursor": None}


def test_a_single_source_that_is_not_ours_is_refused_as_ever(office: Office) -> None:
    answer = office.call("POST", "/queue", {"source_id": str(uuid4()), "dry_run": True})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_source")


def test_what_a_dead_process_left_is_removed_by_the_next_call(office: Office) -> None:
    insert = "INSERT INTO training_tasks (org_id, bot_id, source_id, kind, created_at) VALUES (%s, %s, %s, %s, %s)"
    old, new = "2026-01-01", "tomorrow"
    for kind, created_at in (("dry_run", old), ("dry_run", new), ("reembed", old)):
        office.chat(insert, office.org_id, office.bot_id, uuid4(), kind, created_at)
    dry_run(office, uuid4())
    left = office.chat("SELECT kind, created_at > now() AS fresh FROM training_tasks ORDER BY task_id")
    assert left == [{"kind": "dry_run", "fresh": True}, {"kind": "reembed", "fresh": False}]
