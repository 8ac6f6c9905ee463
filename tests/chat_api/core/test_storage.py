"""The bucket's client: made from the settings, typed failures, and a bucket that misbehaves."""

import logging
import socket
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING

import pytest

from chat_api.core.errors import NotFound, ServiceError, StorageUnavailable
from chat_api.core.settings import Settings
from chat_api.core.storage import head_object, make_s3_client
from tests.workers.fetch.loopback import Script, reply, serving
from workers.fetch.bucket import read_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NO_ACCESS = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
HEADERS = {"ETag": '"x"', "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}


def client_for(endpoint: str) -> "S3Client":
    """The client of a deployment whose bucket is at `endpoint`."""
    return make_s3_client(
        Settings.model_validate(
            {
                **dict.fromkeys(("dashboard_db_host", "dashboard_db_username", "dashboard_db_name"), "x"),
                **dict.fromkeys(("python_chat_db_host", "python_chat_db_username", "python_chat_db_name"), "x"),
                "embedding_provider": "local",
                "llm_provider": "extractive",
                "r2_endpoint_url": endpoint,
                "access_key_id": "the-access-key",
                "secret_access_key": "the-secret-key",
            }
        )
    )


@pytest.mark.stack
def test_the_head_of_an_object_is_its_etag_and_size(settings: Settings, s3: "S3Client", bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="a", Body=b"12345")
    with closing(make_s3_client(settings)) as client:
        assert head_object(client, bucket, "a") == (put["ETag"], 5)
        with pytest.raises(NotFound):
            head_object(client, bucket, "b")


def hang_up(connection: socket.socket, over: Event) -> None:
    """Answers nothing."""


def cut_short(connection: socket.socket, over: Event) -> None:
    """Announces more than it sends."""
    connection.sendall(reply(b"abc", Content_Length="10", **HEADERS))


FAILURES: dict[str, tuple[bytes | Script, type[ServiceError]]] = {
    "refuses our key": (reply(NO_ACCESS, "403 Forbidden"), StorageUnavailable),
    "is broken": (reply(b"", "500 Internal Server Error"), StorageUnavailable),
    "hangs up": (hang_up, StorageUnavailable),
    "sends less than it announced": (cut_short, StorageUnavailable),
    "knows no such key": (reply(b"<Error><Code>NoSuchKey</Code></Error>", "404 Not Found"), NotFound),
}


@pytest.mark.parametrize("behaviour", FAILURES)
def test_a_bucket_that_fails_is_a_typed_error(behaviour: str) -> None:
    answer, error = FAILURES[behaviour]
    with serving({"/files/a": answer}) as site, closing(client_for(f"http://127.0.0.1:{site.port}")) as client:
        with pytest.raises(error) as raised:
            read_object(client, "files", "a", 100)
        assert len(site.requests) <= 3
    assert type(raised.value) is error
    assert "secret" not in raised.value.message


def test_a_bucket_that_is_away_is_unavailable() -> None:
    with serving() as site:
        site.close()
        with closing(client_for(f"http://127.0.0.1:{site.port}")) as client, pytest.raises(StorageUnavailable):
            head_object(client, "files", "a")


def test_the_path_names_the_bucket_and_the_key_stays_out_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "chat_api")
    with serving({"/files/a%20b": reply(b"abc", **HEADERS)}) as site:
        with closing(client_for(f"http://127.0.0.1:{site.port}")) as client:
            assert read_object(client, "files", "a b", 3).body == b"abc"
        (head,) = site.requests
    assert b"AWS4-HMAC-SHA256 Credential=the-access-key/" in head
    assert b"the-secret-key" not in head
    assert "the-secret-key" not in caplog.text
