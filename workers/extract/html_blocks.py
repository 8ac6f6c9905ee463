"""Owns how an HTML tree becomes blocks: headings, paragraphs, lists, tables and code in reading order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workers.documents import Block, BlockKind
from workers.extract.html_prune import suspect
from workers.extract.html_table import is_layout, markdown_table

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "menu",
        "ol",
        "p",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_LISTS = frozenset({"ul", "ol", "menu"})
_RICH = _LISTS | frozenset({"pre", "table", "dl", "details", *_HEADINGS})
_BREAKING = _BLOCKS | _RICH | {"br"}
_SPACES = re.compile(r"[ \t\r\n\f]+")
_LINES = re.compile(r" *\n *")
_GUTTER = re.compile(r"(?:^|[\s_-])(?:linenos?|line-?numbers?|gutter)(?:$|[\s_-])", re.IGNORECASE)
_PAUSES = ("", *".:;!?…")
_CONTENTS = 0.6
_CONTACT = ("mailto:", "tel:")


@dataclass(slots=True)
class Piece:
    """A block with what speaks for or against it."""

    block: Block
    element: Any
    linked: float
    """The share of its characters that are links' text, 0–1."""
    suspect: bool
    """Whether it stands in something that is named or placed like furniture."""
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
        self._suspect = 0
        self._level = 0

    def visit(self, element: Any) -> None:
        """Takes in the element's content; the tail is the caller's."""
        doubtful = suspect(element)
        self._suspect += doubtful
        tag = element.tag
        if tag in _HEADINGS:
            self._heading(element, _HEADINGS[tag])
        elif tag == "summary":
            self._heading(element, min(self._level + 1, 6))
        elif tag == "pre":
            self._emit(element, "code", _code(element))
        elif tag == "table" and not is_layout(element):
            self._table(element)
        elif tag in _LISTS and not _rich_items(element):
            self._emit(element, "list", "\n".join(_items(element, 0)), *_link_lengths(element))
        elif tag == "dl" and (lines := list(_definitions(element))):
            self._emit(element, "list", "\n".join(lines), *_link_lengths(element))
        else:
            self._content(element)
        self._suspect -= doubtful

    def flush(self, element: Any) -> None:
        """Ends the paragraph that has gathered, if any; two line breaks in it part two paragraphs."""
        text, linked, jumps = "".join(self._text), self._linked, self._jumps
        self._text, self._linked, self._jumps = [], 0, 0
        if not text.strip():
            return
        for part in _LINES.sub("\n", _collapse(text)).split("\n\n"):
            if part.strip():
                self._append(element, "paragraph", part.strip(), min(linked, len(part)), min(jumps, len(part)))

    def _content(self, element: Any) -> None:
        """An element without a form of its own: its text and children, in a paragraph apart if it is a block."""
        block = element.tag in _BLOCKS
        if block:
            self.flush(element)
        self._text.append(self._before(element))
        if element.tag == "a":
            self._links.append(_jump(element))
        self._inline(element.text)
        for child in element:
            self.visit(child)
            self._inline(child.tail)
        if element.tag == "a":
            self._links.pop()
            self._text.append(_contact(element))
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
        number = self._numbers[parent] = self._numbers.get(parent, _first_number(parent) - 1) + 1
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
        self._emit(element, "heading", flat(element, heading=True), level=level)

    def _table(self, element: Any) -> None:
        for caption in element.iterchildren("caption"):
            self._emit(caption, "paragraph", flat(caption))
        self._emit(element, "table", markdown_table(element, flat), *_link_lengths(element))

    def _emit(self, element: Any, kind: BlockKind, text: str, linked: int = 0, jumps: int = 0, level: int = 0) -> None:
        self.flush(element)
        if text.strip():
            self._append(element, kind, text, linked, jumps, level)

    def _append(self, element: Any, kind: BlockKind, text: str, linked: int, jumps: int, level: int = 0) -> None:
        length = len(text)
        block = Block(kind, text, level)
        self.found.append(Piece(block, element, linked / length, self._suspect > 0, jumps > _CONTENTS * length))


def flat(element: Any, *, heading: bool = False, without: frozenset[str] = frozenset()) -> str:
    """The element's text on one line, leaving out the tags in `without`; in headings also permalink marks."""
    return " ".join("".join(_flat(element, heading, without)).split())


def _flat(element: Any, heading: bool, without: frozenset[str]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        space = " " if child.tag in _BREAKING else ""
        yield space
        if child.tag not in without and not (heading and _permalink(child)):
            yield from _flat(child, heading, without)
            yield _contact(child)
        yield space
        yield child.tail or ""


def _permalink(element: Any) -> bool:
    return (
        element.tag == "a" and (element.get("href") or "").startswith("#") and len(element.text_content().strip()) <= 1
    )


def _contact(element: Any) -> str:
    """The address behind a link to write or call, where the link's text does not show it."""
    target = element.get("href") or ""
    if element.tag != "a" or not target.lower().startswith(_CONTACT):
        return ""
    address = target.split(":", 1)[1].split("?")[0]
    text = element.text_content()
    number = _digits(address)[-6:]
    shown = address in text or (number and number in _digits(text))
    return "" if shown or not address else f" ({address})"


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal())


def _collapse(text: str) -> str:
    return re.sub(r"[ \xa0]{2,}", " ", text)


def _link_lengths(element: Any) -> tuple[int, int]:
    """Characters in links, and in those of them that lead to a place in the same page."""
    links = [(len(flat(link)), _jump(link)) for link in element.iter("a") if link.get("href")]
    return sum(length for length, _ in links), sum(length for length, jump in links if jump)


def _jump(link: Any) -> bool:
    return (link.get("href") or "").startswith("#")


def _code(element: Any) -> str:
    for line_break in element.iter("br"):
        line_break.tail = "\n" + (line_break.tail or "")
    for gutter in [part for part in element.iter() if part is not element and _GUTTER.search(part.get("class") or "")]:
        gutter.drop_tree()
    return "".join(element.itertext()).strip("\n").rstrip()


def _rich_items(element: Any) -> bool:
    """Whether the list's items hold more structure than text and nested lists."""
    return any(True for _ in element.iter(*(_RICH - _LISTS))) or not any(True for _ in element.iter("li"))


def _items(element: Any, depth: int) -> Iterator[str]:
    number = _first_number(element)
    for item in element.iterchildren():
        if item.tag in _LISTS:  # nested without an item around it
            yield from _items(item, depth + 1)
            continue
        if text := flat(item, without=_LISTS):
            yield f"{'  ' * depth}{f'{number}.' if element.tag == 'ol' else '-'} {text}"
        number += 1
        for nested in _outermost_lists(item):
            yield from _items(nested, depth + 1)


def _outermost_lists(element: Any) -> Iterator[Any]:
    for child in element:
        if child.tag in _LISTS:
            yield child
        else:
            yield from _outermost_lists(child)


def _first_number(ordered: Any) -> int:
    start = ordered.get("start") or "1"
    return int(start) if start.isdecimal() and len(start) < 7 else 1


def _definitions(element: Any) -> Iterator[str]:
    """A plain definition list as lines `- term: definition`; nothing when its definitions have inner structure."""
    if any(True for _ in element.iter(*_RICH - {"dl"})) or len(list(element.iter("dl"))) > 1 or _long(element):
        return
    terms: list[str] = []
    for part in element.iter("dt", "dd"):
        if part.tag == "dt":
            terms.append(flat(part))
            continue
        yield f"- {', '.join(terms)}: {flat(part)}" if terms else f"  {flat(part)}"
        terms = []
    if terms:
        yield f"- {', '.join(terms)}"


def _long(element: Any) -> bool:
    return any(len(list(part.iter("p"))) > 1 for part in element.iter("dd"))
