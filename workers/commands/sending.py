"""Sends one file to the bucket, unless it is there: objects are named by their content and are never changed."""

import hashlib
import mimetypes
import os
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from chat_api.core.errors import NotFound, ServiceError, TrainingError
from chat_api.core.storage import head_object, storage_errors
from workers.commands.folder import Found, Skipped
from workers.commands.rows import FileRow, SourceRow, SourceSeen, Target
from workers.extract.detect import detect

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHANGED = "changed since it was uploaded; --overwrite replaces it"
DELETED = "its source was deleted in the dashboard; --overwrite brings it back"
_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Sent:
    """A file whose object is in the bucket, or would be."""

    name: str
    done: str
    """`uploaded`, `overwritten`, `unchanged`, or `restored` where only its object was missing."""
    source: SourceRow
    replaces: str | None = None
    """The key of the object that nobody needs once the rows are written."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that could not be sent."""

    name: str
    reason: str


Outcome = Sent | Skipped | Failed


def source_id(target: Target, name: str) -> UUID:
    """The id of a file's source: the same whenever this path is uploaded for this bot."""
    return uuid5(target.bot_id, f"source:{name}")


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends files of one bot; safe to use from several threads."""

    client: "S3Client"
    bucket: str
    target: Target
    seen: Mapping[UUID, SourceSeen]
    """What the dashboard had of the folder's sources before."""
    overwrite: bool
    dry_run: bool

    def send(self, file: Found) -> Outcome:
        """What became of the file; its rows are the caller's to write."""
        try:
            body = _read(file.path, int(self.target.max_file_mb * 2**20))
            detect(body, filename=file.name)
        except OSError as error:
            return Failed(file.name, f"{error.strerror}")
        except TrainingError as error:
            return Skipped(file.name, error.message)
        source = self._source(file.name, body)
        seen = self.seen.get(source.source_id)
        done, reason = self._judged(source, seen)
        if reason:
            return Skipped(file.name, reason)
        try:
            put = self._put(source, body)
        except ServiceError as error:
            return Failed(file.name, error.message)
        replaced = seen.object_key if seen and done == "overwritten" and seen.object_key != _key(source) else None
        return Sent(file.name, "restored" if put and done == "unchanged" else done, source, replaced)

    def discard(self, key: str) -> None:
        """Removes an object that was replaced. Raises StorageUnavailable."""
        with storage_errors():
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def _source(self, name: str, body: bytes) -> SourceRow:
        file_id = uuid5(self.target.bot_id, f"file:{name}")
        suffix = PurePosixPath(name).suffix.lower()
        key = (
            f"orgs/{self.target.org_id}/files/{file_id}-{hashlib.sha256(body).hexdigest()[:16]}"
            f"{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        )
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        file = FileRow(file_id, key, name, content_type, len(body))
        return SourceRow(source_id(self.target, name), "file", file=file)

    def _judged(self, source: SourceRow, seen: SourceSeen | None) -> tuple[str, str]:
        """What is to be done with the rows, or why nothing is."""
        if seen is None:
            return "uploaded", ""
        if seen.deleted:
            return "overwritten", "" if self.overwrite else DELETED
        if seen.object_key != _key(source):
            return "overwritten", "" if self.overwrite else CHANGED
        return "unchanged", ""

    def _put(self, source: SourceRow, body: bytes) -> bool:
        """Whether the object was not there, whole and right; it is now, unless this is a dry run."""
        md5 = hashlib.md5(body, usedforsecurity=False)
        try:
            head = head_object(self.client, self.bucket, _key(source))
        except NotFound:
            head = None
        if head and head.size == len(body) and head.etag.strip('"') == md5.hexdigest():
            return False
        if not self.dry_run:
            with storage_errors():
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=_key(source),
                    Body=body,
                    ContentType=(source.file and source.file.content_type) or "",
                    ContentMD5=b64encode(md5.digest()).decode(),
                )
        return True


def _key(source: SourceRow) -> str:
    return source.file.object_key if source.file else ""


def _read(path: Path, at_most: int) -> bytes:
    """The file's bytes, which may have become more, or a link, since it was looked at. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        body = stream.read(at_most + 1)
    if len(body) > at_most:
        raise OSError(0, "It grew beyond what is allowed.")
    return body
