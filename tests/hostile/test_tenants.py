"""What the API's login can get of another org: nothing, also with every condition taken out of the API's statements.

`TENANT_PROBES=100000` tries so many; a few thousand are tried otherwise.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice, permutations

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from chat_api.core.models.chat import PARTITIONS
from deploy.local import databases
from tests.hostile.tenant_probes import Probe, Seen, attempt, other_probes, shuffled, statement_probes, table_probes
from tests.hostile.tenant_rows import TENANT_TABLES, Tenant, fill
from tests.hostile.tenant_statements import Statement, chat_statements
from tests.servers import ROLE_PASSWORDS, Servers, as_role, copied_database

pytestmark = pytest.mark.stack

PROBES = int(os.environ.get("TENANT_PROBES", "3000"))
TENANTS = [Tenant() for _ in range(4)]


@pytest.fixture(scope="module")
def filled_db(servers: Servers, chat_template: str) -> Iterator[str]:
    """DSN of a chat database with rows of every tenant, in every table."""
    with copied_database(servers.cluster_dsn, chat_template) as dsn:
        databases.apply_roles(dsn, ROLE_PASSWORDS)  # what a database grants is not copied with it
        with psycopg.connect(dsn) as admin:
            fill(admin, TENANTS)
        yield dsn


@pytest.fixture(scope="module")
def statements(filled_db: str) -> list[Statement]:
    """The API's statements on the chat database."""
    with psycopg.connect(filled_db) as admin:
        return chat_statements(admin)


@pytest.fixture
def api(filled_db: str) -> Iterator[psycopg.Connection]:
    """A connection with the API's login."""
    with psycopg.connect(make_conninfo(as_role(filled_db, databases.API)), autocommit=True) as connection:
        yield connection


def probes_on(mine: Tenant, victim: Tenant, statements: Sequence[Statement]) -> list[Probe]:
    tables = [probe for table in TENANT_TABLES for probe in table_probes(table, mine, victim)]
    return [*tables, *statement_probes(statements, victim), *other_probes()]


def tried(api: psycopg.Connection, statements: Sequence[Statement], most: int) -> Seen:
    """What so many probes give, of every pair of tenants in turn."""
    seen, pairs = Seen(), list(permutations(TENANTS, 2))
    for number, (mine, victim) in enumerate(pairs):
        others = [tenant for tenant in TENANTS if tenant != mine]
        for probe in islice(shuffled(probes_on(mine, victim, statements), number), -(-most // len(pairs))):
            attempt(api, mine, others, probe, seen)
    return seen


def test_every_table_with_an_org_is_probed(filled_db: str) -> None:
    with psycopg.connect(filled_db) as admin:
        found = admin.execute(
            "SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'org_id'"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
        ).fetchall()
        assert {name for (name,) in found} == {table.name for table in TENANT_TABLES}
        for (name,) in found:
            orgs = admin.execute(sql.SQL("SELECT DISTINCT org_id FROM {}").format(sql.Identifier(name))).fetchall()
            assert {org_id for (org_id,) in orgs} == {tenant.org_id for tenant in TENANTS}, name


def test_nothing_of_another_org_comes_back(api: psycopg.Connection, statements: list[Statement]) -> None:
    assert len(statements) >= 50
    seen = tried(api, statements, PROBES)
    print(f"{seen.probes} probes, {seen.refused} refused, {seen.leaks.total()} leaks")
    assert seen.probes >= PROBES
    assert seen.refused < seen.probes / 2, "most must be answered, or they show nothing"
    assert seen.leaks == {}


def test_the_rows_are_still_there(filled_db: str) -> None:
    with psycopg.connect(filled_db) as admin:
        for table in TENANT_TABLES:
            count = admin.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))).fetchone()
            assert count == (len(TENANTS),), table.name


def test_an_org_sees_its_own(api: psycopg.Connection) -> None:
    for table in TENANT_TABLES:
        with api.transaction(force_rollback=True):
            api.execute("SELECT set_config('app.org_id', %s, true)", [str(TENANTS[0].org_id)])
            rows = api.execute(sql.SQL("SELECT org_id FROM {}").format(sql.Identifier(table.name))).fetchall()
        assert rows == [(TENANTS[0].org_id,)], table.name


ACROSS_ORGS = {
    "bots", "generations", "quantized_bots", "quantized_generations", "sources", "training_jobs", "training_tasks",
}  # fmt: skip
NOT_WORKERS = {"budget_reservations", "answer_frames"}


@pytest.mark.parametrize("role", [databases.API, databases.WORKERS])
def test_who_has_not_said_whose_rows_it_wants_gets_none(filled_db: str, role: str) -> None:
    workers = role == databases.WORKERS
    with psycopg.connect(as_role(filled_db, role), autocommit=True) as connection:
        for said in (False, True):  # also after a transaction in which it was said
            for table in TENANT_TABLES:
                if workers and table.name in NOT_WORKERS:
                    continue
                count = connection.execute(
                    sql.SQL("SELECT count(org_id) FROM {}").format(sql.Identifier(table.name))
                ).fetchone()
                across = workers and table.name in ACROSS_ORGS
                assert count == ((len(TENANTS) if across else 0),), (table.name, said)
            with connection.transaction():
                connection.execute("SELECT set_config('app.org_id', %s, true)", [str(TENANTS[0].org_id)])


@pytest.mark.parametrize("table", sorted(NOT_WORKERS))
def test_workers_have_no_business_with_answers_in_flight_and_budgets(filled_db: str, table: str) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(as_role(filled_db, databases.WORKERS)) as connection, refused:
        connection.execute(f"SELECT org_id FROM {table}".encode())


def test_without_policies_the_same_probes_find_others(
    servers: Servers, filled_db: str, statements: list[Statement]
) -> None:
    with copied_database(servers.cluster_dsn, filled_db.rpartition("/")[2]) as dsn:
        with psycopg.connect(dsn) as admin:
            for table in TENANT_TABLES:
                admin.execute(sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(sql.Identifier(table.name)))
        with psycopg.connect(as_role(dsn, databases.API), autocommit=True) as api:
            seen = Seen()
            for probe in probes_on(TENANTS[0], TENANTS[1], statements):
                attempt(api, TENANTS[0], TENANTS[1:], probe, seen)
    leaked = {name.partition(":")[0] for name in seen.leaks}
    assert {table.name for table in TENANT_TABLES} <= leaked
    mutated = {name for name in seen.leaks if "without" in name}
    assert len(mutated) > 30
    print(f"{seen.probes} probes without policies, {seen.leaks.total()} leaks")


@pytest.mark.parametrize("role", [databases.API, databases.WORKERS])
@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE turns",
        "CREATE TABLE mine (a int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1",
        "ALTER TABLE turns DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE chunks NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON turns",
        "CREATE POLICY mine ON turns USING (true)",
        "ALTER TABLE turns ADD COLUMN mine int",
        "DROP TABLE turns",
        "CREATE INDEX ON turns (answer)",
        "SET ROLE chat_migrator",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE SCHEMA mine",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "UPDATE alembic_version SET version_num = '0001'",
        "SELECT * FROM chunks_00",
        "SELECT * FROM embeddings_63",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_neither_login_can_change_the_schema_or_its_own_rights(filled_db: str, role: str, statement: str) -> None:
    with psycopg.connect(as_role(filled_db, role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE sql RETURN true",
        "SELECT setval('status_versions', 1)",
        "SELECT nextval('fences')",
        "SELECT last_value FROM status_versions",
        "INSERT INTO leases (name) VALUES ('mine')",
        "INSERT INTO chunks SELECT * FROM chunks",
        "DELETE FROM sources",
    ],
)
def test_the_api_can_do_no_more_than_it_does(api: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        api.execute(statement.encode())


@pytest.mark.parametrize("column", ["config", "allowed_origins", "org_limits"])
def test_workers_do_not_read_what_a_bot_is_told(filled_db: str, column: str) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(as_role(filled_db, databases.WORKERS)) as connection, refused:
        connection.execute(f"SELECT {column} FROM bots".encode())


def test_past_its_policies_a_login_is_refused_outright(api: psycopg.Connection) -> None:
    api.execute("SET row_security = off")
    for table in TENANT_TABLES:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            api.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table.name)))


def test_every_partition_has_the_policy_too(filled_db: str) -> None:
    with psycopg.connect(filled_db) as admin:
        rows = admin.execute(
            "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relrowsecurity"
            " AND relforcerowsecurity AND (SELECT count(*) FROM pg_policy WHERE polrelid = pg_class.oid) = 2"
        ).fetchall()
    assert len(rows) == 2 * PARTITIONS
