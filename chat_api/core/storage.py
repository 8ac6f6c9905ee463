"""The bucket with the dashboard's files: its client, what it knows of an object, and its failures as typed errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from chat_api.core.errors import NotFound, StorageUnavailable
from chat_api.core.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING: Final = {"NoSuchKey", "NotFound", "404"}
_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=20,
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    # Cloudflare R2 does not know the checksums that boto3 sends by itself.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)

_HURRIED: Final = _CONFIG.merge(
    Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1})
)


class ObjectHead(NamedTuple):
    """What the bucket says of an object without sending it."""

    etag: str
    size: int
    """Bytes."""


def make_s3_client(settings: Settings, *, hurried: bool = False) -> "S3Client":
    """A thread-safe client of the bucket's endpoint. It connects on first use; make it after a fork.

    One that is `hurried` asks once and gives up soon: somebody waits for an answer that can do without it.
    """
    access_key, secret_key = settings.access_key_id, settings.secret_access_key
    return boto3.session.Session().client(
        "s3",
        region_name="auto",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=access_key.get_secret_value() if access_key else None,
        aws_secret_access_key=secret_key.get_secret_value() if secret_key else None,
        config=_HURRIED if hurried else _CONFIG,
    )


def head_object(client: "S3Client", bucket: str, key: str) -> ObjectHead:
    """ETag and size of an object. Raises NotFound or StorageUnavailable."""
    with storage_errors():
        answer = client.head_object(Bucket=bucket, Key=key)
    return ObjectHead(answer["ETag"], answer["ContentLength"])


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turns S3's failures into NotFound (there is no such object) and StorageUnavailable (everything else)."""
    try:
        yield
    except ParamValidationError as error:
        raise NotFound("The file has no place in the storage. Upload it again.") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _MISSING:
            raise NotFound("The file is not in the storage. Upload it again.") from error
        raise StorageUnavailable(f"The file storage refused the request ({code}).") from error
    except BotoCoreError as error:
        raise StorageUnavailable from error
