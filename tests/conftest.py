"""Fixtures of all tests: the session's real servers, fresh databases and buckets, and no socket beyond loopback."""

import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as examples
from sqlalchemy import make_url

from chat_api.core.settings import Settings
from deploy.local.children import SETTING_NAMES, embedded
from deploy.local.stack import remove, up
from tests.servers import Servers, copied_database, make_chat_template, make_dashboard_template, running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# How long an example takes says something about the machine alone.
examples.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples.load_profile("untimed")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Archives have the time in them: their tests are named alike in every process."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL, Redis and S3, started for the first test that asks and kept for the session."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def chat_template(servers: Servers) -> str:
    """Name of the chat database that the tests' own are copied from."""
    return make_chat_template(servers.cluster_dsn)


@pytest.fixture(scope="session")
def dashboard_template(servers: Servers) -> str:
    """Name of the dashboard database that the tests' own are copied from."""
    return make_dashboard_template(servers.cluster_dsn)


@pytest.fixture
def chat_db(servers: Servers, chat_template: str) -> Iterator[str]:
    """DSN (postgresql://…) of a fresh chat database at the migrations' head."""
    with copied_database(servers.cluster_dsn, chat_template) as dsn:
        yield dsn


@pytest.fixture
def dashboard_db(servers: Servers, dashboard_template: str) -> Iterator[str]:
    """DSN (postgresql://…) of a fresh dashboard database."""
    with copied_database(servers.cluster_dsn, dashboard_template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_chat_db(servers: Servers, chat_template: str) -> Iterator[str]:
    """DSN of a chat database that a module's tests share."""
    with copied_database(servers.cluster_dsn, chat_template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_dashboard_db(servers: Servers, dashboard_template: str) -> Iterator[str]:
    """DSN of a dashboard database that a module's tests share."""
    with copied_database(servers.cluster_dsn, dashboard_template) as dsn:
        yield dsn


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """Address of an empty Redis."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


@pytest.fixture(scope="session")
def s3(servers: Servers) -> Iterator["S3Client"]:
    """An S3 client of the session's endpoint, for all of its buckets."""
    client = boto3.client(
        "s3",
        endpoint_url=servers.s3_endpoint,
        aws_access_key_id=servers.s3_access_key,
        aws_secret_access_key=servers.s3_secret_key,
        region_name="us-east-1",
    )
    with closing(client):
        yield client


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    """Name of a fresh, empty bucket."""
    name = f"bucket-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def settings(servers: Servers, chat_db: str, dashboard_db: str, redis_url: str, bucket: str) -> Settings:
    """Settings of a deployment on the session's servers, with local embeddings and quoted answers.

    Change some by `settings.model_copy(update={…})`.
    """
    return make_settings(servers, chat_db, dashboard_db, redis_url, bucket)


def make_settings(servers: Servers, chat_db: str, dashboard_db: str, redis_url: str, bucket: str) -> Settings:
    """Settings as the fixture gives them, for a fixture of another scope."""
    return Settings.model_validate(
        {
            "app_env": "test",
            **_database("dashboard_db", dashboard_db),
            **_database("python_chat_db", chat_db),
            "redis_url": redis_url,
            "embedding_provider": "local",
            "llm_provider": "extractive",
            "r2_endpoint_url": servers.s3_endpoint,
            "r2_bucket": bucket,
            "access_key_id": servers.s3_access_key,
            "secret_access_key": servers.s3_secret_key,
        }
    )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What stack.json says of an embedded stack that runs for the session, keyless as `make up` starts it."""
    root = tmp_path_factory.mktemp("stack") / "state"
    environ = {name: value for name, value in os.environ.items() if name not in SETTING_NAMES}
    try:
        yield up(root, lambda state: embedded(state, environ))
    finally:
        remove(root)


def _database(prefix: str, dsn: str) -> dict[str, Any]:
    url = make_url(dsn)
    parts = {"host": url.host, "port": url.port, "username": url.username, "password": url.password}
    return {f"{prefix}_{name}": value for name, value in {**parts, "name": url.database}.items()}


def _only_loopback(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto"}:
        address = arguments[-1]
        # Other families (unix, netlink) stay on the machine.
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            pytest.fail(f"a test reached for {address[0]}: only loopback is allowed")
    elif event == "socket.getaddrinfo" and not _needs_no_server(arguments[0]):
        raise socket.gaierror(socket.EAI_NONAME, "names are not resolved in tests")


def _is_loopback(host: Any) -> bool:
    try:
        return host in {"", "localhost"} or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _needs_no_server(host: Any) -> bool:
    text = host.decode(errors="replace") if isinstance(host, bytes) else host
    try:
        return text in {None, "", "localhost", socket.gethostname()} or bool(ipaddress.ip_address(text))
    except ValueError:
        return False


# An audit hook sees every connection of this process, whoever opens it, and replaces nothing.
sys.addaudithook(_only_loopback)
