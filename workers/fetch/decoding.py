"""Undoes compression without ever holding more than was allowed."""

import zlib
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from chat_api.core.errors import BadResponse, FetchFailed, TooLarge

GZIP_MAGIC: Final = b"\x1f\x8b"


class Decoder(Protocol):
    """One content coding of one body."""

    def feed(self, data: bytes, room: int) -> bytes:
        """What `data` decodes to; more than `room` bytes mean that there would be more still."""

    def finish(self) -> None:
        """Raises FetchFailed when the body ended too early."""


class _Identity:
    def feed(self, data: bytes, room: int) -> bytes:
        return data[: room + 1]

    def finish(self) -> None:
        pass


class _Gzip:
    """Gzip of one or more members; what follows them is ignored."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def feed(self, data: bytes, room: int) -> bytes:
        out = bytearray()
        while data and len(out) <= room:
            if self._member.eof:
                if data[0] != GZIP_MAGIC[0]:
                    break
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            out += self._member.decompress(data, room + 1 - len(out))
            data = self._member.unused_data
        return bytes(out)

    def finish(self) -> None:
        _require(self._member.eof)


class _Deflate:
    """Zlib's format as the standard has it, or the bare stream that some servers send."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._begun = False

    def feed(self, data: bytes, room: int) -> bytes:
        if not self._begun and data:
            self._begun = True
            if data[0] & 0x0F != zlib.DEFLATED:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._stream.decompress(data, room + 1)

    def finish(self) -> None:
        _require(self._stream.eof)


def _require(complete: bool) -> None:
    if not complete:
        raise FetchFailed("The server broke off in the middle of the page. It is tried again by itself.")


_DECODERS: Final[dict[str, Callable[[], Decoder]]] = {
    "": _Identity,
    "identity": _Identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
}
ACCEPT_ENCODING: Final = "gzip, deflate"


def decode(chunks: Iterable[bytes], coding: str, max_bytes: int) -> bytes:
    """The body behind `chunks`, where `coding` is the Content-Encoding header's value (RFC 9110, section 8.4).

    Raises TooLarge over `max_bytes`, before or after decoding; BadResponse for codings that were not asked for, several
    at once, or damaged data; FetchFailed when the data ends too early.
    """
    make = _DECODERS.get(coding.strip().lower())
    if make is None:
        raise BadResponse("The server sent the page in an encoding that was not asked for.")
    decoder, body, received = make(), bytearray(), 0
    try:
        for chunk in chunks:
            received += len(chunk)
            body += decoder.feed(chunk, max_bytes - len(body))
            if received > max_bytes or len(body) > max_bytes:
                raise too_large(max_bytes)
        if received:
            decoder.finish()
    except zlib.error as error:
        raise BadResponse("The server sent a page whose compression is damaged.") from error
    return bytes(body)


def too_large(max_bytes: int) -> TooLarge:
    """The error for a body over `max_bytes`."""
    size = f"{max_bytes / 2**20:.3g} MB" if max_bytes >= 2**19 else f"{max_bytes:,} bytes"
    return TooLarge(f"The page or file is larger than {size}. Split it or raise the limit.")
