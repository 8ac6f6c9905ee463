"""Owns which part of an HTML page is its text: trafilatura votes, the page's own structure gives the shape."""

import copy
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import trafilatura
from lxml import etree

from chat_api.core.errors import NeedsRendering, NoText
from workers.documents import Block, Document
from workers.extract.encoding import decode, meta_charset
from workers.extract.html_blocks import Piece, pieces
from workers.extract.html_page import describe, parse
from workers.extract.html_prune import drop_furniture, drop_hidden, main_container, words
from workers.extract.text import decoding_warnings

_WORD = re.compile(r"\w+")
_PROBE = 6
_FEW_WORDS = 20
_NAME_WORDS = 3
_LINKED, _ALL_LINKS = 0.6, 0.85
_CROWD = 4000
_MANY_CHILDREN = etree.XPath(f"descendant-or-self::*[count(*) > {_CROWD}]")
_INLINE = frozenset(
    [
        "a",
        "span",
        "b",
        "i",
        "em",
        "strong",
        "code",
        "small",
        "font",
        "sub",
        "sup",
        "u",
        "q",
        "abbr",
        "label",
        "cite",
        "mark",
        "kbd",
        "var",
        "time",
    ]
)
_BROKEN = (etree.LxmlError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
_TAGS = {"item": "li", "row": "tr", "cell": "td", "lb": "br", "quote": "blockquote", "code": "pre", "ref": "span"}


def extract_html(body: bytes, *, url: str, charset: str | None = None) -> Document:
    """The page's main text as blocks. `url` is the base of its links, `charset` what its server declared.

    Raises NoText, and NeedsRendering where scripts would have to bring the text.
    """
    decoded = decode(body, (charset, meta_charset(body)))
    tree = parse(decoded.text)
    if tree is None:
        raise NoText
    held = list(tree.iter())  # lxml makes an element's Python object anew wherever none is held
    page = describe(tree, url)
    warnings = [*decoding_warnings(decoded)]
    if hidden := drop_hidden(tree):
        warnings.append(f"{hidden} words that the page hides from its readers were dropped.")
    shell = _is_shell(tree)
    blocks = _main_blocks(tree)
    held.clear()
    count = sum(words(block.text) for block in blocks)
    if shell and count < _FEW_WORDS and not any(block.level == 1 for block in blocks):
        raise NeedsRendering
    if not any(_WORD.search(block.text) for block in blocks):
        raise NoText
    return Document(
        title=page.title,
        blocks=tuple(blocks),
        media_type="text/html",
        language=page.language,
        links=page.links,
        canonical_url=page.canonical_url,
        warnings=tuple(warnings),
    )


def _is_shell(tree: Any) -> bool:
    """Whether the page has scripts and an empty element for them to fill, or words for those without them."""
    if next(tree.iter("script"), None) is None:
        return False
    if any("javascript" in element.text_content().lower() for element in tree.iter("noscript")):
        return True
    return any(
        element.get("id") and not len(element) and not (element.text or "").strip()
        for element in tree.iter("div", "main", "section")
    )


def _main_blocks(tree: Any) -> list[Block]:
    chosen = _trafilatura(tree)
    drop_furniture(tree)
    found = pieces(tree)
    if chosen is None:
        return [piece.block for piece in _within(found, main_container(tree))]
    vote = _Vote(" ".join(chosen.itertext()))
    kept = _kept(tree, found, vote)
    if vote.total >= _FEW_WORDS and vote.share_of(kept) < 0.6:
        return [piece.block for piece in pieces(_as_html(chosen))]  # its text comes from elsewhere than the elements
    return [piece.block for piece in kept]


def _trafilatura(tree: Any) -> Any | None:
    """trafilatura's choice of the page's text as its own element tree, or None where it finds nothing or breaks."""
    if any(_crowded(element) for element in _MANY_CHILDREN(tree)):
        return None
    copied = copy.deepcopy(tree)
    for cell in copied.iter("td", "th"):  # it would pad tables to their spans, and only their words count here
        cell.attrib.pop("rowspan", None)
        cell.attrib.pop("colspan", None)
    try:
        result = trafilatura.bare_extraction(copied, fast=True, include_comments=False)
    except _BROKEN:
        return None
    return getattr(result, "body", None)


def _crowded(element: Any) -> bool:
    """Whether so many inline elements stand side by side that trafilatura, quadratic in them, would take seconds."""
    return sum(child.tag in _INLINE for child in element) > _CROWD


class _Vote:
    """What trafilatura chose, asked whether it holds a block's words."""

    def __init__(self, text: str) -> None:
        found = _WORD.findall(text.casefold())
        self.total = len(found)
        self._text = f" {' '.join(found)} "
        self._held: dict[str, bool] = {}

    def holds(self, text: str) -> bool:
        """Whether at least half of three samples of the text (its start, middle and end) were chosen."""
        if text not in self._held:
            self._held[text] = self._holds(text)
        return self._held[text]

    def _holds(self, text: str) -> bool:
        found = _WORD.findall(text.casefold())
        middle = max(0, len(found) // 2 - _PROBE // 2)
        samples = [found[:_PROBE], found[middle : middle + _PROBE], found[-_PROBE:]]
        return bool(found) and sum(f" {' '.join(sample)} " in self._text for sample in samples) >= 2

    def share_of(self, kept: list[Piece]) -> float:
        """The share of what was chosen that these pieces hold, 0–1, by count of words."""
        held = sum(len(_WORD.findall(piece.block.text)) for piece in kept if self.holds(piece.block.text))
        return held / max(1, self.total)


def _container(tree: Any, found: list[Piece], vote: _Vote) -> tuple[Any, bool]:
    """The element to read, and whether the page itself marks it as main: so it is unless most votes are outside."""
    voted = [piece for piece in found if vote.holds(piece.block.text)]
    weight = sum(map(_weight, voted))
    marked = main_container(tree)
    if marked is not None and sum(map(_weight, _within(voted, marked))) >= 0.6 * weight:
        return marked, True
    return _deepest(tree, voted, 0.9 * weight), False


def _deepest(tree: Any, voted: list[Piece], weight: float) -> Any:
    """The innermost element that holds this weight of votes."""
    held: Counter[Any] = Counter()
    for piece in voted:
        held.update(dict.fromkeys([piece.element, *piece.element.iterancestors()], _weight(piece)))
    container = tree
    while (inner := next((child for child in container if held[child] >= weight > 0), None)) is not None:
        container = inner
    return container


def _weight(piece: Piece) -> int:
    return len(piece.block.text)


def _within(found: list[Piece], container: Any | None) -> list[Piece]:
    if container is None:
        return found
    inside = set(container.iter())
    return [piece for piece in found if piece.element in inside]


def _kept(tree: Any, found: list[Piece], vote: _Vote) -> list[Piece]:
    """The container's pieces without those that look like furniture and were not chosen, if that leaves a text."""
    container, marked = _container(tree, found, vote)
    inside = _within(found, container) or found
    kept = list(_headed(inside, [_good(piece, vote, marked) for piece in inside]))
    if _size(kept) >= _FEW_WORDS:
        return kept
    return [piece for piece in inside if not piece.suspect] or inside


def _good(piece: Piece, vote: _Vote, marked: bool) -> bool:
    if piece.contents or (piece.linked > _ALL_LINKS and not marked):
        return False
    if piece.block.level == 1 or not (piece.suspect or piece.linked > _LINKED):
        return True
    return words(piece.block.text) > _NAME_WORDS and vote.holds(piece.block.text)


def _size(found: list[Piece]) -> int:
    return sum(words(piece.block.text) for piece in found)


def _headed(inside: list[Piece], good: list[bool]) -> Iterator[Piece]:
    """The good pieces, without headings that have lost all they headed."""
    for index, piece in enumerate(inside):
        if piece.block.kind != "heading":
            if good[index]:
                yield piece
            continue
        scope = _scope(inside, index)
        if good[index] and (any(good[below] for below in scope) if scope else index + 1 < len(inside)):
            yield piece


def _scope(inside: list[Piece], index: int) -> list[int]:
    """The text under a heading: indices up to the next heading of its level or above."""
    level, scope = inside[index].block.level, []
    for below in range(index + 1, len(inside)):
        block = inside[below].block
        if block.kind == "heading" and block.level <= level:
            break
        if block.kind != "heading":
            scope.append(below)
    return scope


def _as_html(chosen: Any) -> Any:
    for element in chosen.iter():
        if element.tag == "head":
            element.tag = element.get("rend") if re.fullmatch("h[1-6]", element.get("rend") or "") else "h2"
        elif element.tag == "list":
            element.tag = "ol" if element.get("rend") == "ol" else "ul"
        elif element.tag == "cell" and element.get("role") == "head":
            element.tag = "th"
        else:
            element.tag = _TAGS.get(element.tag, element.tag)
    return chosen
