"""The chat database's three logins: made by whoever administers it, also over a database from before there were any."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from chat_api.core.models import ChatBase
from deploy.local import databases
from tests.alembic.test_migrations import run
from tests.servers import ROLE_PASSWORDS, Servers, as_role

pytestmark = pytest.mark.stack


@dataclass
class Owned:
    """A database that belongs to a login which is no superuser, as a managed server gives it."""

    admin_dsn: str
    owner: str

    @property
    def owner_dsn(self) -> str:
        """The owner's address."""
        url = make_url(self.admin_dsn).set(username=self.owner, password=self.owner)
        return url.render_as_string(hide_password=False)


@pytest.fixture
def owned(servers: Servers) -> Iterator[Owned]:
    """A fresh one, with pgvector."""
    name = f"owned_{secrets.token_hex(6)}"
    with psycopg.connect(servers.cluster_dsn, autocommit=True) as admin:
        given = {"name": sql.Identifier(name), "password": sql.Literal(name)}
        admin.execute(sql.SQL("CREATE ROLE {name} LOGIN CREATEROLE PASSWORD {password}").format(**given))
        admin.execute(sql.SQL("CREATE DATABASE {name} OWNER {name}").format(**given))
        dsn = databases.dsn_of(servers.cluster_dsn, name)
        databases.apply_roles(dsn, ROLE_PASSWORDS)  # the cluster's logins are there, whichever test comes first
        yield Owned(dsn, name)
        databases.drop(servers.cluster_dsn, name)
        admin.execute(sql.SQL("DROP ROLE {name}").format(**given))


def owners(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as admin:
        rows = admin.execute(
            "SELECT DISTINCT rolname FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S')"
            " UNION SELECT rolname FROM pg_proc JOIN pg_roles ON pg_roles.oid = proowner"
            " WHERE pronamespace = 'public'::regnamespace AND prosecdef"
            " UNION SELECT unnest(polroles)::regrole::text FROM pg_policy WHERE polname = 'owner'"
        ).fetchall()
    return {name for (name,) in rows}


def test_an_administrator_needs_no_superuser_and_may_repeat_it(owned: Owned) -> None:
    with psycopg.connect(owned.admin_dsn) as admin:  # who has made the logins has this
        grant = sql.SQL("GRANT chat_migrator, chat_workers, chat_api TO {} WITH ADMIN OPTION")
        admin.execute(grant.format(sql.Identifier(owned.owner)))
    for _ in range(2):
        databases.apply_roles(owned.owner_dsn, ROLE_PASSWORDS)
    run(as_role(owned.admin_dsn, databases.MIGRATOR), "upgrade", "head")
    databases.apply_roles(owned.owner_dsn, ROLE_PASSWORDS)
    assert owners(owned.admin_dsn) == {databases.MIGRATOR}
    with psycopg.connect(as_role(owned.admin_dsn, databases.API)) as api:
        assert api.execute("SELECT count(*) FROM turns").fetchone() == (0,)


def test_a_database_from_before_is_handed_over_under_those_who_use_it(owned: Owned) -> None:
    run(owned.owner_dsn, "upgrade", "0005")
    org_id = uuid4()
    with psycopg.connect(owned.owner_dsn, autocommit=True) as old:
        insert = "INSERT INTO bots (org_id, bot_id, name) VALUES (%s, %s, 'Old')"
        old.execute(insert, [org_id, uuid4()])
        databases.apply_roles(owned.admin_dsn, ROLE_PASSWORDS)
        old.execute(insert, [org_id, uuid4()])
        run(as_role(owned.admin_dsn, databases.MIGRATOR), "upgrade", "head")
        old.execute(insert, [org_id, uuid4()])
        old.execute("CREATE TEMPORARY TABLE staged_chunks (LIKE chunks)")
        assert old.execute("SELECT count(*) FROM bots").fetchone() == (3,)
    assert owners(owned.admin_dsn) == {databases.MIGRATOR}
    with psycopg.connect(as_role(owned.admin_dsn, databases.API)) as api:
        assert api.execute("SELECT count(*) FROM bots").fetchone() == (0,)
        api.execute("SELECT set_config('app.org_id', %s, true)", [str(org_id)])
        assert api.execute("SELECT count(*) FROM bots").fetchone() == (3,)


def test_what_was_migrated_by_somebody_else_is_the_migrators_after_it(owned: Owned) -> None:
    run(owned.owner_dsn, "upgrade", "head")
    assert owners(owned.admin_dsn) == {owned.owner}
    databases.apply_roles(owned.admin_dsn, ROLE_PASSWORDS)
    assert owners(owned.admin_dsn) == {databases.MIGRATOR}
    run(as_role(owned.admin_dsn, databases.MIGRATOR), "downgrade", "0005")
    run(as_role(owned.admin_dsn, databases.MIGRATOR), "upgrade", "head")


def test_every_table_was_thought_of(chat_db: str) -> None:
    with psycopg.connect(chat_db) as admin:
        rows = admin.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity,"
            " ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = pg_class.oid ORDER BY 1),"
            " has_any_column_privilege('chat_api', oid, 'SELECT') OR has_any_column_privilege('chat_workers', oid, 'SELECT')"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
        ).fetchall()
    found = {name: (forced, set(policies), granted) for name, forced, policies, granted in rows}
    assert set(found) == {*ChatBase.metadata.tables, "alembic_version"}
    for name, (forced, policies, granted) in found.items():
        assert granted, f"{name}: no login may read it; grant what they need in its migration"
        table = ChatBase.metadata.tables.get(name)
        if table is not None and "org_id" in table.columns:
            assert forced, f"{name} has an org: force row-level security in its migration"
            assert {"owner", "tenant"} <= policies, f"{name}: its migration makes the policies `owner` and `tenant`"


def test_public_has_nothing(chat_db: str) -> None:
    with psycopg.connect(chat_db) as admin:
        rows = admin.execute(
            "SELECT relname FROM pg_class, aclexplode(relacl) AS given WHERE grantee = 0"
            " AND relnamespace = 'public'::regnamespace"
            " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
            " AND (proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) AS given WHERE grantee = 0))"
        ).fetchall()
    assert rows == []
