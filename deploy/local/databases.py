"""Both databases of a cluster: made, the dashboard's reference schema applied, the chat database migrated."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

REPOSITORY = Path(__file__).resolve().parents[2]
DASHBOARD, CHAT = "dashboard", "chat"
DASHBOARD_SCHEMA = REPOSITORY / "deploy" / "sql" / "dashboard.sql"
ROLES_SCRIPT = REPOSITORY / "deploy" / "sql" / "roles.sql"
ROLES = MIGRATOR, WORKERS, API = "chat_migrator", "chat_workers", "chat_api"
MIGRATE = (sys.executable, "-m", "alembic", "-c", "alembic/alembic.ini", "upgrade", "head")
# The superuser's address of the cluster, for `python -m deploy.local.databases`; a command line is everybody's to read.
CLUSTER_DSN = "EMBEDDED_POSTGRES_DSN"
ROLE_PASSWORD = "{}_PASSWORD"
"""By a role's name, the variable with its password, for the same command."""


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


def apply_roles(dsn: str, passwords: Mapping[str, str]) -> None:
    """The chat database's three logins, with these passwords by role, and pgvector, which only a superuser may add."""
    script = ROLES_SCRIPT.read_text(encoding="utf-8")
    for role, password in passwords.items():
        variable = f":'{role.removeprefix('chat_')}_password'"
        script = script.replace(variable, sql.Literal(password).as_string())
    with psycopg.connect(make_conninfo(dsn, options="-c client_min_messages=warning")) as connection:
        connection.execute(script.encode())


def main() -> None:
    """Make both databases of the cluster at EMBEDDED_POSTGRES_DSN, then become Alembic, which reads the settings."""
    cluster = os.environ[CLUSTER_DSN]
    wait_for(cluster)
    apply_dashboard_schema(create(cluster, DASHBOARD))
    passwords = {role: os.environ[ROLE_PASSWORD.format(role.upper())] for role in ROLES}
    apply_roles(create(cluster, CHAT), passwords)
    os.execv(MIGRATE[0], MIGRATE)


if __name__ == "__main__":
    main()
