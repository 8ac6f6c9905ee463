"""What `clean` removes: what nobody reads, and all that is known of an org that the dashboard no longer has."""

from uuid import UUID

import pytest
from sqlalchemy import text

from deploy.local.databases import MIGRATOR
from tests.servers import ROLE_PASSWORDS
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.cli import main
from workers.commands.clean_org import TABLES
from workers.reconcile.burial import bury
from workers.reconcile.verdicts import Place

pytestmark = pytest.mark.stack
# Of what the training of a source leaves no row in.
FILL = (
    "INSERT INTO pages (org_id, bot_id, source_id, generation, url, outcome)"
    " SELECT org_id, bot_id, source_id, generation, 'https://example.com/' || n, 'read'"
    " FROM generations CROSS JOIN generate_series(1, 3) AS n WHERE org_id = :org_id",
    "INSERT INTO documents (org_id, bot_id, source_id, generation, document_id, title, media_type, text_sha256)"
    " SELECT org_id, bot_id, source_id, generation, gen_random_uuid(), 'Title', 'text/plain', '' FROM generations"
    " WHERE org_id = :org_id",
    "INSERT INTO quantized_bots (org_id, bot_id, space_id, rescored, chunks) VALUES (:org_id, :bot_id, 1, 200, 9)",
    "INSERT INTO quantized_generations (org_id, bot_id, source_id, generation, space_id)"
    " SELECT org_id, bot_id, source_id, generation, space_id FROM generations WHERE org_id = :org_id",
    "INSERT INTO quantized_embeddings (org_id, bot_id, source_id, generation, space_id, chunk_id, code)"
    " SELECT org_id, bot_id, source_id, generation, space_id, gen_random_uuid(), '1' FROM generations"
    " WHERE org_id = :org_id",
    "INSERT INTO conversations (org_id, bot_id, conversation_id, visitor)"
    " SELECT :org_id, :bot_id, gen_random_uuid(), 'visitor' FROM generate_series(1, 3)",
    "INSERT INTO turns (org_id, bot_id, message_id, conversation_id, ask_id, question, answer, finish_reason)"
    " SELECT org_id, bot_id, gen_random_uuid(), conversation_id, '1', 'Q?', 'A.', 'stop' FROM conversations"
    " WHERE org_id = :org_id",
    "INSERT INTO answers (org_id, bot_id, conversation_id, ask_id, visitor, question, holder, expires_at)"
    " VALUES (:org_id, :bot_id, gen_random_uuid(), '1', 'visitor', 'Q?', gen_random_uuid(), now())",
    "INSERT INTO answer_frames (org_id, bot_id, conversation_id, ask_id, first_seq, last_seq, frames)"
    " SELECT org_id, bot_id, conversation_id, ask_id, 1, 2, '{}' FROM answers WHERE org_id = :org_id",
    "INSERT INTO usage_days (org_id, bot_id, day, purpose, model) VALUES (:org_id, :bot_id, now(), 'chat', 'm')",
    "INSERT INTO budget_reservations (org_id, bot_id, reservation_id, day, tokens)"
    " VALUES (:org_id, :bot_id, gen_random_uuid(), now(), 1)",
)
GONE = ("training_sources WHERE org_id = :org_id", "bots WHERE org_id = :org_id", "orgs WHERE id = :org_id")


def test_clean_counts_what_it_removed_and_says_what_another_has_in_hand(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [Place(deployed.org_id, deployed.bot_id, deployed.add_source(f"Words {n}.")) for n in range(3)]
    deployed.converge()
    bury(deployed.engines.chat, places)
    with deployed.admin.begin() as connection:
        connection.execute(
            text("SELECT FROM generations WHERE source_id = :id FOR UPDATE"), {"id": places[1].source_id}
        )
        assert main(["clean", "--yes"]) == 1
    printed = capsys.readouterr().out
    assert "Removed 2 generations, 4 rows.\n1 are left" in printed
    assert "removed generations 2/3" in printed
    assert deployed.here("SELECT source_id FROM chunks") == [{"source_id": places[1].source_id}]
    assert main(["clean", "--yes"]) == 0
    assert capsys.readouterr().out.endswith("Removed 1 generations, 2 rows.\n")


@pytest.fixture
def tenants(deployed: TwoDatabases) -> tuple[UUID, UUID]:
    """Two orgs with rows in every table: one that goes, and one that stays."""
    going = deployed.add_bot(other_org=True)
    for org_id, bot_id in (going, (deployed.org_id, deployed.bot_id)):
        for number in range(3):
            deployed.add_source(f"Words {number}.", org_id=org_id, bot_id=bot_id)
    deployed.converge()
    for org_id, bot_id in (going, (deployed.org_id, deployed.bot_id)):
        deployed.add_source("Waits.", org_id=org_id, bot_id=bot_id)
        for statement in FILL:
            deployed.here(statement, org_id=org_id, bot_id=bot_id)
    deployed.sweep()
    counted = counts(deployed, going[0])
    assert set(counted) == set(TABLES)
    assert all(counted.values())
    return going[0], deployed.org_id


def counts(two: TwoDatabases, org_id: UUID) -> dict[str, int]:
    """An org's rows in every table that has an org."""
    tables = two.here(
        "SELECT relname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE attname = 'org_id'"
        " AND relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = CAST('public' AS regnamespace)"
    )
    return {
        table["relname"]: two.here(f"SELECT count(*) AS n FROM {table['relname']} WHERE org_id = :id", id=org_id)[0][
            "n"
        ]
        for table in tables
    }


@pytest.fixture
def as_migrator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The login that may delete tombstones and usage."""
    monkeypatch.setenv("CHAT_DB_MIGRATOR_USERNAME", MIGRATOR)
    monkeypatch.setenv("CHAT_DB_MIGRATOR_PASSWORD", ROLE_PASSWORDS[MIGRATOR])


def leave(two: TwoDatabases, org_id: UUID) -> None:
    for rows in GONE:
        two.there(f"DELETE FROM {rows}", org_id=org_id)


@pytest.mark.usefixtures("as_migrator")
def test_all_of_an_org_that_is_gone_is_removed_and_nothing_else(
    deployed: TwoDatabases, tenants: tuple[UUID, UUID], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    going, staying = tenants
    leave(deployed, going)
    before = counts(deployed, staying)
    asked: list[str] = []

    def no(question: str) -> str:
        asked.append(question)
        return "n"

    monkeypatch.setattr("builtins.input", no)
    assert main(["clean", "--org", str(going)]) == 1
    assert "3 conversations" in asked[0]
    assert all(counts(deployed, going).values())
    monkeypatch.setattr("workers.commands.clean_org.AT_ONCE", 2)
    monkeypatch.setattr("workers.commands.clean_org.BURIED_AT_ONCE", 3)
    assert main(["clean", "--org", str(going), "--yes"]) == 0
    assert (
        "9 pages, 1 quantized_bots, 3 quantized_embeddings, 3 quantized_generations, 4 sources"
        in capsys.readouterr().out
    )
    assert not any(counts(deployed, going).values())
    assert counts(deployed, staying) == before
    assert main(["clean", "--org", str(going), "--yes"]) == 0
    assert capsys.readouterr().out == "There is nothing to remove.\n"


@pytest.mark.usefixtures("as_migrator")
@pytest.mark.parametrize("there", range(1, len(GONE) + 1))
def test_an_org_that_the_dashboard_has_is_refused(
    deployed: TwoDatabases, tenants: tuple[UUID, UUID], capsys: pytest.CaptureFixture[str], there: int
) -> None:
    for rows in GONE[: there - 1]:
        deployed.there(f"DELETE FROM {rows}", org_id=tenants[0])
    assert main(["clean", "--org", str(tenants[0]), "--yes"]) == 2
    assert "The dashboard still has rows of org" in capsys.readouterr().err
    assert all(counts(deployed, tenants[0]).values())


@pytest.mark.usefixtures("as_migrator")
def test_a_dashboard_without_any_org_is_not_believed(
    deployed: TwoDatabases, tenants: tuple[UUID, UUID], capsys: pytest.CaptureFixture[str]
) -> None:
    for org_id in tenants:
        leave(deployed, org_id)
    assert main(["clean", "--org", str(tenants[0]), "--yes"]) == 2
    assert "The dashboard has no org at all." in capsys.readouterr().err
    assert all(counts(deployed, tenants[0]).values())


def test_a_login_that_may_not_delete_all_of_it_deletes_nothing(
    deployed: TwoDatabases, tenants: tuple[UUID, UUID], capsys: pytest.CaptureFixture[str]
) -> None:
    leave(deployed, tenants[0])
    assert main(["clean", "--org", str(tenants[0]), "--yes"]) == 2
    assert "login chat_workers may not delete all of this. Set CHAT_DB_MIGRATOR_USERNAME" in capsys.readouterr().err
    assert all(counts(deployed, tenants[0]).values())
