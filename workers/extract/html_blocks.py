"""Owns how an HTML tree becomes blocks: headings, paragraphs, lists, tables and code in reading order."""

import re
from collections.abc import Callable
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
    flat,
    heading_links,
    image_text,
    is_jump,
    link_lengths,
    list_parts,
    numbers_of,
    rich_items,
)
from workers.extract.html_prune import foreign, suspect
from workers.extract.html_table import is_layout, markdown_table, strays

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
        self._numbers: dict[Any, int] = {}  # of ordered lists' items
        self._suspect = self._foreign = 0
        self._level = 0

    def visit(self, element: Any) -> None:
        """Takes in the element's content; the tail is the caller's."""
        doubtful = suspect(element)
        others = doubtful and foreign(element)
        self._suspect += doubtful
        self._foreign += others
        form = _FORMS.get(element.tag)
        if form is None or not form(self, element):
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
        if element not in self._numbers:
            self._numbers.update(numbers_of(parent))
        return f"{self._numbers[element]}. "

    def _inline(self, text: str | None) -> None:
        shown = _SPACES.sub(" ", text or "")
        self._text.append(shown)
        if self._links:
            self._linked += len(shown)
            self._jumps += len(shown) * self._links[-1]

    # Each writes an element in the form of its own, and says whether it has it.

    def _heading(self, element: Any) -> bool:
        self._level = HEADINGS[element.tag]
        return self._headed(element, self._level)

    def _summary(self, element: Any) -> bool:
        return self._headed(element, min(self._level + 1, 6))

    def _headed(self, element: Any, level: int) -> bool:
        self._emit(element, "heading", flat(element, heading=True), heading_links(element), level=level)
        return True

    def _image(self, element: Any) -> bool:
        """What stands for a picture, unless it stands among words: those say it."""
        if (text := image_text(element)) and not "".join(self._text).strip():
            self._emit(element, "paragraph", IMAGE + text)
        return True

    def _code(self, element: Any) -> bool:
        language = language_of_code(element)
        self.flush(element)
        if (text := code(element)).strip():
            self._append(element, Block("code", text, language=language))
        return True

    def _table(self, element: Any) -> bool:
        if is_layout(element):
            return False
        self.flush(element)
        for caption in element.iterchildren("caption"):
            self._emit(caption, "paragraph", flat(caption))
        for stray in strays(element):
            if isinstance(stray, str):
                self._inline(stray)
            else:
                self.visit(stray)
        self._emit(element, "table", markdown_table(element, flat), *link_lengths(element))
        return True

    def _list(self, element: Any) -> bool:
        if rich_items(element):
            return False
        parts, lengths = list(list_parts(element)), link_lengths(element)
        whole = sum(len(text) for _, text in parts)
        for kind, text in parts:
            self._emit(element, kind, text, *(length * len(text) // whole for length in lengths))
        return True

    def _definitions(self, element: Any) -> bool:
        lines = list(definitions(element))
        if lines:
            self._emit(element, "list", "\n".join(lines), *link_lengths(element))
        return bool(lines)

    def _emit(self, element: Any, kind: BlockKind, text: str, linked: int = 0, jumps: int = 0, level: int = 0) -> None:
        self.flush(element)
        if text.strip():
            self._append(element, Block(kind, text, level), linked, jumps)

    def _append(self, element: Any, block: Block, linked: int = 0, jumps: int = 0) -> None:
        length = len(block.text)
        suspect, foreign = self._suspect > 0, self._foreign > 0
        self.found.append(Piece(block, element, linked / length, suspect, foreign, jumps > _CONTENTS * length))


_FORMS: dict[str, Callable[[_Walk, Any], bool]] = {
    **dict.fromkeys(HEADINGS, _Walk._heading),
    **dict.fromkeys(LISTS, _Walk._list),
    "summary": _Walk._summary,
    "pre": _Walk._code,
    "table": _Walk._table,
    "img": _Walk._image,
    "dl": _Walk._definitions,
}
