"""Owns how a PDF's lines become blocks: headings, paragraphs and lists, with words mended over line ends."""

import re
import statistics
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass

from workers.documents import Block, BlockKind
from workers.extract.headings import may_head
from workers.extract.pdf_furniture import Sizes, Stripped
from workers.extract.pdf_paged import HYPHEN, Entry, Line, Page

_BULLET = re.compile(
    r"(?:(?P<dot>[•‣◦▪▫●○■□❑➢➤✓✔∙·*–—-]|[\uf0a7\uf0b7\uf0d8\uf0fc\uf076]|o)"
    r"|(?P<number>\(?(?:\d{1,3}|[a-z])[.)]))(?:\s+|$)"
)
_INLINE = re.compile(r"[o–—-]\s")
"""Marks that stand in sentences too: a word of several languages, and dashes."""
_MARK_GAP = 0.6
"""Of the line's size: a wider space parts a mark from its item's text, and no words."""
_LEADERS = re.compile(r"(?:\s?\.){4,}|_{4,}|…{2,}")
_ENDS = re.compile(r"[.!?:;。！？…][\"'”’)\]]*$")
_BROKEN_WORD = re.compile(f"(\\w+){HYPHEN}(\\w+)")
_LINE_HYPHEN = re.compile(r"[^\W\d_][-\xad‐]$")
_WORDS = re.compile(r"\w+(?:-\w+)*")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_GAP = 1.3
_TITLE_LENGTH = 160
_BOLD_GAP, _BOLD_SHARE = 1.15, 0.25


def blocks_of(stripped: Stripped, outline: Sequence[Entry]) -> list[Block]:
    """The pages' text as blocks, each with the page it begins on; what runs over pages ends the first that has it."""
    pages = stripped.pages
    flow = _Flow(_levels(pages, outline, Sizes(pages)))
    for page in pages:
        flow.take(page)
    words = {word.casefold() for part in flow.parts for word in _WORDS.findall(part.text)}
    blocks = [Block(part.kind, _mended(part.text, words), part.level, part.page) for part in flow.parts]
    once = [Block("paragraph", _mended(text, words), page=page) for page, text in stripped.once.items()]
    return sorted([*blocks, *once], key=lambda block: block.page or 0)


def largest_text(page: Page) -> str:
    """The page's first line in a size that stands out, and what follows in the same size: a title, or nothing."""
    sizes = Sizes([page])
    top = max((round(line.size) for line in page.lines), default=0)
    if not sizes.is_larger(top):
        return ""
    lines = [line.text for line in page.lines if round(line.size) == top]
    text = _mended(" ".join(lines).translate(_LIGATURES), set())
    return text if len(text) <= _TITLE_LENGTH else ""


# --- headings ---------------------------------------------------------------------------------------------------------


def _levels(pages: Sequence[Page], outline: Sequence[Entry], sizes: Sizes) -> dict[int, int]:
    """The level of each line that is a heading, by the line's id: the outline's where its titles are found, else by size."""
    by_page = {page.number: page for page in pages}
    matched = {
        id(line): min(entry.level, 6)
        for entry in outline
        if (page := by_page.get(entry.page)) and (line := _titled(page, entry.title))
    }
    if matched and len(matched) * 2 >= len(outline):
        return matched
    larger = {id(line): level for page in pages for line in page.lines if (level := sizes.level(line))}
    deepest = min(max(larger.values(), default=0) + 1, 6)
    return dict.fromkeys(_bold_headings(pages, larger), deepest) | larger | matched


def _bold_headings(pages: Sequence[Page], larger: Container[int]) -> list[int]:
    """Ids of the bold lines that stand alone above lighter text, unless much of the text is bold."""
    found = []
    for page in pages:
        leading = _leading(page)
        for above, line, below in zip([None, *page.lines], page.lines, page.lines[1:], strict=False):
            if line.bold and id(line) not in larger and _stands_above(above, line, below, leading):
                found.append(id(line))
    return found if len(found) <= _BOLD_SHARE * sum(len(page.lines) for page in pages) else []


def _stands_above(above: Line | None, line: Line, below: Line, leading: float) -> bool:
    apart = above is None or not _near(above, line, _BOLD_GAP * leading)
    fits = not line.tabular and may_head(line.text) and _item(line.text) is None
    return apart and fits and not below.bold and _near(line, below, 3 * leading)


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


def _begun(line: Line, level: int, item: str | None, page: int) -> _Part:
    kind: BlockKind = "heading" if level else "list" if item else "paragraph"
    return _Part(kind, item or _shown(line.text), page, line, line.left, level)


def _item(text: str) -> str | None:
    """The line as a Markdown list item, if it begins like one."""
    found = _BULLET.match(text)
    if not found or (found["dot"] == "o" and not text[found.end() :]):
        return None
    return f"{found['number'] or '-'} {_shown(text[found.end() :])}"


def _shown(text: str) -> str:
    return " ".join(_LEADERS.sub(" … ", text.translate(_LIGATURES)).split())


class _Flow:
    """Takes lines in reading order and joins them to parts."""

    def __init__(self, levels: dict[int, int]) -> None:
        self.parts: list[_Part] = []
        self._levels = levels
        self._page = 0
        self._turned = True
        """Whether the next line is the first of a page."""

    def take(self, page: Page) -> None:
        """Takes in the page's lines; the first may still belong to a part of the page before."""
        full, leading = _FullWidth(page.lines), _leading(page)
        self._page, self._turned = page.number, True
        for line, below in zip(page.lines, [*page.lines[1:], None], strict=False):
            level = self._levels.get(id(line), 0)
            part = self.parts[-1] if self.parts else None
            wrapped = self._turned or (part is not None and part.last.right >= full(part.last))
            worded = wrapped and _is_worded(part, line, below, leading)
            item = None if level or worded else _item(line.text)
            if part and self._continues(part, line, level, item, leading, wrapped):
                _extend(part, line, item, wrapped)
            else:
                self.parts.append(_begun(line, level, item, page.number))
            self._turned = False

    def _continues(self, part: _Part, line: Line, level: int, item: str | None, leading: float, wrapped: bool) -> bool:
        if level or part.level:
            return level == part.level and not self._turned and _goes_on(part, line)
        if item is not None:
            return part.kind == "list" and part.page == self._page
        if self._turned:
            return part.page == self._page - 1 and _crosses(part, line)
        return _flows_on(part, line, leading, wrapped)


def _is_worded(part: _Part | None, line: Line, below: Line | None, leading: float) -> bool:
    """Whether a line that begins like an item goes on with a sentence: where that would, its mark no wider apart."""
    if part is None or part.level or _ENDS.search(part.text) or not _near(part.last, line, _GAP * leading):
        return False
    alone = below is None or below.text[:2] != line.text[:2]
    begins, ends = line.space
    close = bool(_INLINE.match(line.text)) and ends - begins <= _MARK_GAP * line.size
    return alone and close and _is_aligned(part, line)


def _is_aligned(part: _Part, line: Line) -> bool:
    """Whether the line stands where the next one of the paragraph would, or of an item whose text is indented."""
    last = part.last
    if part.kind != "list":
        return line.left <= last.left + 0.5 * line.size
    edge = last.space[1] if last.left == part.left else last.left
    return line.left > part.left + 0.3 * line.size and abs(line.left - edge) <= 0.3 * line.size


def _goes_on(heading: _Part, line: Line) -> bool:
    return _near(heading.last, line, 2 * heading.last.size) and len(heading.text) < 80


def _crosses(part: _Part, line: Line) -> bool:
    """Whether a sentence goes on over the page's end."""
    return not _ENDS.search(part.text) and line.text[:1].islower()


def _flows_on(part: _Part, line: Line, leading: float, wrapped: bool) -> bool:
    """Whether the line below a paragraph or item belongs to it: surely behind half a word, or a mark without a text."""
    if part.text.endswith((HYPHEN, "\n- ")) or part.text == "- ":
        return True
    return _near(part.last, line, _GAP * leading) and not _starts_anew(part, line, wrapped)


def _near(last: Line, line: Line, distance: float) -> bool:
    return -last.size < last.bottom - line.first_bottom <= distance


def _starts_anew(part: _Part, line: Line, wrapped: bool) -> bool:
    """Whether the line begins a paragraph without a gap: by its indent, or back at the margin after a list item."""
    if part.kind == "list":
        return line.tabular or (not wrapped and line.left < part.left + 0.3 * line.size)
    return bool(_ENDS.search(part.text)) and line.left > part.last.left + 0.8 * line.size


def _extend(part: _Part, line: Line, item: str | None, wrapped: bool) -> None:
    text = _shown(line.text)
    if item is not None:
        part.text += f"\n{item}"
        part.left = line.left
    elif _LINE_HYPHEN.search(part.text) and text[:1].islower():
        part.text = part.text[:-1] + HYPHEN + text
    else:
        prose = not (line.tabular or part.last.tabular)
        flows = part.level or (prose and (wrapped or part.kind == "list" or text[:1].islower()))
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
