"""Runs that an operator ends: whose they are, what the owner reads, and that they stay ended."""

from io import StringIO
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.workers.chat_rows import engine_of
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.cli import main
from workers.commands.cancel import Named, cancel
from workers.tasks.life import hold

pytestmark = pytest.mark.stack


def test_a_bots_runs_end_at_once_and_nobody_elses(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.commands.cancel.AT_ONCE", 1)
    running = deployed.add_source("Runs.")
    deployed.sweep()
    (task,) = deployed.claim()
    waiting, other = deployed.add_source("Waits."), deployed.add_source("Other.", bot_id=deployed.add_bot()[1])
    org_id, bot_id = deployed.add_bot(other_org=True)
    elsewhere = deployed.add_source("Elsewhere.", org_id=org_id, bot_id=bot_id)
    deployed.sweep()
    capsys.readouterr()
    assert main(["cancel", "--bot", str(deployed.bot_id)]) == 0
    assert capsys.readouterr().out == "sources 2/2\n2 runs cancelled\n"
    for source_id in (running, waiting):
        row = deployed.row(source_id)
        assert (row["status"], row["error_code"]) == ("cancelled", "cancelled")
    with deployed.engines.chat.begin() as connection:
        assert hold(connection, [task]) == set()
    deployed.converge()
    assert [deployed.runs(source_id) for source_id in (running, waiting)] == [["cancelled"], ["cancelled"]]
    assert [deployed.runs(source_id) for source_id in (other, elsewhere)] == [["succeeded"], ["succeeded"]]
    capsys.readouterr()
    assert main(["cancel", "--bot", str(deployed.bot_id)]) == 0
    assert capsys.readouterr().out == "0 runs cancelled\n"


def test_an_orgs_runs_end_and_those_of_named_sources(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (deployed.add_source(f"Words {number}.") for number in range(3))
    org_id, bot_id = deployed.add_bot(other_org=True)
    elsewhere = deployed.add_source("Elsewhere.", org_id=org_id, bot_id=bot_id)
    deployed.sweep()
    capsys.readouterr()
    assert main(["cancel", "--source", str(first), str(second)]) == 0
    assert [deployed.runs(source_id) for source_id in (first, second, third)] == [
        ["cancelled"], ["cancelled"], ["waiting"],
    ]  # fmt: skip
    assert main(["cancel", "--org", str(deployed.org_id)]) == 0
    assert (deployed.runs(third), deployed.runs(elsewhere)) == (["cancelled"], ["waiting"])
    assert capsys.readouterr().out == "sources 2/2\n2 runs cancelled\nsources 1/1\n1 runs cancelled\n"


def test_what_others_hold_is_left_and_told(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.commands.cancel.AT_ONCE", 1)
    held, free = sorted(deployed.add_source(f"Words {number}.") for number in range(2))
    deployed.sweep()
    capsys.readouterr()
    with deployed.admin.connect() as holder:
        holder.execute(text("SELECT FROM sources WHERE source_id = :id FOR UPDATE"), {"id": held})
        assert main(["cancel", "--org", str(deployed.org_id)]) == 1
    assert (deployed.runs(held), deployed.runs(free)) == (["waiting"], ["cancelled"])
    said = capsys.readouterr()
    assert said.out == "sources 2/2\n1 runs cancelled\n"
    assert "1 sources are held by other work" in said.err


def test_what_answers_goes_on_answering(deployed: TwoDatabases) -> None:
    source_id = deployed.add_source("Old.")
    deployed.converge()
    deployed.edit(source_id, "New.")
    deployed.sweep()
    assert main(["cancel", "--source", str(source_id)]) == 0
    deployed.converge()
    row = deployed.row(source_id)
    assert (row["status"], row["error_code"], deployed.answers()) == ("trained", "cancelled", {source_id: "Old."})


@pytest.mark.parametrize("which", ["--source", "--bot", "--org"])
def test_an_id_of_which_nothing_was_queued_is_refused(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    deployed.add_source()
    deployed.sweep()
    assert main(["cancel", which, str(uuid4())]) == 2
    assert "Is it the right id?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cancel"])


def test_runs_end_while_the_dashboard_is_away(two: TwoDatabases) -> None:
    source_id = two.add_source()
    two.sweep()
    away = engine_of("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
    assert cancel(type(two.engines)(two.engines.chat, away), Named(org_id=two.org_id), StringIO()).runs == 1
    assert (two.runs(source_id), two.status(source_id)) == (["cancelled"], "queued")
    two.sweep()
    assert two.status(source_id) == "cancelled"
