"""Owns how an HTML tree becomes blocks: headings, paragraphs, lists, tables and code in reading order."""

import re
from dataclasses import dataclass
from typing import Any

from workers.documents import Block, BlockKind
from workers.extract.code_language import language_of_code
from workers.extract.html_forms import (
    BLOCKS,
    HEADINGS,
    LISTS,
    code,
    contact,
    definitions,
    first_number,
    flat,
    heading_links,
    image_text,
    is_jump,
    items,
    link_lengths,
    rich_items,
)
from workers.extract.html_prune import foreign, suspect
from workers.extract.html_table import is_layout, markdown_table

_SPACES = re.compile(r"[\t\r\n\f][ \t\r\n\f]*| [ \t\r\n\f]+")
_WIDE = re.compile(r"[ \xa0]{2,}")
_LINES = re.compile(r" *\n *")
_PAUSES = ("", *".:;!?…")
_CONTENTS = 0.6
IMAGE = "Image: "
"""Stands before what a picture shows."""


@dataclass(slots=True)
class Piece:
    """A block with what speaks for or against it."""

    block: Block
    element: Any
    linked: float
    """The share of its characters that are links' text, 0–1."""
    suspect: bool
    """Whether it stands in something that is named or placed like furniture."""
    foreign: bool = False
    """Whether it stands in something that is named like others' words or works: comments, teasers, adverts."""
    contents: bool = False
    """Whether it is mostly links to places in the same page."""


def pieces(tree: Any) -> list[Piece]:
    """The tree's blocks in reading order."""
    walk = _Walk()
    walk.visit(tree)
    walk.flush(tree)
    return walk.found


class _Walk:
    """One pass over a tree: inline text gathers in a buffer that every block element empties into a paragraph."""

    def __init__(self) -> None:
        self.found: list[Piece] = []
        self._text: list[str] = []
        self._linked = self._jumps = 0
        self._links: list[bool] = []  # the links we are in: whether each leads to a place in the same page
        self._numbers: dict[Any, int] = {}  # of ordered lists: the last item's
        self._suspect = self._foreign = 0
        self._level = 0

    def visit(self, element: Any) -> None:
        """Takes in the element's content; the tail is the caller's."""
        doubtful = suspect(element)
        others = doubtful and foreign(element)
        self._suspect += doubtful
        self._foreign += others
        tag = element.tag
        if tag in HEADINGS:
            self._heading(element, HEADINGS[tag])
        elif tag == "summary":
            self._heading(element, min(self._level + 1, 6))
        elif tag == "pre":
            self._code(element)
        elif tag == "table" and not is_layout(element):
            self._table(element)
        elif tag in LISTS and not rich_items(element):
            self._emit(element, "list", "\n".join(items(element, 0)), *link_lengths(element))
        elif tag == "img":
            self._image(element)
        elif tag == "dl" and (lines := list(definitions(element))):
            self._emit(element, "list", "\n".join(lines), *link_lengths(element))
        else:
            self._content(element)
        self._suspect -= doubtful
        self._foreign -= others

    def flush(self, element: Any) -> None:
        """Ends the paragraph that has gathered, if any; two line breaks in it part two paragraphs."""
        text, linked, jumps = "".join(self._text), self._linked, self._jumps
        self._text, self._linked, self._jumps = [], 0, 0
        if not text.strip():
            return
        text = _WIDE.sub(" ", text)
        for part in _LINES.sub("\n", text).split("\n\n") if "\n" in text else [text]:
            if part.strip():
                block = Block("paragraph", part.strip())
                self._append(element, block, min(linked, len(part)), min(jumps, len(part)))

    def _content(self, element: Any) -> None:
        """An element without a form of its own: its text and children, in a paragraph apart if it is a block."""
        block = element.tag in BLOCKS
        if block:
            self.flush(element)
        self._text.append(self._before(element))
        if element.tag == "a":
            self._links.append(is_jump(element))
        self._inline(element.text)
        for child in element:
            self.visit(child)
            self._inline(child.tail)
        if element.tag == "a":
            self._links.pop()
            self._text.append(contact(element))
        if element.tag == "dt" and "".join(self._text).rstrip()[-1:] not in _PAUSES:
            self._text.append(":")
        if block:
            self.flush(element)

    def _before(self, element: Any) -> str:
        """What stands before an element's text without being in it: a line end, an item's number."""
        if element.tag == "br":
            return "\n"
        parent = element.getparent()
        if element.tag != "li" or parent is None or parent.tag != "ol":
            return ""
        number = self._numbers[parent] = self._numbers.get(parent, first_number(parent) - 1) + 1
        return f"{number}. "

    def _inline(self, text: str | None) -> None:
        shown = _SPACES.sub(" ", text or "")
        self._text.append(shown)
        if self._links:
            self._linked += len(shown)
            self._jumps += len(shown) * self._links[-1]

    def _heading(self, element: Any, level: int) -> None:
        if element.tag != "summary":
            self._level = level
        self._emit(element, "heading", flat(element, heading=True), heading_links(element), level=level)

    def _image(self, element: Any) -> None:
        """What stands for a picture, unless it stands among words: those say it."""
        if (text := image_text(element)) and not "".join(self._text).strip():
            self._emit(element, "paragraph", IMAGE + text)

    def _code(self, element: Any) -> None:
        language = language_of_code(element)
        self.flush(element)
        if (text := code(element)).strip():
            self._append(element, Block("code", text, language=language))

    def _table(self, element: Any) -> None:
        for caption in element.iterchildren("caption"):
            self._emit(caption, "paragraph", flat(caption))
        self._emit(element, "table", markdown_table(element, flat), *link_lengths(element))

    def _emit(self, element: Any, kind: BlockKind, text: str, linked: int = 0, jumps: int = 0, level: int = 0) -> None:
        self.flush(element)
        if text.strip():
            self._append(element, Block(kind, text, level), linked, jumps)

    def _append(self, element: Any, block: Block, linked: int = 0, jumps: int = 0) -> None:
        length = len(block.text)
        suspect, foreign = self._suspect > 0, self._foreign > 0
        self.found.append(Piece(block, element, linked / length, suspect, foreign, jumps > _CONTENTS * length))
