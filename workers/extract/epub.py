"""Owns EPUB books: their chapters in the spine's order, read as the web pages that they are."""

import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from chat_api.core.errors import EncryptedDocument, MalformedDocument
from workers.documents import Block, Document
from workers.extract.archive import Archive
from workers.extract.dates import Dates, dates_of
from workers.extract.encoding import decode, meta_charset
from workers.extract.html_blocks import pieces
from workers.extract.html_page import parse
from workers.extract.html_prune import drop_hidden
from workers.extract.xml_tree import attribute, language_tag, mending, parse_xml

_CHAPTERS = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
_ENCODING = re.compile(rb"<\?xml\s[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9_.-]{2,40})[\"']")
_DROPPED = ("script", "style", "svg", "head")


def extract_epub(body: bytes) -> Document:
    """The book's blocks; the title may be empty. Its table of contents is left out.

    Raises MalformedDocument, EncryptedDocument, TooLarge.
    """
    with mending():
        archive = Archive(body)
        if "META-INF/rights.xml" in archive or "META-INF/license.lcpl" in archive:
            raise EncryptedDocument("The book is protected against copying. Upload it without that protection.")
        root = next(parse_xml(archive.read("META-INF/container.xml")).iter("rootfile"), None)
        if root is None:
            raise MalformedDocument
        name = attribute(root, "full-path")
        package = parse_xml(archive.read(name))
        hidden, missing, blocks = 0, 0, list[Block]()
        for chapter in dict.fromkeys(_chapters(package, posixpath.dirname(name))):
            if chapter not in archive:
                missing += 1
                continue
            found, dropped = _read(archive.read(chapter))
            blocks += found
            hidden += dropped
        return Document(
            title=_meta(package, "title"),
            blocks=tuple(blocks),
            media_type="application/epub+zip",
            language=language_tag(_meta(package, "language")),
            warnings=tuple(_warnings(hidden, missing)),
            **_dates(package),
        )


def _warnings(hidden: int, missing: int) -> Iterator[str]:
    if hidden:
        yield f"{hidden} words that the book hides from its readers were dropped."
    if missing:
        yield f"{missing} chapters are missing in the file."


def _dates(package: Any) -> Dates:
    """The book's dates: EPUB 3 has its modification in a `meta`, EPUB 2 marks it as an event."""
    dates = [(attribute(one, "event").lower(), one.text) for one in package.iter("date")]
    refined = [one.text for one in package.iter("meta") if attribute(one, "property") == "dcterms:modified"]
    return dates_of(
        [text for event, text in dates if event in {"", "publication", "creation"}],
        [*refined, *(text for event, text in dates if event == "modification")],
    )


def _meta(package: Any, name: str) -> str:
    return next((" ".join((one.text or "").split()) for one in package.iter(name)), "")


def _chapters(package: Any, folder: str) -> Iterator[str]:
    items = {attribute(item, "id"): item for item in package.iter("item")}
    for reference in package.iter("itemref"):
        item = items.get(attribute(reference, "idref"))
        if item is None or "nav" in attribute(item, "properties").split():
            continue
        if attribute(item, "media-type") in _CHAPTERS:
            yield posixpath.normpath(posixpath.join("/", folder, unquote(attribute(item, "href")))).lstrip("/")


def _read(chapter: bytes) -> tuple[list[Block], int]:
    """The chapter's blocks, and how many words it hides."""
    declared = _ENCODING.match(chapter)
    label = declared.group(1).decode("ascii") if declared else None
    tree = parse(decode(chapter, (label, meta_charset(chapter))).text)
    if tree is None:
        return [], 0
    hidden = drop_hidden(tree)
    for element in list(tree.iter(*_DROPPED)):
        if element is not tree and element.getparent() is not None:
            element.drop_tree()
    return [piece.block for piece in pieces(tree)], hidden
