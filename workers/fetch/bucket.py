"""Reads the dashboard's files from the bucket, no more of them than allowed."""

from contextlib import closing
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from chat_api.core.storage import storage_errors
from workers.documents import Fetched
from workers.fetch.decoding import decode, too_large

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PIECE: Final = 1024 * 1024


def read_object(client: "S3Client", bucket: str, key: str, max_bytes: int) -> Fetched:
    """The object's bytes, as `s3://bucket/key`.

    Raises NotFound when there is no such object, TooLarge over `max_bytes`, StorageUnavailable when the bucket fails.
    """
    with storage_errors():
        answer = client.get_object(Bucket=bucket, Key=key)
        with closing(answer["Body"]) as stream:
            if answer["ContentLength"] > max_bytes:
                raise too_large(max_bytes)
            body = decode(stream.iter_chunks(_PIECE), "", max_bytes)
    return Fetched(
        url=f"s3://{bucket}/{key}",
        status=200,
        body=body,
        media_type=answer.get("ContentType", "").partition(";")[0].strip().lower() or None,
        etag=answer["ETag"],
        last_modified=format_datetime(answer["LastModified"].astimezone(UTC), usegmt=True),
        fetched_at=datetime.now(UTC),
    )
