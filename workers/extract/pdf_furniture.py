"""Owns what a PDF prints on every page, and how large its body text is: what is no text, and what stands out of it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from chat_api.core.words import words_of
from workers.extract.pdf_paged import Line, Page

_LONE_NUMBER = re.compile(r"[0-9]{1,5}|[ivxlc]{1,7}")
_DIGITS = re.compile(r"[0-9]{1,9}")
_PAGE = re.compile(
    r"\b(?:pages?|pag|pg|página|pagina|seite|sida|side|sivu|str|strona|strana|stran|stranica|oldal|sayfa|blad|blz|trang"
    r"|halaman|страница|стр|сторінка|σελίδα|σελ|صفحة|עמוד|หน้า)\b\.?\W{0,2}#|\b[psс]\.\s?#"
    r"|#\s?(?:/|of|von|de|di|du|sur|van|av|af|z|ze|из|з|από|od|dari)\s?#|#\.?\s?(?:页|頁|ページ|쪽|페이지|oldal)"
)
"""How a line, its numbers written as #, says that it counts pages."""
_STAMP = 5
"""From so many words on, a page of one picture has a text of its own."""
_TOP = 0
_COUNTED = 5
"""So many pages of two texts or more count as one, where their chapters' names stand above them."""
_EDGE_LINES = 3
_BAND = 0.14
_LARGER = 1.15
_HEADING_LENGTH = 160


class Sizes:
    """The size of most text, and the larger ones in order."""

    def __init__(self, pages: Iterable[Page]) -> None:
        count: Counter[float] = Counter()
        for page in pages:
            for line in page.lines:
                count[round(line.size)] += len(line.text)
        self.body = max(count, key=lambda size: count[size], default=0.0)
        larger = sorted((size for size in count if self.is_larger(size)), reverse=True)
        self._levels = {size: min(level, 6) for level, size in enumerate(larger, 1)}

    def is_larger(self, size: float) -> bool:
        """Whether text of this size stands out from the body."""
        return self.body > 0 and round(size) >= _LARGER * self.body

    def level(self, line: Line) -> int:
        """1–6 for a line that stands out by its size like a heading, else 0."""
        fits = self.is_larger(line.size) and len(line.text) <= _HEADING_LENGTH and any(map(str.isalpha, line.text))
        return self._levels.get(round(line.size), 0) if fits else 0


_Seen = tuple[int, Line]  # a page's number, a line at its edge


@dataclass(slots=True)
class _Running:
    """Running lines by id, by how much the page numbers in them differ from the pages' own, and where they stand."""

    lines: set[int] = field(default_factory=set)
    same: set[int] = field(default_factory=set)
    """Those of the lines that do not count: the same on each page."""
    offsets: set[int] = field(default_factory=set)
    heights: set[int] = field(default_factory=set)

    def add(self, found: list[_Seen], height: int, shifts: set[int]) -> None:
        """Takes in lines with the same text but for their numbers, at one height."""
        ids = {id(line) for _, line in found}
        self.lines |= ids
        self.same |= ids if not shifts else set()
        self.offsets |= shifts
        self.heights.add(height)

    def add_counting(self, texts: list[list[_Seen]], height: int, shift: int) -> None:
        """Takes in lines of several texts, if the pages are counted on from one to the next, as over chapters."""
        if len(texts) > 1 and sum(map(len, texts)) >= _COUNTED:
            for found in texts:
                self.add(found, height, {shift})


@dataclass(frozen=True, slots=True)
class Stripped:
    """Pages without their running lines."""

    pages: list[Page]
    once: dict[int, str]
    """Running lines that say the same on each page, an address or a name: by the first page that has them."""
    empty: list[int]
    """Numbers of the pages on which there is no more than that: blanks, pictures, and scans with a few words of stamp."""


def without_furniture(pages: Sequence[Page]) -> Stripped:
    """The pages without the outermost lines that come back at the same height, the same or counting the pages."""
    edges = {page.number: (_edge(page, 1), _edge(page, -1)) for page in pages}
    running = _running(edges, Sizes(pages))
    gone = {number: _furniture(sides, number, running) for number, sides in edges.items()}
    stripped = [_without(page, gone[page.number]) for page in pages]
    scans = {page.number for page in stripped if _is_scan(page)}
    once = _once([page for page in pages if page.number not in scans], gone, running.same)
    empty = [page.number for page in stripped if page.number in scans or not (page.number in once or _has_text(page))]
    return Stripped(stripped, once, empty)


def _furniture(sides: Iterable[list[Line]], number: int, running: _Running) -> set[int]:
    """Ids of the lines at a page's edges that are no text of its own."""
    return {id(line) for edge in sides for line in _outermost(edge, number, running)}


def _without(page: Page, gone: set[int]) -> Page:
    return replace(page, lines=tuple(line for line in page.lines if id(line) not in gone))


def _is_scan(page: Page) -> bool:
    return page.pictured and _words(page) < _STAMP


def _has_text(page: Page) -> bool:
    return any(map(_has_word, page.lines))


def _words(page: Page) -> int:
    return sum(len(words_of(line.text)) for line in page.lines)


def _has_word(line: Line) -> bool:
    return any(map(str.isalnum, line.text))


def _once(pages: Iterable[Page], gone: dict[int, set[int]], same: set[int]) -> dict[int, str]:
    said: set[str] = set()
    once = {}
    for page in pages:
        here = gone[page.number] & same
        first = {text: line.text for line in page.lines if id(line) in here and (text := _plain(line)) not in said}
        if first:
            once[page.number] = "\n".join(first.values())
            said |= first.keys()
    return once


def _running(edges: dict[int, tuple[list[Line], list[Line]]], sizes: Sizes) -> _Running:
    running = _Running()
    doubtful: dict[tuple[int, int], list[list[_Seen]]] = defaultdict(list)
    for (text, height, side), found in _seen(edges).items():
        if not _dense(found) or (shifts := _shifts(found, sizes)) is None:
            continue
        if shifts and side == _TOP and _is_text(found, text, sizes):
            for shift in shifts:
                doubtful[height, shift].append(found)
        else:
            running.add(found, height, shifts)
    for (height, shift), texts in doubtful.items():
        running.add_counting(texts, height, shift)
    return running


def _seen(edges: dict[int, tuple[list[Line], list[Line]]]) -> dict[tuple[str, int, int], list[_Seen]]:
    """The edges' lines by their text without its numbers, their height and their side."""
    seen: dict[tuple[str, int, int], list[_Seen]] = defaultdict(list)
    for number, sides in edges.items():
        for side, edge in enumerate(sides):
            for line in edge:
                seen[_counted(line), _height(line), side].append((number, line))
    return seen


def _edge(page: Page, side: int) -> list[Line]:
    """The page's outermost lines, the outermost first: of its top (1) or bottom (-1)."""
    limit = (1 - _BAND) * page.height if side > 0 else -_BAND * page.height
    near = [line for line in page.lines if side * line.bottom >= limit]
    return sorted(near, key=lambda line: -side * line.bottom)[:_EDGE_LINES]


def _outermost(edge: list[Line], number: int, running: _Running) -> Iterator[Line]:
    """The edge's lines up to the first that belongs to the text."""
    for line in edge:
        if id(line) not in running.lines and not _is_number(line, number, running):
            return
        yield line


def _is_number(line: Line, number: int, running: _Running) -> bool:
    """Whether the line is a lone page number, or one with a text that is no other page's, where running lines are."""
    if _LONE_NUMBER.fullmatch(line.text):
        return not line.text.isdecimal() or int(line.text) - number in running.offsets | {0}
    shifts = {int(value) - number for value in _DIGITS.findall(line.text)}
    return _height(line) in running.heights and bool(shifts & running.offsets)


def _height(line: Line) -> int:
    return round(line.bottom / 4)


def _plain(line: Line) -> str:
    return " ".join(line.text.casefold().split())


def _counted(line: Line) -> str:
    return _DIGITS.sub("#", _plain(line))


def _is_text(found: list[_Seen], text: str, sizes: Sizes) -> bool:
    """Whether lines that count at the pages' tops are the text's own: "Room 101" on one page, "Room 102" on the next."""
    if text.strip(" -–—|·") == "#" or _PAGE.search(text):
        return False
    return len(found) < 3 or any(round(line.size) >= sizes.body for _, line in found)


def _dense(found: list[_Seen]) -> bool:
    return len(found) >= 2 and len(found) >= 0.4 * (found[-1][0] - found[0][0] + 1)


def _shifts(found: list[_Seen], sizes: Sizes) -> set[int] | None:
    """None for lines that belong to the text; for running ones, by how much their numbers differ from the page's own."""
    if len({line.text for _, line in found}) == 1:
        return set() if len(found) >= 3 else None
    if any(sizes.is_larger(line.size) for _, line in found):  # "Chapter 1", "Chapter 2": headings, one to a page
        return None
    values = [[int(value) - number for value in _DIGITS.findall(line.text)] for number, line in found]
    return {shifts[0] for shifts in zip(*values, strict=False) if len(set(shifts)) == 1} or None
