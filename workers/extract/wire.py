"""Owns how documents go to a parsing child and what it answers, as bytes: frames of a length and its payload."""

import json
import os
import struct
from collections.abc import Iterator

from pydantic import TypeAdapter, ValidationError

from chat_api.core.errors import ParserCrashed, ServiceError, TooLarge, TrainingError, training_errors
from workers.documents import Document, Fetched

_DOCUMENT = TypeAdapter(Document)
_ERRORS = {cls.code: cls for cls in training_errors() if issubclass(cls, TrainingError)}
_LENGTH = struct.Struct("<Q")


class Frames:
    """Takes bytes as they come and gives the payloads in them, of at most `most` bytes each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Adds what has been read."""
        self._buffer += data

    def take(self) -> bytes | None:
        """The next whole payload, or None. Raises TooLarge as soon as its length is known."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self._most:
            raise TooLarge("The document's text is larger than allowed. Split it.")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return payload


def write_frame(descriptor: int, payload: bytes) -> None:
    """Writes all of it, blocking."""
    for part in (_LENGTH.pack(len(payload)), payload):
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]


def write_fetched(descriptor: int, fetched: Fetched, filename: str | None) -> None:
    """Two frames: what is known of the document, and its body."""
    known = {
        "url": fetched.url,
        "status": fetched.status,
        "media_type": fetched.media_type,
        "charset": fetched.charset,
        "canonical_url": fetched.canonical_url,
        "filename": filename and filename[-255:],
    }
    write_frame(descriptor, json.dumps(known).encode())
    write_frame(descriptor, fetched.body)


def read_fetched(descriptor: int) -> Iterator[tuple[Fetched, str | None]]:
    """The documents that `write_fetched` wrote to a file, one at a time, with their names."""
    stored = _stored(descriptor)
    for known in stored:
        given = json.loads(known)
        filename = given.pop("filename")
        yield Fetched(body=next(stored), **given), filename


def _stored(descriptor: int) -> Iterator[bytes]:
    offset = 0
    while head := os.pread(descriptor, _LENGTH.size, offset):
        (length,) = _LENGTH.unpack(head)
        offset += _LENGTH.size
        yield _read(descriptor, length, offset)
        offset += length


def _read(descriptor: int, length: int, offset: int) -> bytes:
    parts = []
    while length and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def dump_document(document: Document) -> bytes:
    """The document as bytes; its strings must be free of lone surrogates."""
    return b"D" + _DOCUMENT.dump_json(document)


def dump_error(error: ServiceError) -> bytes:
    """A typed error as bytes, by its code."""
    return b"E" + json.dumps({"code": error.code, "message": error.message}).encode()


def load_answer(data: bytes) -> Document | TrainingError:
    """The document that `dump_document` wrote, or the error that `dump_error` wrote, of the same class.

    Raises ParserCrashed for anything else, since the bytes come from a process that read what strangers wrote.
    """
    if data[:1] == b"E":
        return _load_error(data[1:])
    try:
        return _DOCUMENT.validate_json(data[1:] if data[:1] == b"D" else b"", strict=True)
    except ValidationError:
        raise ParserCrashed from None


def _load_error(data: bytes) -> TrainingError:
    try:
        answer = json.loads(data)
        return _ERRORS[answer["code"]](str(answer["message"]))
    except (ValueError, LookupError, TypeError):
        raise ParserCrashed from None
