"""Owns XML from strangers: parsed without entities, DOCTYPE or network, its names without their namespaces."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from lxml import etree

from chat_api.core.errors import MalformedDocument

_BROKEN = (etree.LxmlError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{1,8})*")
_OPTIONS: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


def parse_xml(data: bytes) -> Any:
    """The root element (lxml), every tag a local name. Raises MalformedDocument, also for a DOCTYPE."""
    with mending():
        root = etree.fromstring(data, etree.XMLParser(**_OPTIONS))
        _refuse_doctype(root)
        for element in root.iter(etree.Element):
            element.tag = _local(element.tag)
    return root


def stream_xml(source: IO[bytes], *tags: str) -> Iterator[Any]:
    """The elements of these local names, as they end, in order; each is emptied when the next is asked for.

    Its descendants' tags are local names. Raises like `parse_xml`.
    """
    with mending():
        for _, element in etree.iterparse(source, events=("end",), tag=[f"{{*}}{tag}" for tag in tags], **_OPTIONS):
            _refuse_doctype(element)
            for inner in element.iter(etree.Element):
                inner.tag = _local(inner.tag)
            yield element
            element.clear()
            while element.getprevious() is not None and element.getparent() is not None:
                del element.getparent()[0]


def attribute(element: Any, name: str, default: str = "") -> str:
    """The attribute of this local name, in whatever namespace."""
    value = element.get(name)
    if value is None:
        value = next((value for key, value in element.items() if key.rpartition("}")[2] == name), default)
    return str(value)


def whole(text: str, default: int = 0) -> int:
    """The number that a short text writes in ASCII digits, or the default."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else default


@contextmanager
def mending() -> Iterator[None]:
    """Turns what broken structures make the code raise into MalformedDocument."""
    try:
        yield
    except _BROKEN:
        raise MalformedDocument from None


def language_tag(declared: str) -> str | None:
    """The declared language in lower case, if it is one."""
    tag = declared.strip().lower().replace("_", "-")
    return tag if _LANGUAGE.fullmatch(tag) else None


def _refuse_doctype(element: Any) -> None:
    if element.getroottree().docinfo.internalDTD is not None:
        raise MalformedDocument("The document declares a DOCTYPE, which is not read. Save it again and upload it anew.")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
