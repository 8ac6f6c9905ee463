"""Owns zip files: what is in them, within bounds on members, sizes and ratios; nothing is ever unpacked to disk."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO

from chat_api.core.errors import EncryptedDocument, MalformedDocument, TooLarge

MAX_MEMBERS = 20_000
MAX_UNPACKED = 256 << 20
MAX_RATIO = 500
_RATIO_FROM = 1 << 20
_PART = 1 << 16
_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    NotImplementedError,
)


class Archive:
    """A zip file's members by name: paths with `/`, without a leading one, in any case. Zips inside it stay closed.

    Raises MalformedDocument, EncryptedDocument and TooLarge, at once and whenever something is read; all that is read
    in its life together is bounded by MAX_UNPACKED.
    """

    def __init__(self, body: bytes) -> None:
        if body.count(_ENTRY) > MAX_MEMBERS:
            raise TooLarge(f"The file holds more than {MAX_MEMBERS:,} parts. Save it in a simpler form.")
        with _damage():
            self._zip = zipfile.ZipFile(BytesIO(body))
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            if self._members.setdefault(_key(member.filename), member) is not member:
                raise MalformedDocument  # programs differ in which of the two they read
        self._left = MAX_UNPACKED

    @property
    def names(self) -> list[str]:
        """The members' names, as written."""
        return [member.filename for member in self._members.values()]

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._members

    def read(self, name: str) -> bytes:
        """A member's bytes. Raises MalformedDocument when there is none of this name."""
        return b"".join(self.parts(name))

    def parts(self, name: str) -> Iterator[bytes]:
        """A member's bytes as they are unpacked."""
        member = self._members.get(_key(name))
        if member is None or member.compress_type not in _METHODS:
            raise MalformedDocument
        if member.flag_bits & _ENCRYPTED:
            raise EncryptedDocument
        size = 0
        with _damage(), self._zip.open(member) as stream:
            for part in iter(lambda: stream.read(_PART), b""):
                size += len(part)
                self._left -= len(part)
                if self._left < 0 or (size > _RATIO_FROM and size > MAX_RATIO * max(1, member.compress_size)):
                    raise TooLarge("The file unpacks to more than is allowed. Split it.")
                yield part

    def stream(self, name: str) -> IO[bytes]:
        """The member as a file to read from, unpacked as it is read."""
        return _Stream(self.parts(name))


class _Stream(BytesIO):
    """Bytes that come in parts, for readers that want a file."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        super().__init__()
        self._parts = parts
        self._rest = b""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, `size` of them at most; all when it is negative."""
        if size is None or size < 0:
            data, self._rest = self._rest + b"".join(self._parts), b""
            return data
        if not self._rest:
            self._rest = next(self._parts, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _key(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").casefold()


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except RuntimeError:  # that is how zipfile asks for a password
        raise EncryptedDocument from None
    except _BROKEN:
        raise MalformedDocument from None
