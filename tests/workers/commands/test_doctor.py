"""The doctor finds each ailment, says it, mends what can be mended, and is clean then; the brakes' releases."""

import json
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import text
from structlog.testing import LogCapture

from tests.workers.chat_rows import engine_of
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.commands.doctor import examine
from workers.commands.release import allow_removals
from workers.reconcile.reconciler import Reconciler

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
    two.here("UPDATE training_jobs SET created_at = created_at - interval '1 minute'")


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


def test_a_look_that_others_hold_up_is_a_finding_and_stops_no_other(two: TwoDatabases, source: UUID) -> None:
    AILMENTS["broken_pointers"](two)
    with two.admin.connect() as holder:
        holder.execute(text("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE"))
        found = {finding.name: finding.sentence for finding in examine(two.engines).findings}
    assert "broken_pointers" in found
    assert "not looked at to its end" in found["no_sweeper"]


def test_a_reembedding_that_was_refused_is_said(two: TwoDatabases, source: UUID) -> None:
    two.here(
        "INSERT INTO training_tasks (org_id, bot_id, source_id, kind, priority, status, result)"
        " SELECT org_id, bot_id, source_id, 'reembed', 'bulk', 'done',"
        ' \'{"error": {"code": "quota_exceeded", "message": "x"}}\' FROM sources'
    )
    (finding,) = examine(two.engines, fix=True).findings
    assert (finding.name, finding.names) == ("held_reembeddings", [f"{source} quota_exceeded"])
    assert not finding.fixable


def test_settings_of_bots_and_orgs_that_cannot_be_taken_are_said(two: TwoDatabases, source: UUID) -> None:
    two.there('UPDATE bots SET config = \'{"temperature": "hot", "retrieval_k": 5, "max_tokens": -1}\'')
    two.there('UPDATE orgs SET limits = \'{"monthly_tokens": "many"}\'')
    (finding,) = examine(two.engines, fix=True).findings
    assert (finding.name, finding.done) == ("bad_bot_settings", None)
    assert finding.examples == [f"{two.bot_id}: temperature, max_tokens, limits.monthly_tokens"]
    assert "Please correct them" in examine(two.engines).as_text()


# --- the operator's word ---------------------------------------------------------------------------------------------


def brake(two: TwoDatabases, count: int = 12) -> list[UUID]:
    """Sources that have answered until all rows were lost at once."""
    sources = [two.add_source(f"Words {number}.") for number in range(count)]
    two.converge()
    two.there("DELETE FROM training_sources")
    return sources


def test_a_mending_that_the_brake_stops_is_not_done(two: TwoDatabases) -> None:
    sources = brake(two)
    diagnosis = examine(two.engines, fix=True)
    assert not diagnosis.clean
    found = {finding.name: finding for finding in diagnosis.findings}
    assert (found["disagreements"].done, found["held_removals"].done) == (None, None)
    told = diagnosis.as_text()
    assert "Please look at held_removals: the brake holds 12 of these." in told
    assert f"  12 of bot {two.bot_id}\n  Please bring the rows back" in told
    assert set(two.answers()) == set(sources)
    assert names(two, fix=True) == ["held_removals"]


def test_what_is_mended_elsewhere_is_done_beside_what_the_brake_held_before(two: TwoDatabases) -> None:
    brake(two)
    two.sweep()
    late = two.add_source("Late.")
    found = {finding.name: finding.done for finding in examine(two.engines, fix=True).findings}
    assert found == {"disagreements": "does it now", "held_removals": None}
    two.work()
    assert late in two.answers()


def test_all_names_are_in_the_json_and_the_first_in_the_text(two: TwoDatabases) -> None:
    sources = [str(two.add_source(f"Words {number}.")) for number in range(7)]
    two.converge()
    two.here("DELETE FROM chunks")
    diagnosis = examine(two.engines)
    (finding,) = json.loads(diagnosis.as_json())["findings"]
    assert (finding["name"], finding["count"], len(finding["examples"])) == ("live_without_chunks", 7, 5)
    assert set(finding["names"]) == set(sources)
    assert " … and 2 more (--json names all)" in diagnosis.as_text()


def test_hundreds_of_dead_leases_are_taken_at_once(two: TwoDatabases, source: UUID) -> None:
    _dead(two)
    two.here(
        "INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, status, lease_holder, lease_expires_at)"
        " SELECT job_id, org_id, bot_id, source_id, 'pages', 'running', 'worker-' || number, now() - interval '1 hour'"
        " FROM training_jobs CROSS JOIN generate_series(1, 600) AS number WHERE status = 'running'"
    )
    (finding,) = examine(two.engines, fix=True).findings
    assert (finding.name, len(finding.names), finding.done) == ("dead_leases", 601, finding.mend)
    assert two.here("SELECT 1 FROM training_tasks WHERE status = 'running'") == []


def test_a_mending_that_comes_to_nothing_is_not_done(two: TwoDatabases, source: UUID) -> None:
    AILMENTS["tasks_of_ended_runs"](two)
    two.here("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    two.here("CREATE TRIGGER keep BEFORE DELETE ON training_tasks FOR EACH ROW EXECUTE FUNCTION keep()")
    diagnosis = examine(two.engines, fix=True)
    two.here("DROP FUNCTION keep() CASCADE")
    assert [(finding.name, finding.done) for finding in diagnosis.findings] == [("tasks_of_ended_runs", None)]
    assert examine(two.engines, fix=True).clean


def test_held_removals_are_allowed_for_a_whole_bot(two: TwoDatabases, monkeypatch: pytest.MonkeyPatch) -> None:
    other = two.add_bot()
    others = {two.add_source(f"Other {number}.", bot_id=other[1]) for number in range(12)}
    sources = brake(two)
    said = LogCapture()
    monkeypatch.setattr("workers.reconcile.reconciler.log", structlog.wrap_logger(structlog.PrintLogger(), [said]))
    Reconciler(two.engines).reconcile()
    held = next(line for line in said.entries if line["event"] == "removals_held")
    assert held["most"] == {str(two.bot_id): 12, str(other[1]): 12}
    assert set(two.answers()) == {*others, *sources}
    monkeypatch.setattr("workers.commands.release.AT_ONCE", 5)
    assert allow_removals(two.engines.chat, two.bot_id).removed == 12
    assert set(two.answers()) == others
    assert allow_removals(two.engines.chat, two.bot_id).removed == 0


def test_a_held_removal_is_allowed_for_one_source(two: TwoDatabases) -> None:
    sources = brake(two)
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
    assert allow_removals(two.engines.chat, two.bot_id).released == 0
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


def test_settings_that_python_can_not_hold_are_named_and_stop_nothing(two: TwoDatabases, source: UUID) -> None:
    deep = "[" * 3_000 + "]" * 3_000
    two.there(f"""UPDATE bots SET config = '{{"temperature": 1e5000, "theme": {{"colour": {deep}}}}}'""")
    two.there("""UPDATE orgs SET limits = '{"max_file_mb": 1e5000, "monthly_pages": "all"}'""")
    [finding] = examine(two.engines).findings
    assert finding.name == "bad_bot_settings"
    assert finding.examples == [f"{two.bot_id}: temperature, theme, limits.monthly_pages, limits.max_file_mb"]
    two.edit(source, "Other words.")
    two.converge()
    assert two.answers() == {source: "Other words."}
