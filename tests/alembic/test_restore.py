"""A backup of the chat database, restored on a server that has never heard of its logins."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from deploy.local import databases, processes
from deploy.local.servers import Postgres, postgres
from tests.alembic.test_migrations import run
from tests.hostile.tenant_rows import Tenant, fill
from tests.servers import ROLE_PASSWORDS, as_role, free_port

pytestmark = pytest.mark.stack
MINE, OTHER = Tenant(), Tenant()


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with nothing in it but a superuser."""
    folder = tmp_path_factory.mktemp("fresh")
    cluster = postgres(folder / "postgres", free_port(), "fresh")
    with running(cluster):
        yield cluster


@contextmanager
def running(cluster: Postgres) -> Iterator[None]:
    process = processes.start(
        cluster.command(durable=False),
        env=dict(os.environ),
        cwd=cluster.data,
        log=cluster.home / "postgres.log",
        account=cluster.account,
    )
    try:
        databases.wait_for(cluster.dsn("postgres"))
        yield
    finally:
        process.terminate()
        process.wait(20)


def tool(cluster: Postgres, name: str, dsn: str, *arguments: str, given: bytes = b"") -> bytes:
    """What one of PostgreSQL's programs prints; it must not complain."""
    url = make_url(dsn)
    address: Sequence[str] = (
        "-h",
        str(url.host),
        "-p",
        str(url.port),
        "-U",
        str(url.username),
        "-d",
        str(url.database),
    )
    result = subprocess.run(
        [str(cluster.binaries / name), *address, *arguments],
        input=given,
        env={**os.environ, "PGPASSWORD": str(url.password)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stderr.decode()) == (0, "")
    return result.stdout


def test_a_backup_is_whole_on_a_server_that_did_not_know_the_logins(chat_db: str, fresh: Postgres) -> None:
    with psycopg.connect(chat_db) as admin:
        fill(admin, [MINE, OTHER])
    backup = tool(fresh, "pg_dump", chat_db, "-Fc")
    dsn = databases.create(fresh.dsn("postgres"), "restored")
    databases.apply_roles(dsn, ROLE_PASSWORDS)
    tool(fresh, "pg_restore", dsn, "--exit-on-error", given=backup)
    databases.apply_roles(dsn, ROLE_PASSWORDS)
    with psycopg.connect(as_role(dsn, databases.API)) as api:
        assert api.execute("SELECT count(*) FROM chunks").fetchone() == (0,)
        api.execute("SELECT set_config('app.org_id', %s, true)", [str(MINE.org_id)])
        assert api.execute("SELECT text FROM chunks").fetchall() == [(MINE.canary,)]
    with psycopg.connect(as_role(dsn, databases.WORKERS)) as workers:
        workers.execute("CREATE TEMPORARY TABLE staged_chunks (LIKE chunks)")
        assert workers.execute("SELECT count(*) FROM training_jobs").fetchone() == (2,)
    run(as_role(dsn, databases.MIGRATOR), "downgrade", "-1")
    run(as_role(dsn, databases.MIGRATOR), "upgrade", "head")
