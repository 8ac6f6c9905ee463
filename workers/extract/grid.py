"""Owns tables made of rows of texts: as Markdown, and as records that say what each value is."""

import re
from collections.abc import Iterable, Iterator, Sequence

from chat_api.core.errors import TooLarge
from workers.documents import Block, BlockKind

MAX_ROWS = 100_000
MAX_TEXT = 20_000_000
"""Characters of all of a document's records together."""
MAX_COLUMNS = 1_000
MAX_CARRIED = 500
"""Characters of a cell's text that the rows below it say, too, which it covers."""
_TOO_LARGE = "A table is larger than what is read. Split it."
_TOO_WIDE = f"A table has text beyond its {MAX_COLUMNS:,}th column. Split it."
_LINES = 200
_HEAD_LENGTH = 80
_NUMBER = re.compile(r"[^\w]*[\d.,'’/:%-][\d.,'’/:%\s-]*[^\w]*")
_YEAR = re.compile(r"(?:19|20)\d\d")

Row = Sequence[str]


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table whose head is the first; empty when no cell has text. Raises TooLarge."""
    flat: list[list[str]] = []
    width = size = 0
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in _clean(row)]
        if any(cells):
            flat.append(cells)
            width = max(width, len(cells))
            size += sum(map(len, cells))
        if size > MAX_TEXT or len(flat) * width > MAX_TEXT:
            raise TooLarge(_TOO_LARGE)
    if not flat:
        return ""
    lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in flat]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def carried(rows: Iterable[Sequence[str | None]]) -> Iterator[list[str]]:
    """The rows, where None stands for a cell that is covered from above: in rows that say more it has that one's text."""
    above: list[str] = []
    for row in rows:
        cells = [
            (above[place][:MAX_CARRIED] if place < len(above) else "") if cell is None else cell
            for place, cell in enumerate(row)
        ]
        yield cells if any(row) else []
        above = cells


class Records:
    """Makes rows into lists of `- Column: value; Column: value`, and texts that stand alone in a row into paragraphs.

    One instance counts for a whole document: it raises TooLarge past MAX_ROWS rows or MAX_TEXT characters.
    """

    def __init__(self) -> None:
        self._rows = self._size = 0

    def blocks(self, rows: Iterable[Row]) -> Iterator[Block]:
        """The blocks of one sheet. A row of names is the head of those below it, until an empty row ends the table."""
        return self.written(_lines(rows))

    def written(self, records: Iterable[str]) -> Iterator[Block]:
        """The blocks of records that are lines already: those that begin with `- ` in lists, others in paragraphs."""
        kind: BlockKind = "list"
        lines: list[str] = []
        for line in records:
            self._count(line)
            listed: BlockKind = "list" if line.startswith("- ") else "paragraph"
            if lines and (listed != kind or len(lines) == _LINES):
                yield Block(kind, "\n".join(lines))
                lines = []
            kind = listed
            lines.append(line)
        if lines:
            yield Block(kind, "\n".join(lines))

    def _count(self, line: str) -> None:
        self._rows += 1
        self._size += len(line)
        if self._rows > MAX_ROWS or self._size > MAX_TEXT:
            raise TooLarge(
                f"The tables hold more than is read: {MAX_ROWS:,} rows or {MAX_TEXT:,} characters. Split the file."
            )


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    head: Row = ()
    last: Row = ()
    waiting: Row = ()  # may be a head, if a row follows
    fresh = True
    for row in map(_clean, rows):
        filled = sum(map(bool, row))
        if not filled:
            yield from _headless(waiting)
            waiting, fresh = (), True
            continue
        head, waiting = waiting or head, ()
        if fresh and _begins(row, head, last):
            waiting, fresh = row, False
        elif filled == 1 and (fresh or not head):
            yield next(filter(None, row))
        else:
            fresh, last = False, row
            yield _record(row, head)
    yield from _headless(waiting)


def _headless(row: Row) -> Iterator[str]:
    """A row that looked like a head, and has none below it."""
    if row:
        yield _record(row, ())


def _clean(cells: Row) -> Row:
    """The cells on one line each. Raises TooLarge before it looks at what is larger than all that is read."""
    if any(cells[MAX_COLUMNS:]):
        raise too_wide()
    if sum(map(len, cells)) > MAX_TEXT:
        raise TooLarge(_TOO_LARGE)
    return tuple(" ".join(cell.split()) for cell in cells[:MAX_COLUMNS])


def too_wide() -> TooLarge:
    """The error for text beyond MAX_COLUMNS."""
    return TooLarge(_TOO_WIDE)


def _begins(row: Row, head: Row, last: Row) -> bool:
    """Whether a table of its own may begin with the row; `head` and `last` are the first and last row of the one above."""
    return sum(map(bool, row)) > 1 and _is_head(row) and (not _same_columns(row, head) or _all_names(row, last))


def _all_names(row: Row, last: Row) -> bool:
    """Whether the row has words in all columns in which the last one had numbers: in two at least, one may be missing."""
    words = [
        bool(cell) and not _NUMBER.fullmatch(cell)
        for cell, above in zip(row, last, strict=False)
        if _NUMBER.fullmatch(above)
    ]
    return len(words) > 1 and all(words)


def _record(row: Row, head: Row) -> str:
    names = (*head, *[""] * (len(row) - len(head)))
    parts = [f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell]
    return "- " + ("; " if head else " | ").join(parts)


def _is_head(row: Row) -> bool:
    """Whether the row names columns: short texts, each another, with few gaps and no numbers but years."""
    names = [cell for cell in row if cell]
    first = next(index for index, cell in enumerate(row) if cell)
    last = next(index for index in range(len(row), 0, -1) if row[index - 1])
    unlike = len({name.casefold() for name in names}) == len(names)
    dense = len(names) * 2 > last - first
    return unlike and dense and not _NUMBER.fullmatch(names[0]) and all(map(_may_name, names))


def _may_name(cell: str) -> bool:
    return len(cell) <= _HEAD_LENGTH and bool(_YEAR.fullmatch(cell) or not _NUMBER.fullmatch(cell))


def _same_columns(row: Row, head: Row) -> bool:
    """Whether the row goes on with the table above the gap; not when it is its head again."""
    wide = max(len(row), len(head))
    filled = [[bool(cell) for cell in (*cells, *[""] * (wide - len(cells)))] for cells in (row, head)]
    return bool(head) and filled[0] == filled[1] and row != head
