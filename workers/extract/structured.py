"""Owns JSON and XML that people can read: each object as a record of its names and values."""

import json
from collections.abc import Iterator
from typing import Any

from chat_api.core.errors import TooLarge
from workers.documents import Document
from workers.extract.encoding import decode
from workers.extract.grid import Records
from workers.extract.text import decoding_warnings
from workers.extract.xml_tree import mending, parse_xml

MAX_BYTES = 20_000_000
_MAX_PATH = 120


def extract_json(body: bytes, *, charset: str | None = None) -> Document:
    """The JSON's objects as records, see `Records`. Raises MalformedDocument and TooLarge."""
    _check_size(body)
    decoded = decode(body, (charset,))
    with mending():
        return _document(json.loads(decoded.text), "application/json", decoding_warnings(decoded))


def extract_xml(body: bytes) -> Document:
    """The XML's elements as records, those without inner elements as their values. Raises like `extract_json`."""
    _check_size(body)
    with mending():
        return _document(_plain(parse_xml(body)), "application/xml", ())


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BYTES:
        raise TooLarge(f"The file has {len(body) >> 20} MB, more than the {MAX_BYTES >> 20} that are read. Split it.")


def _document(value: Any, media_type: str, warnings: tuple[str, ...]) -> Document:
    blocks = tuple(Records().written(_records(value, "")))
    return Document(title="", blocks=blocks, media_type=media_type, warnings=warnings)


def _records(value: Any, path: str) -> Iterator[str]:
    """A line for each object: its own values, then those of the objects in it, which say where they stand."""
    if flat := _flat(value):
        yield f"- {path}: {flat}" if path else f"- {flat}"
    elif isinstance(value, list):
        for one in value:
            yield from _records(one, path)
    elif isinstance(value, dict):
        yield from _fields(value, path)


def _fields(value: dict[str, Any], path: str) -> Iterator[str]:
    texts = {name: _flat(one) for name, one in value.items()}
    own = "; ".join(f"{name}: {text}" for name, text in texts.items() if text)
    if own:
        yield "- " + (f"{path}: " if path else "") + own
    for name, one in value.items():
        if not texts[name]:
            yield from _records(one, f"{path} {name}".strip()[:_MAX_PATH])


def _flat(value: Any) -> str:
    """A value, or a list of values, as text; empty for what holds objects."""
    if isinstance(value, list):
        flat = [_flat(one) for one in value if not isinstance(one, dict | list)]
        return ", ".join(filter(None, flat)) if len(flat) == len(value) else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""


def _plain(element: Any) -> Any:
    """An element as JSON would write it: its text, or its attributes, texts and inner elements by name."""
    text = " ".join(part for part in [element.text, *(child.tail for child in element)] if part and part.strip())
    found: dict[str, list[Any]] = {}
    for name, value in element.items():
        found.setdefault(name.rpartition("}")[2], []).append(value)
    for child in element.iterchildren("*"):
        found.setdefault(child.tag, []).append(_plain(child))
    if not found:
        return text
    if text:
        found.setdefault("text", []).append(text)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
