"""Owns how a PDF's lines become blocks: what repeats on every page goes, headings, paragraphs and lists are found."""

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workers.documents import Block, BlockKind
from workers.extract.pdf_lines import HYPHEN, Entry, Line, Page

_BULLET = re.compile(
    r"(?:(?P<dot>[•‣◦▪▫●○■□❑➢➤✓✔∙·*–—-]|[\uf0a7\uf0b7\uf0d8\uf0fc\uf076]|o)"
    r"|(?P<number>\(?(?:\d{1,3}|[a-z])[.)]))(?:\s+|$)"
)
_LEADERS = re.compile(r"(?:\s?\.){4,}|_{4,}|…{2,}")
_ENDS = re.compile(r"[.!?:;。！？…][\"'”’)\]]*$")
_LONE_NUMBER = re.compile(r"[0-9]{1,5}|[ivxlc]{1,7}")
_DIGITS = re.compile(r"[0-9]{1,9}")
_BROKEN_WORD = re.compile(f"(\\w+){HYPHEN}(\\w+)")
_WORDS = re.compile(r"\w+(?:-\w+)*")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_EDGE_LINES = 3
_BAND = 0.14
_GAP = 1.3
_LARGER = 1.15
_HEADING_LENGTH = 160


def blocks_of(pages: Sequence[Page], outline: Sequence[Entry]) -> list[Block]:
    """The pages' text as blocks, each with the page it begins on."""
    pages = _without_furniture(pages, _Sizes(pages))
    sizes = _Sizes(pages)
    levels = _levels(pages, outline, sizes)
    gathered: list[_Part] = []
    for page in pages:
        gathered.extend(_parts(page, levels, gathered[-1] if gathered else None))
    words = {word.casefold() for part in gathered for word in _WORDS.findall(part.text)}
    return [Block(part.kind, _mended(part.text, words), part.level, part.page) for part in gathered]


def largest_text(page: Page) -> str:
    """The page's first line in a size that stands out, and what follows in the same size: a title, or nothing."""
    sizes = _Sizes([page])
    top = max((round(line.size) for line in page.lines), default=0)
    if not sizes.is_larger(top):
        return ""
    lines = [line.text for line in page.lines if round(line.size) == top]
    text = _mended(" ".join(lines).translate(_LIGATURES), set())
    return text if len(text) <= _HEADING_LENGTH else ""


# --- running headers and footers --------------------------------------------------------------------------------------


_Seen = tuple[int, Line]  # a page's number, a line at its edge


def _without_furniture(pages: Sequence[Page], sizes: "_Sizes") -> list[Page]:
    """The pages without the outermost lines that come back at the same height, the same or counting the pages."""
    seen: dict[tuple[str, int], list[_Seen]] = defaultdict(list)
    edges = {page.number: (_edge(page, 1), _edge(page, -1)) for page in pages}
    for number, (top, bottom) in edges.items():
        for line in [*top, *bottom]:
            seen[_key(line)].append((number, line))
    running: set[int] = set()
    offsets: set[int] = set()
    for found in seen.values():
        if _dense(found) and (shift := _shifts(found, sizes)) is not None:
            running.update(id(line) for _, line in found)
            offsets |= shift
    cleaned = []
    for page in pages:
        gone = {id(line) for edge in edges[page.number] for line in _outermost(edge, page.number, running, offsets)}
        cleaned.append(Page(page.number, page.height, tuple(line for line in page.lines if id(line) not in gone)))
    return cleaned


def _edge(page: Page, side: int) -> list[Line]:
    """The page's outermost lines, the outermost first: of its top (1) or bottom (-1)."""
    limit = (1 - _BAND) * page.height if side > 0 else -_BAND * page.height
    near = [line for line in page.lines if side * line.bottom >= limit]
    return sorted(near, key=lambda line: -side * line.bottom)[:_EDGE_LINES]


def _outermost(edge: list[Line], number: int, running: set[int], offsets: set[int]) -> Iterator[Line]:
    """The edge's lines up to the first that belongs to the text."""
    for line in edge:
        lone = _LONE_NUMBER.fullmatch(line.text)
        counted = lone and (not line.text.isdecimal() or int(line.text) - number in offsets | {0})
        if not counted and id(line) not in running:
            return
        yield line


def _key(line: Line) -> tuple[str, int]:
    return _DIGITS.sub("#", " ".join(line.text.casefold().split())), round(line.bottom / 4)


def _dense(found: list[_Seen]) -> bool:
    return len(found) >= 2 and len(found) >= 0.4 * (found[-1][0] - found[0][0] + 1)


def _shifts(found: list[_Seen], sizes: "_Sizes") -> set[int] | None:
    """None for lines that belong to the text; for running ones, by how much their numbers differ from the page's own."""
    if len({line.text for _, line in found}) == 1:
        return set() if len(found) >= 3 else None
    if any(sizes.is_larger(line.size) for _, line in found):  # "Chapter 1", "Chapter 2": headings, one to a page
        return None
    values = [[int(value) - number for value in _DIGITS.findall(line.text)] for number, line in found]
    return {shifts[0] for shifts in zip(*values, strict=False) if len(set(shifts)) == 1} or None


# --- headings ---------------------------------------------------------------------------------------------------------


class _Sizes:
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


def _levels(pages: Sequence[Page], outline: Sequence[Entry], sizes: _Sizes) -> dict[int, int]:
    """The level of each line that is a heading, by the line's id: the outline's where its titles are found, else by size."""
    by_page = {page.number: page for page in pages}
    matched = {
        id(line): min(entry.level, 6)
        for entry in outline
        if (page := by_page.get(entry.page)) and (line := _titled(page, entry.title))
    }
    if matched and len(matched) * 2 >= len(outline):
        return matched
    return {id(line): level for page in pages for line in page.lines if (level := sizes.level(line))} | matched


def _titled(page: Page, title: str) -> Line | None:
    wanted = _letters(title)
    for line in page.lines:
        text = _letters(line.text)
        if wanted and text.endswith(wanted) and (text == wanted or text[: -len(wanted)].isdecimal()):
            return line
    return None


def _letters(text: str) -> str:
    return "".join(char for char in text.translate(_LIGATURES).casefold() if char.isalnum())


# --- paragraphs and lists ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """A block in the making."""

    kind: BlockKind
    text: str
    page: int
    last: Line
    left: float
    """Where it, or its last list item, begins."""
    level: int = 0


def _parts(page: Page, levels: dict[int, int], before: _Part | None) -> Iterator[_Part]:
    """The page's parts; the first lines may still go to `before`, the last part of the page before."""
    full, leading = _FullWidth(page.lines), _leading(page)
    current, turned = before, True
    for line in page.lines:
        level = levels.get(id(line), 0)
        item = None if level else _item(line.text)
        wrapped = turned or (current is not None and current.last.right >= full(current.last))
        if current is not None and _continues(current, line, level, item, leading, wrapped=wrapped, turned=turned):
            _extend(current, line, item, wrapped=wrapped)
        else:
            if current is not None and current is not before:
                yield current
            current = _Part(_kind(level, item), item or _shown(line.text), page.number, line, line.left, level)
        turned = False
    if current is not None and current is not before:
        yield current


def _kind(level: int, item: str | None) -> BlockKind:
    return "heading" if level else "list" if item else "paragraph"


def _item(text: str) -> str | None:
    """The line as a Markdown list item, if it begins like one."""
    found = _BULLET.match(text)
    if not found or (found["dot"] == "o" and not text[found.end() :]):
        return None
    return f"{found['number'] or '-'} {_shown(text[found.end() :])}"


def _shown(text: str) -> str:
    return " ".join(_LEADERS.sub(" … ", text.translate(_LIGATURES)).split())


def _continues(
    part: _Part, line: Line, level: int, item: str | None, leading: float, *, wrapped: bool, turned: bool
) -> bool:
    """Whether the line goes on with the part; `turned`: it is the first of a new page."""
    if level or part.level:
        return level == part.level and not turned and _near(part.last, line, 2 * part.last.size) and len(part.text) < 80
    if item is not None:
        return part.kind == "list"
    if turned:
        return not _ENDS.search(part.text) and line.text[:1].islower()
    if part.text.endswith(HYPHEN) or (part.kind == "list" and part.text.endswith("- ")):
        return True
    return _near(part.last, line, _GAP * leading) and not _starts_anew(part, line, wrapped)


def _near(last: Line, line: Line, distance: float) -> bool:
    return -last.size < last.bottom - line.first_bottom <= distance


def _starts_anew(part: _Part, line: Line, wrapped: bool) -> bool:
    """Whether the line begins a paragraph without a gap: by its indent, or back at the margin after a list item."""
    if part.kind == "list":
        return not wrapped and line.left < part.left + 0.3 * line.size
    return bool(_ENDS.search(part.text)) and line.left > part.last.left + 0.8 * line.size


def _extend(part: _Part, line: Line, item: str | None, *, wrapped: bool) -> None:
    text = _shown(line.text)
    if item is not None:
        part.text += f"\n{item}"
        part.left = line.left
    elif re.search(r"[^\W\d_][-\xad‐]$", part.text) and text[:1].islower():
        part.text = part.text[:-1] + HYPHEN + text
    else:
        flows = wrapped or part.level or part.kind == "list" or text[:1].islower()
        part.text += (" " if flows else "\n") + text
    part.last = line


class _FullWidth:
    """From where on a line counts as full, so that the next one only wraps it."""

    def __init__(self, lines: Sequence[Line]) -> None:
        columns: dict[int, list[float]] = defaultdict(list)
        for line in lines:
            columns[round(line.left / 12)].append(line.right)
        self._right = max((line.right for line in lines), default=0.0)
        self._columns = {left: max(rights) for left, rights in columns.items() if len(rights) >= 3}

    def __call__(self, line: Line) -> float:
        right = self._columns.get(round(line.left / 12), self._right)
        return line.left + 0.8 * (right - line.left)


def _leading(page: Page) -> float:
    """The usual distance of two lines."""
    steps = [
        step
        for above, below in zip(page.lines, page.lines[1:], strict=False)
        if 0.5 * below.size < (step := above.bottom - below.first_bottom) < 2.2 * below.size
    ]
    sizes = [line.size for line in page.lines]
    return min(statistics.median(steps), 2 * statistics.median(sizes)) if steps else 1.5 * max(sizes, default=10.0)


def _mended(text: str, words: set[str]) -> str:
    """Words joined over line ends: with their hyphen where the document writes it elsewhere or the parts need it."""

    def join(found: re.Match[str]) -> str:
        first, second = found.groups()
        hyphenated = f"{first}-{second}"
        if hyphenated.casefold() in words or not second[0].islower() or not first[-1].isalpha():
            return hyphenated
        return first + second

    return _BROKEN_WORD.sub(join, text).replace(HYPHEN, "-")
