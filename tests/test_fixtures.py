"""What the shared fixtures promise: only loopback is reached, and every test's data is its own."""

import socket
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

from chat_api.core.settings import Settings


def test_no_connection_leaves_the_machine() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(pytest.fail.Exception):
        datagrams.sendto(b"?", ("192.0.2.1", 53))


def test_no_name_server_is_asked() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.com", 80)
    assert socket.getaddrinfo("localhost", 80)


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_has_fresh_data(chat_db: str, redis_url: str, s3: "S3Client", bucket: str, turn: int) -> None:
    with psycopg.connect(chat_db) as connection:
        connection.execute("CREATE TABLE mine ()")
    with redis.Redis.from_url(redis_url) as client:
        assert client.incr("mine") == 1
    assert s3.put_object(Bucket=bucket, Key="mine")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_settings_lead_to_both_databases(settings: Settings, dashboard_db: str) -> None:
    assert settings.app_env == "test"
    assert settings.dashboard_db_url().database == dashboard_db.rpartition("/")[2]
