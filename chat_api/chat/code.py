"""Where a streaming answer is code: spans between backticks within a line, and blocks of lines between fences. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_CHARS = 500
"""Of a span, and of a fence's line: what is longer is none, so that nothing longer is waited for."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_INDENT = r"(?:[ \t>]|[-*+•][ \t]|\d{1,9}[.)][ \t])*"
_MAY_INDENT = re.compile(rf"{_INDENT}(?:[-*+•]|\d{{1,9}}[.)]?)?")
_OPENING = re.compile(rf"{_INDENT}(`{{3,}}(?=[^`\n]*\n?\Z)|~{{3,}})[^\n]*\n?")
_CITED = r"(?:[ \t]*\[[\d ,;]*\])*[ \t]*"
_CLOSING = re.compile(rf"{_INDENT}(`{{3,}}|~{{3,}}){_CITED}\r?\n?")
_MAY_GROW = re.compile(rf"{_INDENT}(?:`+|~+){_CITED}(?:\[[\d ,;]*)?\r?")
_RUN = re.compile(r"`+")


class Place(NamedTuple):
    """Where in an answer a text begins."""

    fence: str = ""
    """What opened the block of code around it."""
    indent: str | None = ""
    """What stands before it in its line; None where that is more than an indent and a list's mark."""


@dataclass(slots=True)
class Code:
    """What of a text is code, by ranges of its characters."""

    open_from: int
    """From here on that is not known yet."""
    end: Place
    shown: list[tuple[int, int]] = field(default_factory=list)
    """Spans with their backticks, and the lines of blocks."""
    unparted: list[tuple[int, int]] = field(default_factory=list)
    """Spans and fences: read in two parts they would be none."""

    def has(self, index: int) -> bool:
        """Whether the character is code."""
        return any(start <= index < end for start, end in self.shown)

    def parted(self, index: int) -> int:
        """The last index up to this one where the text can be parted."""
        index = min(index, self.open_from)
        return next((start for start, end in self.unparted if start < index < end), index)


def find_code(text: str, place: Place, *, whole: bool) -> Code:
    """What of the text is code; without `whole` more may follow, which decides what its end is."""
    code = Code(len(text), place)
    for found in _LINE.finditer(text):
        _read_line(code, found[0], found.start(), ended=whole or found[0].endswith("\n"))
    return code


def place_behind(text: str, place: Place) -> Place:
    """The place behind a text that began at `place` and ends where it may be parted."""
    lines, newline, rest = text.rpartition("\n")
    fence, indent = find_code(lines + newline, place, whole=True).end
    return Place(fence, _indent(indent, rest))


def _read_line(code: Code, line: str, start: int, *, ended: bool) -> None:
    fence, indent = code.end
    if indent is not None and (mark := _fence(indent + line, fence, ended=ended)):
        code.unparted.append((start, start + len(line)))
        fence = "" if fence else mark
        code.open_from = code.open_from if ended else start
    elif fence:
        code.shown.append((start, start + len(line)))
    else:
        _read_spans(code, line, start, ended=ended)
    code.end = Place(fence, "" if line.endswith("\n") else _indent(indent, line))


def _indent(before: str | None, line: str) -> str | None:
    if before is None or len(before + line) > MAX_CHARS:
        return None
    return before + line if _MAY_INDENT.fullmatch(before + line) else None


def _fence(line: str, fence: str, *, ended: bool) -> str:
    """The mark of a line that opens a block or closes the one that `fence` opened; of one that may yet do so, too."""
    if len(line) > MAX_CHARS:
        return ""
    found = (_CLOSING if fence else _OPENING).fullmatch(line)
    if found and found[1].startswith(fence):
        return found[1]
    return "`" if not ended and _MAY_GROW.fullmatch(line) else ""


def _read_spans(code: Code, line: str, start: int, *, ended: bool) -> None:
    runs, after = list(_RUN.finditer(line)), 0
    for place, run in enumerate(runs):
        if run.start() < after:
            continue
        after = _span_end(runs, place)
        if not ended and len(line) < run.start() + MAX_CHARS and after in {0, len(line)}:
            code.open_from = start + run.start()
            return
        if after:
            span = (start + run.start(), start + after)
            code.shown.append(span)
            code.unparted.append(span)


def _span_end(runs: Sequence[re.Match[str]], opening: int) -> int:
    """Where the span ends that a run of backticks opens: behind the next run as long; 0 where it opens none."""
    run = runs[opening]
    for place in range(opening + 1, len(runs)):
        if runs[place].end() > run.start() + MAX_CHARS:
            break
        if len(runs[place][0]) == len(run[0]):
            return runs[place].end()
    return 0
