"""Both databases of a cluster: made, the dashboard's reference schema applied, the chat database migrated."""

import os
import sys
import time
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

REPOSITORY = Path(__file__).resolve().parents[2]
DASHBOARD, CHAT = "dashboard", "chat"
DASHBOARD_SCHEMA = REPOSITORY / "deploy" / "sql" / "dashboard.sql"
MIGRATE = (sys.executable, "-m", "alembic", "-c", "alembic/alembic.ini", "upgrade", "head")
# The superuser's address of the cluster, for `python -m deploy.local.databases`; a command line is everybody's to read.
CLUSTER_DSN = "EMBEDDED_POSTGRES_DSN"


def wait_for(dsn: str, seconds: float = 30) -> None:
    """Return once the server at `dsn` takes queries; psycopg.OperationalError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def create(cluster_dsn: str, name: str, template: str = "template1") -> str:
    """Make the database unless it is there; its DSN."""
    with psycopg.connect(cluster_dsn, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return dsn_of(cluster_dsn, name)


def drop(cluster_dsn: str, name: str) -> None:
    """Drop the database, whoever is connected to it."""
    with psycopg.connect(cluster_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def dsn_of(cluster_dsn: str, name: str) -> str:
    """The URI of another database of the same cluster."""
    return f"{cluster_dsn.rpartition('/')[0]}/{name}"


def apply_dashboard_schema(dsn: str) -> None:
    """The dashboard's tables, where they are missing."""
    with psycopg.connect(dsn) as connection:
        connection.execute(DASHBOARD_SCHEMA.read_bytes())


def add_vector(dsn: str) -> None:
    """The pgvector extension, which only a superuser may add."""
    with psycopg.connect(make_conninfo(dsn, options="-c client_min_messages=warning")) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


def main() -> None:
    """Make both databases of the cluster at EMBEDDED_POSTGRES_DSN, then become Alembic, which reads the settings."""
    cluster = os.environ[CLUSTER_DSN]
    wait_for(cluster)
    apply_dashboard_schema(create(cluster, DASHBOARD))
    add_vector(create(cluster, CHAT))
    os.execv(MIGRATE[0], MIGRATE)


if __name__ == "__main__":
    main()
