"""The doctor finds each ailment, says it, mends what can be mended, and is clean then; the brakes' releases."""

import json
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from tests.workers.chat_rows import engine_of
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.commands.doctor import examine
from workers.commands.release import allow_removals

pytestmark = pytest.mark.stack


@pytest.fixture
def source(two: TwoDatabases) -> UUID:
    """A trained source, and nothing wrong."""
    source_id = two.add_source()
    two.converge()
    two.sweep()
    return source_id


def names(two: TwoDatabases, *, fix: bool = False) -> list[str]:
    return [finding.name for finding in examine(two.engines, fix=fix).findings]


def _taskless(two: TwoDatabases) -> None:
    two.there('UPDATE training_sources SET content = \'{"text": "Edited."}\'')
    two.sweep()
    two.here("DELETE FROM training_tasks")
    two.here("UPDATE training_jobs SET created_at = now() - interval '1 minute' WHERE status = 'waiting'")


def _dead(two: TwoDatabases) -> None:
    two.there('UPDATE training_sources SET content = \'{"text": "Edited."}\'')
    two.sweep()
    two.claim()
    two.here("UPDATE training_tasks SET lease_expires_at = now() - interval '1 hour'")


def _misread(two: TwoDatabases) -> None:
    two.there("UPDATE training_sources SET status = 'failed'")


def _sql(*statements: str) -> Callable[[TwoDatabases], None]:
    def break_it(two: TwoDatabases) -> None:
        for statement in statements:
            two.here(statement)

    return break_it


AILMENTS: dict[str, Callable[[TwoDatabases], None]] = {
    "runs_without_tasks": _taskless,
    "dead_leases": _dead,
    "runs_without_source": _sql(
        "INSERT INTO training_jobs (job_id, org_id, bot_id, source_id, status, finished_at) SELECT gen_random_uuid(),"
        " org_id, bot_id, gen_random_uuid(), 'failed', now() FROM sources"
    ),
    "tasks_of_ended_runs": _sql(
        "INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind)"
        " SELECT job_id, org_id, bot_id, source_id, 'read' FROM training_jobs"
    ),
    "abandoned_builds": _sql(
        "INSERT INTO generations (org_id, bot_id, source_id, generation, space_id, job_id, source_version)"
        " SELECT org_id, bot_id, source_id, 9, 1, job_id, 'v' FROM training_jobs"
    ),
    "unread_live_generations": _sql(
        "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version)"
        " SELECT org_id, bot_id, source_id, 9, 'live', 1, job_id, 'v' FROM training_jobs"
    ),
    "broken_pointers": _sql("UPDATE generations SET state = 'kept'"),
    "live_without_chunks": _sql("DELETE FROM chunks"),
    "chunks_without_vectors": _sql("DELETE FROM embeddings"),
    "mixed_spaces": _sql(
        "INSERT INTO embedding_spaces (space_id, model, dimensions) VALUES (77, 'old', 4) ON CONFLICT DO NOTHING",
        "INSERT INTO embeddings (org_id, bot_id, source_id, generation, space_id, chunk_id, vector)"
        " SELECT org_id, bot_id, source_id, generation, 77, chunk_id, vector FROM embeddings",
    ),
    "disagreements": _misread,
}


@pytest.mark.parametrize("ailment", AILMENTS)
def test_what_is_wrong_is_said_mended_and_gone(two: TwoDatabases, source: UUID, ailment: str) -> None:
    assert names(two) == []
    AILMENTS[ailment](two)
    assert ailment in names(two)
    diagnosis = examine(two.engines, fix=True)
    assert diagnosis.clean
    assert all(finding.done and finding.examples for finding in diagnosis.findings)
    two.converge()
    assert names(two) == names(two, fix=True) == []
    assert set(two.answers()) == {source}


def test_a_space_that_is_being_built_is_not_mixed(two: TwoDatabases, source: UUID) -> None:
    AILMENTS["mixed_spaces"](two)
    two.here("UPDATE bots SET next_space_id = 77")
    assert names(two) == []


@pytest.mark.parametrize("gone", ["DELETE FROM training_sources", "UPDATE training_sources SET deleted_at = now()"])
def test_a_broken_source_that_can_not_be_read_again_is_left(two: TwoDatabases, source: UUID, gone: str) -> None:
    two.here("DELETE FROM chunks")
    two.there(gone)
    found = {finding.name: finding for finding in examine(two.engines, fix=True).findings}
    assert found["live_without_chunks"].done is None


@pytest.mark.parametrize(
    ("ailment", "break_it"),
    [
        ("no_sweeper", "UPDATE leases SET swept_at = now() - interval '2 minutes'"),
        ("held_removals", "UPDATE sources SET removal_held_at = now()"),
        ("parked_generations", "UPDATE generations SET state = 'parked', held_by = 'removals_held'"),
    ],
)
def test_what_only_people_can_mend_is_left_and_said(
    two: TwoDatabases, source: UUID, ailment: str, break_it: str
) -> None:
    if ailment == "held_removals":
        two.there("DELETE FROM training_sources")
        two.there("DELETE FROM bots")
        two.there("DELETE FROM orgs")
    two.here(break_it)
    diagnosis = examine(two.engines)
    assert ailment in [finding.name for finding in diagnosis.findings]
    assert not diagnosis.clean
    assert "  Please " in diagnosis.as_text()
    assert json.loads(diagnosis.as_json())["clean"] is False


def test_a_dashboard_that_is_away_or_lacks_columns_is_a_finding(two: TwoDatabases, source: UUID) -> None:
    two.there("ALTER TABLE files RENAME COLUMN filename TO name")
    found = examine(two.engines, fix=True).findings
    two.there("ALTER TABLE files RENAME COLUMN name TO filename")
    assert [(finding.name, finding.examples) for finding in found] == [("dashboard_columns", ["files.filename"])]
    away = engine_of("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
    found = examine(type(two.engines)(two.engines.chat, away), fix=True).findings
    assert [finding.name for finding in found] == ["dashboard_away"]


def test_settings_of_bots_and_orgs_that_cannot_be_taken_are_said(two: TwoDatabases, source: UUID) -> None:
    two.there('UPDATE bots SET config = \'{"temperature": "hot", "retrieval_k": 5, "max_tokens": -1}\'')
    two.there('UPDATE orgs SET limits = \'{"monthly_tokens": "many"}\'')
    (finding,) = examine(two.engines, fix=True).findings
    assert (finding.name, finding.done) == ("bad_bot_settings", None)
    assert finding.examples == [f"{two.bot_id}: temperature, max_tokens, limits.monthly_tokens"]
    assert "Please correct them" in examine(two.engines).as_text()


# --- the operator's word ---------------------------------------------------------------------------------------------


def test_a_held_removal_is_allowed_for_one_source(two: TwoDatabases) -> None:
    sources = [two.add_source(f"Words {number}.") for number in range(12)]
    two.converge()
    two.there("DELETE FROM training_sources")
    two.sweep()
    allowed = allow_removals(two.engines.chat, sources[0])
    assert (allowed.removed, allowed.released, allowed.unreadable) == (1, 0, 0)
    assert set(two.answers()) == set(sources[1:])
    assert allow_removals(two.engines.chat, uuid4()).removed == 0
    assert allow_removals(two.engines.chat, sources[0]).removed == 0


def park(two: TwoDatabases) -> None:
    """A second generation, held back, whose run failed with it."""
    two.edit(two.here("SELECT source_id FROM sources")[0]["source_id"], "New.")
    two.converge()
    two.here("UPDATE generations SET state = CASE generation WHEN 2 THEN 'parked' ELSE 'live' END")
    two.here("UPDATE sources SET live_generation = 1")
    two.here("UPDATE training_jobs SET status = 'failed', error_code = 'removals_held' WHERE job_id ="
             " (SELECT job_id FROM generations WHERE state = 'parked')")  # fmt: skip


def test_a_parked_generation_goes_live_and_its_run_has_succeeded(two: TwoDatabases) -> None:
    source_id = two.add_source("Old.")
    two.converge()
    park(two)
    two.here("UPDATE chunks SET text = 'Old.' WHERE generation = 1")
    assert allow_removals(two.engines.chat, source_id).released == 1
    assert two.answers() == {source_id: "New."}
    assert two.runs(source_id) == ["succeeded", "succeeded"]
    two.sweep()
    assert two.status(source_id) == "trained"


def test_a_parked_generation_of_another_space_stays_parked(two: TwoDatabases, source: UUID) -> None:
    park(two)
    two.here("DELETE FROM embeddings WHERE generation = 2")
    allowed = allow_removals(two.engines.chat, source)
    assert (allowed.released, allowed.unreadable) == (0, 1)
    assert two.here("SELECT state FROM generations ORDER BY generation") == [{"state": "live"}, {"state": "parked"}]
    assert two.runs(source) == ["succeeded", "failed"]
