"""Files from the bucket: read whole, refused when large or missing, typed when the bucket fails."""

from typing import TYPE_CHECKING

import pytest

from chat_api.core.errors import NotFound, StorageUnavailable, TooLarge
from workers.fetch.bucket import read_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack


def test_an_object_comes_with_what_the_bucket_says_of_it(s3: "S3Client", bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="a/ü b.pdf", Body=b"%PDF-", ContentType="Application/PDF; x=y")
    fetched = read_object(s3, bucket, "a/ü b.pdf", 5)
    assert (fetched.url, fetched.status, fetched.body) == (f"s3://{bucket}/a/ü b.pdf", 200, b"%PDF-")
    assert (fetched.media_type, fetched.etag) == ("application/pdf", put["ETag"])
    assert fetched.last_modified is not None
    assert fetched.last_modified.endswith("GMT")


def test_an_empty_object_is_an_empty_body(s3: "S3Client", bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert read_object(s3, bucket, "empty", 5).body == b""


def test_an_object_over_the_limit_is_too_large(s3: "S3Client", bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="large", Body=b"x" * 2_000_000)
    with pytest.raises(TooLarge):
        read_object(s3, bucket, "large", 1_999_999)
    assert len(read_object(s3, bucket, "large", 2_000_000).body) == 2_000_000


@pytest.mark.parametrize("key", ["missing", "", "../other", "a/../b", "x" * 1_025])
def test_an_object_that_is_not_there_is_not_found(s3: "S3Client", bucket: str, key: str) -> None:
    with pytest.raises(NotFound):
        read_object(s3, bucket, key, 5)


def test_a_bucket_that_is_not_there_is_the_operator_s_problem(s3: "S3Client") -> None:
    with pytest.raises(StorageUnavailable):
        read_object(s3, "no-such-bucket", "a", 5)
