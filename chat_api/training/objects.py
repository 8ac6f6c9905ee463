"""What the bucket says of files at a queue call: an object that was overwritten is another version of its source."""

import asyncio
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import structlog

from chat_api.core.errors import NotFound, StorageUnavailable
from chat_api.core.settings import Settings
from chat_api.core.storage import head_object, make_s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AT_ONCE = 16
WITHIN_S = 5.0
SAY_AGAIN_S = 60.0
GONE = ""
log = structlog.get_logger(__name__)


class Bucket:
    """Asks for the ETags of objects, sixteen at once; it connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket")
        self._lock = Lock()
        self._client: S3Client | None = None
        self._said_at = -SAY_AGAIN_S

    def close(self) -> None:
        """Waits for nothing that was asked."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client:
            self._client.close()

    async def etags(self, keys: Collection[str]) -> dict[str, str]:
        """Object key → its ETag now, `GONE` where there is no such object.

        Of those that the bucket says nothing of in five seconds nothing is known, nor of any without a key to it.
        """
        if not keys or self._settings.access_key_id is None:
            return {}
        loop = asyncio.get_running_loop()
        asked = {loop.run_in_executor(self._threads, self._etag, key): key for key in keys}
        done, late = await asyncio.wait(asked, timeout=WITHIN_S)
        for answer in late:
            answer.cancel()
        said = {asked[answer]: etag for answer in done if (etag := answer.result()) is not None}
        if len(said) < len(asked) and time.monotonic() - self._said_at >= SAY_AGAIN_S:
            self._said_at = time.monotonic()
            log.warning("objects_not_seen", objects=len(asked) - len(said))
        return said

    def _etag(self, key: str) -> str | None:
        with self._lock:
            self._client = self._client or make_s3_client(self._settings, hurried=True)
        try:
            return head_object(self._client, self._settings.r2_bucket, key).etag
        except NotFound:
            return GONE
        except StorageUnavailable:
            return None
