"""The chat database's migrations: there and back on an empty database, and equal to the models."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint
from sqlalchemy.schema import SchemaItem

from chat_api.core.models.chat import PARTITIONS, ChatBase
from deploy.local import databases
from tests.servers import Servers
from tests.workers.chat_rows import engine_of
from workers.tasks.claims import claim

pytestmark = pytest.mark.stack
HEAD = ScriptDirectory(str(databases.REPOSITORY / "alembic")).get_current_head()


@pytest.fixture
def empty_db(servers: Servers) -> Iterator[str]:
    name = f"empty_{secrets.token_hex(6)}"
    yield databases.create(servers.cluster_dsn, name)
    databases.drop(servers.cluster_dsn, name)


def start(dsn: str, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*databases.MIGRATE[:-2], *command],
        cwd=databases.REPOSITORY,
        env={**os.environ, "CHAT_DB_URL": dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(dsn: str, *command: str) -> None:
    process = start(dsn, *command)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def relations(dsn: str) -> set[tuple[str, str]]:
    """Every table, index and sequence with its definition, and every constraint."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT relname || ' ' || relkind::text, coalesce(pg_get_indexdef(CASE WHEN relkind = 'i' THEN oid END), '')"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'"
            " UNION SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic_version%'"
        )
        return {(name, definition) for name, definition in found}


def test_up_down_and_up_again(empty_db: str) -> None:
    before = relations(empty_db)
    run(empty_db, "upgrade", "head")
    there = relations(empty_db)
    assert len(there) > 2 * PARTITIONS
    run(empty_db, "downgrade", "base")
    assert relations(empty_db) == before
    run(empty_db, "upgrade", "head")
    assert relations(empty_db) == there


def test_what_waits_or_runs_goes_on_after_the_second(empty_db: str) -> None:
    run(empty_db, "upgrade", "0001")
    org_id, bot_id, running, behind, cancelled = (uuid4() for _ in range(5))
    with psycopg.connect(empty_db) as connection:
        for source_id, status, cancelled_at in [
            (running, "running", None), (behind, "running", None), (behind, "waiting", None),
            (cancelled, "running", "now"),
        ]:  # fmt: skip
            connection.execute(
                "INSERT INTO training_jobs (job_id, org_id, bot_id, source_id, status, cancel_requested_at)"
                " VALUES (gen_random_uuid(), %s, %s, %s, %s, %s)",
                [org_id, bot_id, source_id, status, cancelled_at],
            )
    run(empty_db, "upgrade", "head")
    with psycopg.connect(empty_db) as connection:
        found = connection.execute("SELECT source_id, status FROM training_jobs").fetchall()
    assert sorted(found) == sorted([
        (running, "waiting"), (behind, "cancelled"), (behind, "waiting"), (cancelled, "cancelled")
    ])  # fmt: skip
    engine = engine_of(empty_db)
    with engine.begin() as connection:
        claimed = [task.source_id for _ in range(3) for task in claim(connection, "worker-1", cap=8)]
    engine.dispose()
    assert set(claimed) == {running, behind}


def test_replicas_that_migrate_at_once_wait_for_each_other(empty_db: str) -> None:
    replicas = [start(empty_db, "upgrade", "head") for _ in range(2)]
    for replica in replicas:
        output, _ = replica.communicate(timeout=60)
        assert replica.returncode == 0, output


def _is_listed(_item: SchemaItem, name: str | None, kind: str, reflected: bool, _other: SchemaItem | None) -> bool:
    """Partitions are made by the migration and are not listed in the models."""
    return not (kind == "table" and reflected and name is not None and name[-2:].isdigit())


def test_the_models_are_what_the_migrations_make(chat_db: str) -> None:
    engine = engine_of(chat_db)
    with engine.connect() as connection:
        options = {"include_object": _is_listed, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, ChatBase.metadata) == []
        checks = connection.exec_driver_sql(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        ).scalars()
        listed = [item for table in ChatBase.metadata.tables.values() for item in table.constraints]
        assert set(checks) == {str(item.name) for item in listed if isinstance(item, CheckConstraint)}
    engine.dispose()


def test_vectors_are_stored_plain_in_every_partition_by_bot(chat_db: str) -> None:
    with psycopg.connect(chat_db) as connection:
        storage = connection.execute(
            "SELECT relname, attstorage::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE attname = 'vector' AND relname LIKE 'embeddings%' AND relkind IN ('r', 'p')"
        ).fetchall()
        partitioned = connection.execute(
            "SELECT partrelid::regclass::text, pg_get_partkeydef(partrelid), count(*) FROM pg_partitioned_table"
            " JOIN pg_inherits ON inhparent = partrelid GROUP BY partrelid"
        ).fetchall()
    assert len(storage) == PARTITIONS + 1
    assert {kind for _, kind in storage} == {"p"}
    assert set(partitioned) == {(name, "HASH (bot_id)", PARTITIONS) for name in ("chunks", "embeddings")}


@pytest.mark.parametrize("sequence", ["fences", "status_versions"])
def test_fences_and_versions_only_grow(chat_db: str, sequence: str) -> None:
    with psycopg.connect(chat_db) as connection:
        row = connection.execute(
            "SELECT data_type::text, increment_by, cycle FROM pg_sequences WHERE sequencename = %s", [sequence]
        ).fetchone()
    assert row == ("bigint", 1, False)


def version(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row
    return str(row[0])


@pytest.mark.parametrize("patient", [True, False])
def test_a_migration_does_not_queue_up_readers_behind_a_backup(empty_db: str, patient: bool) -> None:
    run(empty_db, "upgrade", "0006")
    with psycopg.connect(empty_db) as backup, psycopg.connect(empty_db, autocommit=True) as reader:
        backup.execute("LOCK TABLE documents IN ACCESS SHARE MODE")
        process = start(empty_db, "-x", f"tries={20 if patient else 1}", "upgrade", "head")
        if patient:
            assert process.stdout
            assert "19 more tries" in process.stdout.readline()
            reader.execute("SET lock_timeout = '1s'")
            reader.execute("SELECT count(*) FROM documents")
            backup.rollback()
        output, _ = process.communicate(timeout=60)
    assert (process.returncode == 0) is patient, output
    assert patient or ("pg_dump" in output and "Nothing was changed" in output and "Traceback" not in output)
    assert version(empty_db) == (HEAD if patient else "0006")


def test_an_older_version_leaves_a_newer_database_alone_and_does_not_fail(empty_db: str) -> None:
    run(empty_db, "upgrade", "head")
    with psycopg.connect(empty_db) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of-a-newer-version'")
    process = start(empty_db, "upgrade", "head")
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, version(empty_db)) == (0, "of-a-newer-version")
    assert "newer version" in output
    process = start(empty_db, "downgrade", "base")
    output, _ = process.communicate(timeout=60)
    assert (process.returncode != 0, version(empty_db)) == (True, "of-a-newer-version"), output
