"""Owns how a parsing child's answer is written as bytes and read back: a document, exactly, or a typed error."""

import json

from pydantic import TypeAdapter, ValidationError

from chat_api.core.errors import ParserCrashed, ServiceError, TrainingError, training_errors
from workers.documents import Document

_DOCUMENT = TypeAdapter(Document)
_ERRORS = {cls.code: cls for cls in training_errors() if issubclass(cls, TrainingError)}


def dump_document(document: Document) -> bytes:
    """The document as bytes; its strings must be free of lone surrogates."""
    return b"D" + _DOCUMENT.dump_json(document)


def dump_error(error: ServiceError) -> bytes:
    """A typed error as bytes, by its code."""
    return b"E" + json.dumps({"code": error.code, "message": error.message}).encode()


def load_answer(data: bytes) -> Document:
    """The document that `dump_document` wrote.

    Raises the error that `dump_error` wrote, of the same class; ParserCrashed for anything else, since the bytes come
    from a process that read what strangers wrote.
    """
    if data[:1] == b"E":
        raise _load_error(data[1:])
    try:
        return _DOCUMENT.validate_json(data[1:] if data[:1] == b"D" else b"", strict=True)
    except ValidationError:
        raise ParserCrashed from None


def _load_error(data: bytes) -> ServiceError:
    try:
        answer = json.loads(data)
        return _ERRORS[answer["code"]](str(answer["message"]))
    except (ValueError, LookupError, TypeError):
        return ParserCrashed()
