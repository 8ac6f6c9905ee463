"""The real PostgreSQL, Redis and S3 that tests use: started once on free ports, in a folder that is thrown away."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import make_url

from chat_api.core.settings import Settings
from deploy.local import databases, processes
from deploy.local.probes import unready
from deploy.local.servers import Postgres, postgres, redis_command, redis_url, s3_command

REPOSITORY = databases.REPOSITORY
ROLE_PASSWORDS = {role: f"{role}'s" for role in databases.ROLES}


@dataclass(frozen=True)
class Servers:
    """Addresses of the session's servers. cluster_dsn: the superuser's, of the database `postgres`."""

    cluster_dsn: str
    redis_url: str
    s3_endpoint: str
    s3_access_key: str = "tests"
    s3_secret_key: str = "tests-secret"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(flags: Mapping[str, str] | None = None) -> Iterator[Servers]:
    """All three servers, without durability, ended and forgotten at the end; `flags` are PostgreSQL's settings."""
    folder = Path(tempfile.mkdtemp(prefix="chat-api-tests-"))
    folder.chmod(0o711)
    started: list[subprocess.Popen[bytes]] = []
    cluster: Postgres | None = None
    try:
        ports, password = {name: free_port() for name in ("postgres", "redis", "s3")}, secrets.token_hex(8)
        redis = redis_command(folder / "redis", ports["redis"], password, durable=False)
        started.append(_start("redis", redis, folder))
        started.append(_start("s3", s3_command(folder / "s3", ports["s3"], "tests"), folder))
        cluster = postgres(folder / "postgres", ports["postgres"], password)
        given = (word for name, value in (flags or {}).items() for word in ("-c", f"{name}={value}"))
        started.append(_start("postgres", (*cluster.command(durable=False), *given), folder, cluster))
        for name, port in ports.items():
            _wait_for(name, port, folder)
        databases.wait_for(cluster.dsn("postgres"))
        yield Servers(
            cluster_dsn=cluster.dsn("postgres"),
            redis_url=redis_url(ports["redis"], password),
            s3_endpoint=f"http://127.0.0.1:{ports['s3']}",
        )
    finally:
        for process in reversed(started):
            _end(process)
        for place in {folder, cluster.home if cluster else folder}:
            shutil.rmtree(place, ignore_errors=True)


def _start(
    name: str, command: tuple[str, ...], folder: Path, cluster: Postgres | None = None
) -> subprocess.Popen[bytes]:
    return processes.start(
        command,
        env=dict(os.environ),
        cwd=cluster.data if cluster else REPOSITORY,
        log=folder / f"{name}.log",
        account=cluster.account if cluster else None,
        death_signal=signal.SIGQUIT if cluster else signal.SIGTERM,
    )


def _wait_for(name: str, port: int, folder: Path) -> None:
    deadline = time.monotonic() + 30
    while problem := unready(f"tcp:{port}", 0):
        if time.monotonic() > deadline:
            log = folder.joinpath(f"{name}.log").read_text(errors="replace")
            raise RuntimeError(f"{name}: {problem}\n{log}")
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    # Nothing is kept, so PostgreSQL is ended at once, without its last checkpoint.
    process.send_signal(signal.SIGQUIT if "postgres" in str(process.args) else signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def make_chat_template(cluster_dsn: str, name: str = "chat_template") -> str:
    """A chat database at the migrations' head, to copy from; its name."""
    dsn = databases.create(cluster_dsn, name)
    databases.apply_roles(dsn, ROLE_PASSWORDS)
    result = subprocess.run(
        databases.MIGRATE,
        cwd=REPOSITORY,
        env={**os.environ, "CHAT_DB_URL": as_role(dsn, databases.MIGRATOR)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"the migrations failed:\n{result.stdout}{result.stderr}")
    return name


def as_role(dsn: str, role: str) -> str:
    """The same chat database's DSN, with one of its three logins."""
    return make_url(dsn).set(username=role, password=ROLE_PASSWORDS[role]).render_as_string(hide_password=False)


def as_api(settings: Settings) -> Settings:
    """The same deployment's settings, with the API's own login to the chat database."""
    return _with_login(settings, databases.API)


def as_workers(settings: Settings) -> Settings:
    """The same deployment's settings, with the workers' own login to the chat database."""
    return _with_login(settings, databases.WORKERS)


def _with_login(settings: Settings, role: str) -> Settings:
    login = {"python_chat_db_username": role, "python_chat_db_password": SecretStr(ROLE_PASSWORDS[role])}
    return settings.model_copy(update=login)


def make_dashboard_template(cluster_dsn: str, name: str = "dashboard_template") -> str:
    """A dashboard database with the reference schema, to copy from; its name."""
    databases.apply_dashboard_schema(databases.create(cluster_dsn, name))
    return name


@contextlib.contextmanager
def copied_database(cluster_dsn: str, template: str) -> Iterator[str]:
    """A fresh copy of the template; its DSN. Dropped at the end."""
    name = f"{template.removesuffix('_template')}_{secrets.token_hex(6)}"
    try:
        yield databases.create(cluster_dsn, name, template)
    finally:
        databases.drop(cluster_dsn, name)
