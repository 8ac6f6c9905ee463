"""The twelve ways in which the two databases fall apart, each brought together again by the real sweeper."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text

from chat_api.core.errors import NoText
from chat_api.core.jobs import REMEMBER_SOURCES
from tests.workers.chat_rows import engine_of
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.reconcile import dashboard_rows
from workers.reconcile import reconciler as module
from workers.reconcile.burial import bury
from workers.reconcile.queueing import Wanted, queue_runs
from workers.reconcile.reconciler import Reconciler
from workers.reconcile.verdicts import Place

pytestmark = pytest.mark.stack


def trained(two: TwoDatabases, count: int = 1, **columns: Any) -> list[UUID]:
    """Sources that answer, and whose rows say so."""
    sources = [two.add_source(f"Words {number}.", **columns) for number in range(count)]
    two.converge()
    assert set(sources) <= set(two.answers())
    assert {two.status(source_id) for source_id in sources} == {"trained"}
    return sources


def delete_here(two: TwoDatabases, source_id: UUID) -> None:
    """As the API's delete does."""
    bury(two.engines.chat, [Place(two.org_id, two.bot_id, source_id)], for_good=True)
    two.here("UPDATE training_jobs SET status_version = nextval('status_versions') WHERE source_id = :id", id=source_id)


# --- 0: rows that can't be read as they are --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("options", '{"include": ' + "[" * 3_000 + "]" * 3_000 + "}"),
        ("options", '{"max_pages": 1e5000}'),
        ("created_at", "infinity"),
        ("updated_at", "-infinity"),
        ("updated_at", "20000-01-01"),
    ],
)
def test_a_value_that_python_can_not_hold_stops_nobody(two: TwoDatabases, column: str, value: str) -> None:
    sources = [two.add_source(f"Words {number}.") for number in range(3)]
    two.there(f"UPDATE training_sources SET {column} = '{value}' WHERE id = :id", id=sources[1])
    two.converge()
    assert set(two.answers()) == set(sources)
    assert {
        two.there("SELECT status FROM training_sources WHERE id = :id", id=each)[0]["status"] for each in sources
    } == {"trained"}


# --- 1, 2: rows that nobody queued -----------------------------------------------------------------------------------


def test_a_row_without_a_queue_call_is_trained_after_a_minute(two: TwoDatabases) -> None:
    old, young = two.add_source(age_s=61), two.add_source(age_s=50)
    two.sweep()
    assert (two.runs(old), two.runs(young)) == (["waiting"], [])
    assert two.here("SELECT priority FROM training_jobs") == [{"priority": "bulk"}]
    assert two.status(old) == "queued"
    two.converge()
    assert set(two.answers()) == {old}


def test_a_row_that_was_committed_after_its_queue_call_is_trained(two: TwoDatabases) -> None:
    with two.engines.dashboard.connect() as dashboard:
        source_id = uuid4()
        dashboard.execute(
            text(
                "INSERT INTO training_sources (id, org_id, bot_id, type, content, created_at, updated_at)"
                " SELECT :id, :org, :bot, 'text', '{\"text\": \"Late.\"}', at, at FROM (SELECT now() - interval '2 min' AS at) AS made"
            ),
            {"id": source_id, "org": two.org_id, "bot": two.bot_id},
        )
        two.sweep()
        assert two.runs(source_id) == []
        dashboard.commit()
    two.converge()
    assert two.answers() == {source_id: "Late."}


def test_dates_from_a_clock_that_runs_ahead_count_as_old(two: TwoDatabases) -> None:
    ahead, just_now = two.add_source(age_s=-3600), two.add_source(age_s=-3)
    two.sweep()
    assert (two.runs(ahead), two.runs(just_now)) == (["waiting"], [])


# --- 3: a status that was lost ---------------------------------------------------------------------------------------


LOST = {
    "never written": "status = 'pending', status_version = 0, job_id = NULL",
    "written by hand": "status = 'failed', error_code = 'no_text'",
    "of another run": "status = 'processing', job_id = gen_random_uuid()",
}


@pytest.mark.parametrize("how", LOST)
def test_a_lost_status_is_told_again_and_nothing_trained(two: TwoDatabases, how: str) -> None:
    [source_id] = trained(two)
    before = two.row(source_id)
    two.there(f"UPDATE training_sources SET {LOST[how]}")
    two.sweep()
    after = two.row(source_id)
    for column in ("status", "job_id", "error_code", "progress"):
        assert after[column] == before[column]
    assert two.runs(source_id) == ["succeeded"]


def test_what_agrees_is_left_alone(two: TwoDatabases) -> None:
    waiting, running = two.add_source(), two.add_source()
    trained(two, 2)
    failed = two.add_source()
    two.sweep()
    two.work(NoText())
    two.there(
        "UPDATE training_sources SET status = 'pending', status_version = 0 WHERE id = ANY (:ids)",
        ids=[waiting, running],
    )
    for source_id in (waiting, running):
        two.edit(source_id, "Other words.")
    two.sweep(2)
    two.claim()
    two.sweep(2)
    versions = two.there("SELECT id, status_version FROM training_sources ORDER BY id")
    two.sweep(2)
    assert two.there("SELECT id, status_version FROM training_sources ORDER BY id") == versions
    assert two.status(failed) == "failed"


def test_rows_of_runs_that_we_have_forgotten_are_trained_and_failures_left(two: TwoDatabases) -> None:
    statuses = ("queued", "processing", "trained", "failed", "cancelled")
    sources = {status: two.add_source(status, status=status, job_id=uuid4(), status_version=7) for status in statuses}
    two.converge()
    assert sorted(two.answers().values()) == ["processing", "queued", "trained"]
    assert (two.status(sources["failed"]), two.status(sources["cancelled"])) == ("failed", "cancelled")
    assert two.status(sources["queued"]) == "trained"


# --- 4: deleted while we were away -----------------------------------------------------------------------------------

DELETED = {
    "marked": "UPDATE training_sources SET deleted_at = now() WHERE id = :id",
    "gone": "DELETE FROM training_sources WHERE id = :id",
}


@pytest.mark.parametrize("how", DELETED)
def test_a_deleted_row_takes_its_answers_with_it(two: TwoDatabases, how: str) -> None:
    gone, stays = trained(two, 2)
    two.there(DELETED[how], id=gone)
    two.sweep()
    assert set(two.answers()) == {stays}
    two.sweep(2)
    assert two.here("SELECT 1 FROM chunks WHERE source_id = :id", id=gone) == []
    assert two.runs(gone) == ["succeeded"]


def test_a_source_that_is_deleted_in_training_ends_its_runs(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.edit(source_id, "Edited.")
    two.sweep()
    [task] = two.claim()
    two.there(DELETED["gone"], id=source_id)
    two.sweep()
    assert (two.answers(), two.runs(source_id)) == ({}, ["succeeded", "cancelled"])
    with two.engines.chat.begin() as connection:
        assert not connection.execute(
            text("SELECT 1 FROM training_tasks WHERE task_id = :id"), {"id": task.task_id}
        ).all()


def test_what_comes_back_is_trained_again(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.there("UPDATE training_sources SET deleted_at = now()")
    two.sweep()
    assert two.answers() == {}
    two.there("UPDATE training_sources SET deleted_at = NULL")
    two.converge()
    assert set(two.answers()) == {source_id}
    assert two.status(source_id) == "trained"


def test_a_source_that_was_deleted_through_us_stays_deleted(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    delete_here(two, source_id)
    two.sweep()
    assert two.status(source_id) == "pending"
    two.there("UPDATE training_sources SET status = 'trained', status_version = 1")  # as an old backup would say
    two.converge()
    assert (two.answers(), two.status(source_id)) == ({}, "pending")


@pytest.mark.parametrize(
    ("of_bot", "gone", "removed"), [(40, 10, 10), (60, 12, 12), (40, 11, 0), (60, 13, 0), (13, 13, 0)]
)
def test_the_brake_holds_more_than_a_fifth_and_ten(two: TwoDatabases, of_bot: int, gone: int, removed: int) -> None:
    trained(two, 30, bot_id=two.add_bot()[1])
    sources = trained(two, of_bot)
    two.there("DELETE FROM training_sources WHERE id = ANY (:ids)", ids=sources[:gone])
    two.sweep(3)
    assert len(two.answers()) == 30 + of_bot - removed
    assert len(two.held()) == gone - removed


def test_held_removals_go_when_they_are_fewer_and_stay_when_the_rows_come_back(two: TwoDatabases) -> None:
    trained(two, 20, bot_id=two.add_bot()[1])
    sources = trained(two, 20)
    two.there("UPDATE training_sources SET deleted_at = now() WHERE id = ANY (:ids)", ids=sources[:12])
    two.sweep()
    assert two.held() == set(sources[:12])
    two.there("UPDATE training_sources SET deleted_at = NULL WHERE id = ANY (:ids)", ids=sources[3:12])
    two.sweep(2)
    assert two.held() == set()
    assert set(sources) - set(two.answers()) == set(sources[:3])


def test_a_bot_that_is_deleted_on_purpose_is_no_accident(two: TwoDatabases) -> None:
    _, other = two.add_bot()
    trained(two, 15, bot_id=other)
    kept = trained(two, 12)
    two.there("UPDATE bots SET deleted_at = now() WHERE id = :id", id=other)
    two.sweep()
    assert set(two.answers()) == set(kept)


def test_half_of_everything_does_not_go_at_once_however_small_the_bots(two: TwoDatabases) -> None:
    for _ in range(3):
        trained(two, 4, bot_id=two.add_bot()[1])
    kept = trained(two, 4)
    two.there("DELETE FROM training_sources WHERE NOT id = ANY (:ids)", ids=kept)
    two.sweep(3)
    assert (len(two.answers()), len(two.held())) == (16, 12)


def test_a_dashboard_without_any_org_removes_nothing(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    for table in ("training_sources", "bots", "orgs"):
        two.there(f"DELETE FROM {table}")
    two.sweep(2)
    assert set(two.answers()) == {source_id}


# --- 5: edited -------------------------------------------------------------------------------------------------------


def test_an_edit_is_trained_once_its_queue_call_has_had_its_time(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.edit(source_id, "Edited.", age_s=5)
    two.sweep()
    assert two.runs(source_id) == ["succeeded"]
    two.edit(source_id, "Edited.", age_s=30)
    two.converge()
    assert two.answers() == {source_id: "Edited."}
    two.sweep(3)
    assert two.runs(source_id) == ["succeeded", "succeeded"]


def test_an_edit_during_training_gets_a_run_of_its_own(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.edit(source_id, "First.")
    two.sweep()
    [task] = two.claim()
    two.sweep()
    assert two.runs(source_id)[1:] == ["running"]
    two.here("UPDATE training_jobs SET source_version = 'first' WHERE job_id = :id", id=task.job_id)
    two.edit(source_id, "Second.")
    two.sweep(2)
    assert two.runs(source_id)[1:] == ["running", "waiting"]
    two.finish(task)
    two.converge()
    assert two.answers() == {source_id: "Second."}


def test_a_version_that_failed_is_not_tried_again_and_the_next_one_is(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.edit(source_id, "Bad.")
    two.sweep()
    two.work(NoText())
    two.sweep(3)
    assert two.runs(source_id) == ["succeeded", "failed"]
    assert (two.answers(), two.row(source_id)["error_code"]) == ({source_id: "Words 0."}, "no_text")
    two.edit(source_id, "Good.")
    two.converge()
    assert two.answers() == {source_id: "Good."}


def test_a_run_that_was_cancelled_before_it_read_is_not_queued_again(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.edit(source_id, "Edited.")
    two.sweep()
    two.here("DELETE FROM training_tasks")
    two.here("UPDATE training_jobs SET status = 'cancelled', finished_at = now() WHERE status = 'waiting'")
    two.sweep(3)
    assert two.runs(source_id) == ["succeeded", "cancelled"]
    two.edit(source_id, "Edited again.")
    two.converge()
    assert two.answers() == {source_id: "Edited again."}


def test_a_failed_row_that_somebody_sets_back_to_pending_is_tried_again(two: TwoDatabases) -> None:
    source_id = two.add_source()
    two.sweep()
    two.work(NoText())
    two.sweep(2)
    assert (two.status(source_id), two.runs(source_id)) == ("failed", ["failed"])
    two.there("UPDATE training_sources SET status = 'pending', updated_at = now() - interval '2 minutes'")
    two.converge()
    assert (two.status(source_id), two.runs(source_id)) == ("trained", ["failed", "succeeded"])


def test_a_pinned_version_stays_until_it_is_edited(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.here("UPDATE sources SET pinned_version = generations.source_version FROM generations")
    two.here("UPDATE generations SET source_version = 'older'")
    two.here("UPDATE training_jobs SET source_version = 'older'")
    two.sweep(2)
    assert two.runs(source_id) == ["succeeded"]
    two.edit(source_id, "Edited.")
    two.converge()
    assert two.answers() == {source_id: "Edited."}
    assert two.here("SELECT pinned_version FROM sources") == [{"pinned_version": None}]


# --- 6, 7: a restored backup -----------------------------------------------------------------------------------------


def test_a_dashboard_restored_to_before_its_sources_empties_nothing(two: TwoDatabases) -> None:
    first = trained(two, 3)
    with two.backup(two.dashboard_dsn):
        later = trained(two, 20)
        two.edit(first[0], "Edited.")
        two.converge()
    two.sweep(3)
    two.work()
    two.sweep()
    assert set(two.answers()) == {*first, *later}
    assert two.held() == set(later)
    assert two.answers()[first[0]] == "Words 0."  # the dashboard says what is in a source
    assert {two.status(source_id) for source_id in first} == {"trained"}


def test_a_dashboard_restored_to_before_the_training_is_told_again_and_nothing_is_trained(two: TwoDatabases) -> None:
    sources = [two.add_source(f"Words {number}.") for number in range(3)]
    with two.backup(two.dashboard_dsn):
        two.converge()
    assert {two.status(source_id) for source_id in sources} == {"pending"}
    two.sweep()
    assert {two.status(source_id) for source_id in sources} == {"trained"}
    assert [two.runs(source_id) for source_id in sources] == [["succeeded"]] * 3


def test_our_own_backup_restored_heals_and_forgets_no_deletion(two: TwoDatabases) -> None:
    edited, deleted, dropped, same, untold = trained(two, 5)
    with two.backup(two.chat_dsn):
        two.edit(edited, "Edited.")
        new = two.add_source("New.")
        two.converge()
        delete_here(two, deleted)
        two.there(DELETED["gone"], id=dropped)
        queued = two.add_source("Queued.")
        two.sweep()
        two.here("SELECT setval('status_versions', 1000)")  # what has happened since has used up many versions
        two.here(
            "UPDATE training_jobs SET status_version = nextval('status_versions') WHERE source_id <> :id", id=deleted
        )
        delete_here(two, deleted)
        two.sweep()
        assert (two.status(queued), two.status(deleted)) == ("queued", "pending")
    assert two.answers()[deleted]
    two.converge()
    assert two.answers() == {
        edited: "Edited.", new: "New.", queued: "Queued.", same: "Words 3.", untold: "Words 4.",
    }  # fmt: skip
    newest = "SELECT job_id FROM training_jobs WHERE source_id = :id ORDER BY created_at DESC LIMIT 1"
    for source_id in (edited, new, queued, same, untold):
        row = two.row(source_id)
        assert (row["status"], [{"job_id": row["job_id"]}]) == ("trained", two.here(newest, id=source_id))
    two.sweep(2)
    assert (two.status(deleted), deleted in two.answers()) == ("pending", False)


def test_an_empty_database_of_ours_fills_itself(two: TwoDatabases) -> None:
    with two.backup(two.chat_dsn):
        sources = trained(two, 4)
    assert two.answers() == {}
    two.converge()
    assert set(two.answers()) == set(sources)
    assert {two.status(source_id) for source_id in sources} == {"trained"}


def test_a_status_version_that_no_sequence_gave_does_not_use_ours_up(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    [before] = two.here("SELECT last_value FROM status_versions")
    two.there("UPDATE training_sources SET status = 'failed', status_version = 9223372036854775807")
    two.sweep(2)
    [after] = two.here("SELECT last_value FROM status_versions")
    assert after["last_value"] - before["last_value"] < 1000
    assert set(two.answers()) == {source_id}


# --- 8: moved --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other_org", [False, True])
def test_a_source_that_moves_takes_nothing_with_it_and_may_come_home(two: TwoDatabases, other_org: bool) -> None:
    [source_id] = trained(two)
    org_id, bot_id = two.add_bot(other_org=other_org)
    move = "UPDATE training_sources SET org_id = :org, bot_id = :bot"
    two.there(move, org=org_id, bot=bot_id)
    two.sweep()
    assert two.answers() == {}
    two.converge()
    places = "SELECT org_id, bot_id FROM sources WHERE live_generation IS NOT NULL"
    assert two.here(places) == [{"org_id": org_id, "bot_id": bot_id}]
    assert two.here("SELECT DISTINCT bot_id FROM chunks") == [{"bot_id": bot_id}]
    two.there(move, org=two.org_id, bot=two.bot_id)
    two.converge()
    assert two.here(places) == [{"org_id": two.org_id, "bot_id": two.bot_id}]
    assert (set(two.answers()), two.status(source_id)) == ({source_id}, "trained")


def move_and_queue(two: TwoDatabases, source_id: UUID, bot_id: UUID) -> None:
    two.there("UPDATE training_sources SET bot_id = :bot WHERE id = :id", bot=bot_id, id=source_id)
    queue_runs(two.engines.chat, [Wanted(two.org_id, bot_id, source_id, "text", small=True)])


def test_the_end_of_a_run_where_a_source_was_does_not_delete_it_where_its_next_run_waits(two: TwoDatabases) -> None:
    source_id = two.add_source()
    two.sweep()
    assert len(two.claim()) == 1
    two.sweep()
    assert two.status(source_id) == "processing"
    two.edit(source_id, "Edited.", age_s=0)
    _, bot_id = two.add_bot()
    move_and_queue(two, source_id, bot_id)
    two.sweep()
    assert (two.runs(source_id), two.status(source_id)) == (["cancelled", "waiting"], "queued")
    two.sweep()
    two.converge()
    assert (two.runs(source_id), two.status(source_id)) == (["cancelled", "succeeded"], "trained")
    assert two.answers() == {source_id: "Edited."}
    assert two.here("SELECT bot_id FROM sources WHERE deleted_at IS NULL") == [{"bot_id": bot_id}]


def test_a_source_that_comes_home_while_it_is_in_training_elsewhere_goes_on_answering(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    move_and_queue(two, source_id, two.add_bot()[1])
    assert len(two.claim()) == 1
    two.there("UPDATE training_sources SET bot_id = :bot", bot=two.bot_id)
    two.sweep(3)
    assert (two.answers(), two.status(source_id)) == ({source_id: "Words 0."}, "trained")
    assert two.runs(source_id) == ["succeeded", "cancelled"]


def test_a_source_deleted_through_us_is_not_trained_in_another_bot_of_its_org(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    delete_here(two, source_id)
    two.sweep()
    two.there("UPDATE training_sources SET bot_id = :bot", bot=two.add_bot()[1])
    two.converge()
    assert two.answers() == {}


# --- 9, 10: a dashboard that can't be read ---------------------------------------------------------------------------


def test_a_dropped_column_removes_nothing_and_training_goes_on_when_it_is_back(two: TwoDatabases) -> None:
    kept, gone = trained(two, 2)
    two.there(DELETED["gone"], id=gone)
    two.there("ALTER TABLE training_sources RENAME COLUMN options TO choices")
    two.sweep(2)
    assert set(two.answers()) == {kept, gone}
    two.there("ALTER TABLE training_sources RENAME COLUMN choices TO options")
    two.sweep()
    assert set(two.answers()) == {kept}


def test_a_dashboard_that_is_away_removes_nothing(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.there("DELETE FROM training_sources")
    away = engine_of("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
    reconciler = Reconciler(type(two.engines)(two.engines.chat, away))
    assert reconciler.reconcile() is False
    assert reconciler.survey() is None
    assert set(two.answers()) == {source_id}


# --- 11, 12: pages, and races ----------------------------------------------------------------------------------------


def test_the_whole_dashboard_is_covered_in_turn_and_the_brake_counts_the_whole(
    two: TwoDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 4)
    sources = [two.add_source(f"Words {number}.") for number in range(22)]
    reconciler = Reconciler(two.engines)
    pages = 1
    while reconciler.reconcile():
        pages += 1
    assert pages == 6
    two.work()
    assert set(two.answers()) == set(sources)
    two.there("DELETE FROM training_sources WHERE id = ANY (:ids)", ids=sorted(sources)[:12])
    while reconciler.reconcile():
        assert len(two.answers()) == 22
    assert (len(two.answers()), two.held()) == (22, set(sorted(sources)[:12]))
    two.there("DELETE FROM training_sources")
    while reconciler.reconcile():
        pass
    assert len(two.held()) == 22


def test_contents_are_read_for_so_long_as_a_sweep_may(two: TwoDatabases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_rows, "READ_S", 0.0)
    monkeypatch.setattr(dashboard_rows, "HASHED_AT_ONCE", 3)
    sources = [two.add_source(f"Words {number}.") for number in range(8)]
    reconciler = Reconciler(two.engines)
    pages = 1
    while reconciler.reconcile():
        pages += 1
    assert pages == 3
    two.work()
    assert set(two.answers()) == set(sources)


def test_of_more_versions_than_are_remembered_only_some_are_read_again(
    two: TwoDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_rows, "MOST_VERSIONS", 32)
    for number in range(40):
        two.add_source(f"Words {number}.", age_s=0)
    read: list[int] = []

    def count(_connection: object, cursor: Any, statement: str, *_rest: object) -> None:
        if "training_sources.content" in statement:
            read.append(cursor.rowcount)

    event.listen(two.engines.dashboard, "after_cursor_execute", count)
    reconciler = Reconciler(two.engines)
    reconciler.reconcile()
    assert sum(read) == 40
    for _ in range(dashboard_rows.PARTS):
        reconciler.reconcile()
    assert sum(read) == 40 + 40  # each once more, while the parts take turns


def test_what_was_queued_since_the_look_is_not_queued_again(two: TwoDatabases) -> None:
    source_id = two.add_source()
    reconciler = Reconciler(two.engines)
    looked = reconciler._look()  # the moment between the look and the deed
    assert looked is not None
    two.sweep()
    assert two.work() == 1
    reconciler._act(*looked)
    assert two.runs(source_id) == ["succeeded"]


@contextmanager
def meanwhile(two: TwoDatabases, happens: Callable[[], object]) -> Iterator[None]:
    """Has it happen once, between what is read of the dashboard and what is read of ours."""
    waiting = [happens]

    def before(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "live_version" in statement and waiting:
            waiting.pop()()

    event.listen(two.engines.chat, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(two.engines.chat, "before_cursor_execute", before)
    assert not waiting


def test_what_was_made_and_trained_since_the_look_is_not_removed(two: TwoDatabases) -> None:
    def make_and_train() -> None:
        queue_runs(two.engines.chat, [Wanted(two.org_id, two.bot_id, two.add_source(), "text", small=True)])
        assert two.work() == 1

    with meanwhile(two, make_and_train):
        two.sweep()
    assert len(two.answers()) == 1
    assert not two.held()


def test_what_has_moved_since_the_look_stays_where_it_is_now(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    org_id, bot_id = two.add_bot()

    def move() -> None:
        two.there("UPDATE training_sources SET bot_id = :bot WHERE id = :id", bot=bot_id, id=source_id)
        queue_runs(two.engines.chat, [Wanted(org_id, bot_id, source_id, "text", small=True)])
        assert two.work() == 1

    with meanwhile(two, move):
        two.sweep()
    places = two.here("SELECT bot_id FROM sources WHERE deleted_at IS NULL AND live_generation IS NOT NULL")
    assert bot_id in {place["bot_id"] for place in places}


def test_a_row_that_is_back_before_its_removal_is_not_removed(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    place = Place(two.org_id, two.bot_id, source_id)
    assert bury(two.engines.chat, [place], marked=True) == []
    assert set(two.answers()) == {source_id}
    two.here("UPDATE sources SET removal_held_at = now()")
    assert bury(two.engines.chat, [place], marked=True) == [place]


def test_a_queue_call_revives_what_the_reconciler_buried(two: TwoDatabases) -> None:
    [source_id] = trained(two)
    two.there("UPDATE training_sources SET deleted_at = now()")
    two.sweep()
    two.there("UPDATE training_sources SET deleted_at = NULL")
    values = {"org_id": two.org_id, "bot_ids": [two.bot_id], "source_ids": [source_id], "revive": True}
    with two.engines.chat.begin() as connection:
        connection.execute(REMEMBER_SOURCES, values)
    two.converge()
    assert set(two.answers()) == {source_id}
    assert two.held() == set()
