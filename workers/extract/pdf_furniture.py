"""Owns what a PDF prints on every page, and how large its body text is: what is no text, and what stands out of it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from workers.extract.pdf_lines import Line, Page

_LONE_NUMBER = re.compile(r"[0-9]{1,5}|[ivxlc]{1,7}")
_DIGITS = re.compile(r"[0-9]{1,9}")
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


@dataclass(slots=True)
class _Running:
    """Running lines by id, by how much the page numbers in them differ from the pages' own, and where they stand."""

    lines: set[int] = field(default_factory=set)
    offsets: set[int] = field(default_factory=set)
    heights: set[int] = field(default_factory=set)


_Seen = tuple[int, Line]  # a page's number, a line at its edge


def without_furniture(pages: Sequence[Page], sizes: Sizes) -> list[Page]:
    """The pages without the outermost lines that come back at the same height, the same or counting the pages."""
    edges = {page.number: (_edge(page, 1), _edge(page, -1)) for page in pages}
    running = _running(edges, sizes)
    cleaned = []
    for page in pages:
        gone = {id(line) for edge in edges[page.number] for line in _outermost(edge, page.number, running)}
        cleaned.append(Page(page.number, page.height, tuple(line for line in page.lines if id(line) not in gone)))
    return cleaned


def _running(edges: dict[int, tuple[list[Line], list[Line]]], sizes: Sizes) -> _Running:
    seen: dict[tuple[str, int], list[_Seen]] = defaultdict(list)
    for number, (top, bottom) in edges.items():
        for line in [*top, *bottom]:
            seen[_key(line)].append((number, line))
    running = _Running()
    for (_, height), found in seen.items():
        if _dense(found) and (shifts := _shifts(found, sizes)) is not None:
            running.lines.update(id(line) for _, line in found)
            running.offsets |= shifts
            running.heights.add(height)
    return running


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


def _key(line: Line) -> tuple[str, int]:
    return _DIGITS.sub("#", " ".join(line.text.casefold().split())), _height(line)


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
