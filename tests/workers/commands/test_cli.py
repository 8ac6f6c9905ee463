"""The operator's commands on real databases: what they print, what they do, and their exit codes."""

import json
import re
from uuid import UUID, uuid4

import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from chat_api.core.errors import NoText
from tests.servers import free_port
from tests.workers.chat_rows import engine_of
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.cli import main
from workers.dashboard import load_sources
from workers.metrics import Queue
from workers.reconcile.burial import bury
from workers.reconcile.verdicts import Place
from workers.tasks.life import Task, note_versions

pytestmark = pytest.mark.stack


def test_status_is_one_screen(deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]) -> None:
    failed = deployed.add_source()
    deployed.sweep()
    deployed.work(NoText())
    waiting, running = deployed.add_source("Waits."), deployed.add_source("Runs.")
    deployed.sweep()
    claimed = {task.source_id for task in deployed.claim()}
    assert claimed == {waiting, running}
    deployed.here("UPDATE training_tasks SET status = 'waiting', lease_holder = NULL WHERE source_id = :id", id=waiting)
    deployed.here("UPDATE training_jobs SET status = 'waiting' WHERE source_id = :id", id=waiting)
    assert main(["status"]) == 0
    screen = capsys.readouterr().out
    assert re.search(r"bulk +1 +0 +1 ", screen)
    assert f"worker-1  read {running}" in screen
    assert re.search(rf"{failed} .* failed +no_text ", screen)
    assert str(deployed.org_id) in screen
    assert main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["orgs"] == [{"org_id": str(deployed.org_id), "waiting": 1, "running": 1}]
    assert status["swept_s_ago"] < 600


def test_status_names_what_went_wrong_lately_however_old_the_run_is(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]
) -> None:
    late, long_ago = deployed.add_source(), deployed.add_source("Other.")
    deployed.sweep()
    deployed.work(NoText())
    deployed.here("UPDATE training_jobs SET created_at = now() - interval '3 days'")
    deployed.here("UPDATE training_jobs SET finished_at = now() - interval '2 days' WHERE source_id = :id", id=long_ago)
    assert main(["status", "--json"]) == 0
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert [(row["source_id"], row["error_code"]) for row in errors] == [(str(late), "no_text")]


def test_status_of_nothing(deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "last sweep never" in capsys.readouterr().out


def test_doctor_says_by_its_exit_code_whether_something_is_left(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]
) -> None:
    source_id = deployed.add_source()
    deployed.converge()
    deployed.sweep()
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "Nothing is wrong.\n"
    deployed.there("UPDATE training_sources SET status = 'failed'")
    assert main(["doctor", "--json"]) == 1
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["name"], finding["done"]) == ("disagreements", None)
    assert main(["doctor", "--fix"]) == 0
    assert (main(["doctor"]), deployed.status(source_id)) == (0, "trained")
    assert main(["doctor", "--allow-removals", str(source_id)]) == 0
    assert "nothing of it is held back" in capsys.readouterr().err
    assert set(deployed.answers()) == {source_id}


def test_process_queues_what_it_is_told(deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = deployed.add_source("First."), deployed.add_source("Second.", bot_id=deployed.add_bot()[1])
    deployed.sweep()
    deployed.work(NoText())
    deployed.sweep()
    assert main(["process", "--bot", str(deployed.bot_id)]) == 0
    assert (len(deployed.runs(first)), len(deployed.runs(second))) == (2, 1)
    deployed.work()
    deployed.sweep()
    assert main(["process", "--failed", "--force"]) == 0
    assert (len(deployed.runs(first)), len(deployed.runs(second))) == (2, 2)
    assert deployed.here("SELECT force, priority FROM training_jobs WHERE status = 'waiting'") == [
        {"force": True, "priority": "bulk"}
    ]
    assert main(["process", "--all"]) == 0
    assert "2 of 2 sources queued" in capsys.readouterr().out
    missing = uuid4()
    assert main(["process", "--source", str(first), str(missing)]) == 1
    assert f"{missing}: there is no such source to train." in capsys.readouterr().err


def has_read(two: TwoDatabases, task: Task) -> None:
    """The task's worker has read its source."""
    loaded, _ = load_sources(two.engines.dashboard, [task])
    with two.engines.chat.begin() as connection:
        note_versions(connection, [(task, loaded[task.task_id].row_version)])


def test_process_leaves_a_source_to_the_run_that_reads_it_as_it_stands(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unread, read, edited = (deployed.add_source(f"Words {number}.") for number in range(3))
    deployed.sweep()
    tasks = {task.source_id: task for task in deployed.claim()}
    for source_id in (read, edited):
        has_read(deployed, tasks[source_id])
    deployed.edit(edited, "Edited.")
    assert main(["process", "--all"]) == 0
    assert "1 of 3 sources queued, 2 under way already" in capsys.readouterr().out
    assert [deployed.runs(source_id) for source_id in (unread, read)] == [["running"], ["running"]]
    assert deployed.runs(edited) == ["running", "waiting"]
    assert main(["process", "--source", str(read), "--force"]) == 0
    assert deployed.runs(read) == ["running", "waiting"]

    def work(_seconds: float) -> None:
        for task in tasks.values():
            deployed.finish(task)
        deployed.work()

    monkeypatch.setattr("workers.commands.process.time.sleep", work)
    assert main(["process", "--source", str(unread), "--wait"]) == 0
    assert "1 succeeded" in capsys.readouterr().out


def test_process_of_what_failed_leaves_out_what_was_cancelled_or_is_under_way(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "failed": [("failed", "no_text"), ("trained", "no_text"), ("failed", None)],
        "other": [("cancelled", "cancelled"), ("trained", "cancelled"), ("processing", "fetch_failed"),
                  ("queued", "embedding_unavailable"), ("trained", None), ("cancelled", None)],
    }  # fmt: skip
    for status, code in words["failed"] + words["other"]:
        deployed.add_source(status=status, error_code=code)
    assert main(["process", "--failed"]) == 0
    assert "3 of 3 sources queued" in capsys.readouterr().out
    queued = deployed.here("SELECT source_id FROM training_jobs")
    rows = [deployed.row(run["source_id"]) for run in queued]
    assert {(row["status"], row["error_code"]) for row in rows} == set(words["failed"])


def test_process_lifts_the_tombstone_of_a_source_that_is_named(deployed: TwoDatabases) -> None:
    source_id = deployed.add_source()
    deployed.converge()
    bury(deployed.engines.chat, [Place(deployed.org_id, deployed.bot_id, source_id)], for_good=True)
    assert main(["process", "--all"]) == 0
    deployed.converge()
    assert deployed.answers() == {}
    assert main(["process", "--source", str(source_id)]) == 0
    deployed.converge()
    assert set(deployed.answers()) == {source_id}


@pytest.mark.parametrize(("error", "code", "words"), [(None, 0, "2 succeeded"), (NoText(), 1, "failed no_text")])
def test_process_waits_and_says_whether_any_failed(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    error: NoText | None, code: int, words: str,
) -> None:  # fmt: skip
    for _ in range(2):
        deployed.add_source()
    monkeypatch.setattr("workers.commands.process.time.sleep", lambda _seconds: deployed.work(error))
    assert main(["process", "--all", "--wait"]) == code
    printed = capsys.readouterr().out
    assert words in printed
    assert "trained 2/2" in printed


def test_process_of_a_bot_that_is_not_there_is_refused(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = uuid4()
    assert main(["process", "--bot", str(unknown)]) == 2
    assert capsys.readouterr().err == f"There is no bot {unknown} in the dashboard.\n"
    assert main(["process", "--bot", str(deployed.bot_id)]) == 0
    assert "0 of 0 sources queued" in capsys.readouterr().out


def test_process_says_what_it_waits_for_and_gives_up_where_nobody_is(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.add_source()
    monkeypatch.setattr("workers.commands.process.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("workers.commands.process.SAY_EVERY_S", 0.0)
    monkeypatch.setattr("workers.commands.process.STILL_FOR_S", 0.01)
    assert main(["process", "--all", "--wait"]) == 1
    printed = capsys.readouterr()
    assert "waited for: 1 waiting, 0 running, no worker has a task in hand; nobody sweeps: start `" in printed.out
    assert printed.out.endswith("\n1 still queued\n")
    assert "stopped waiting" in printed.err


@pytest.mark.parametrize("state", ["in hand", "put off"])
def test_process_waits_on_while_somebody_works_or_the_next_try_is_not_due(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    source_id, pauses = deployed.add_source(), []
    deployed.sweep()
    tasks = deployed.claim() if state == "in hand" else []
    if state == "put off":
        deployed.here("UPDATE training_tasks SET run_after = now() + interval '1 hour'")

    def work(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            deployed.here("UPDATE training_tasks SET run_after = now() WHERE status = 'waiting'")
            for task in tasks or deployed.claim():
                deployed.finish(task)

    monkeypatch.setattr("workers.commands.process.time.sleep", work)
    monkeypatch.setattr("workers.commands.process.SAY_EVERY_S", 0.0)
    monkeypatch.setattr("workers.commands.process.STILL_FOR_S", 0.0)
    assert main(["process", "--source", str(source_id), "--wait"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("\n1 succeeded\n")
    assert "nobody sweeps" not in printed


def test_clean_asks_first_and_removes_what_nobody_reads(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, deleted = deployed.add_source("Kept."), deployed.add_source("Deleted.")
    deployed.converge()
    assert main(["clean"]) == 0
    bury(deployed.engines.chat, [Place(deployed.org_id, deployed.bot_id, deleted)])
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(["clean"]) == 1
    assert "Nothing was removed." in capsys.readouterr().out
    assert main(["clean", "--yes"]) == 0
    assert "Removed 1 generations, 2 rows." in capsys.readouterr().out
    assert deployed.here("SELECT source_id FROM chunks") == [{"source_id": kept}]


def test_errors_are_sentences(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["process"]) == 2
    assert capsys.readouterr().err == "Say what to process: --source ID …, --bot ID, --failed or --all.\n"
    monkeypatch.setenv("PYTHON_CHAT_DB_PORT", str(free_port()))
    for command in (["status"], ["doctor"], ["process", "--all"], ["clean"]):
        assert main(command) == 2 or command == ["process", "--all"]
        error = capsys.readouterr().err
        assert "Traceback" not in error
    monkeypatch.delenv("DASHBOARD_DB_HOST")
    with pytest.raises(SystemExit) as ended:
        main(["status"])
    assert "DASHBOARD_DB_HOST is missing" in str(ended.value)


def figures(two: TwoDatabases) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Queue(two.engines.chat))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_queue_is_measured_when_it_is_asked_for(two: TwoDatabases) -> None:
    assert figures(two)['training_tasks_waiting{priority="bulk"}'] == 0
    sources: list[UUID] = [two.add_source() for _ in range(3)]
    two.sweep()
    found = figures(two)
    assert found['training_tasks_waiting{priority="bulk"}'] == 3
    assert found['training_tasks_waiting{priority="interactive"}'] == 0
    assert found["training_sweep_age_seconds"] < 600
    two.claim()
    two.here("UPDATE training_tasks SET lease_expires_at = now() - interval '1 s' WHERE source_id = :id", id=sources[0])
    two.here("UPDATE sources SET removal_held_at = now() WHERE source_id = :id", id=sources[1])
    found = figures(two)
    assert found['training_tasks_running{priority="bulk"}'] == 3
    assert found['training_tasks_lease_over{priority="bulk"}'] == 1
    assert found["training_removals_held"] == 1


def test_a_database_that_is_away_gives_no_figures() -> None:
    registry = CollectorRegistry()
    registry.register(Queue(engine_of("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1")))
    assert generate_latest(registry) == b""
