"""Owns how an HTML table becomes a Markdown table, and which tables are only layout."""

from collections.abc import Callable, Iterator
from typing import Any

_MAX_SPAN, _MAX_COLUMNS = 50, 100
_MOST_REPEATED = 20_000
"""Characters that a value over very many rows may take up in all of them; a longer one stands in the first."""
_ROWS = ("thead", "tbody", "tfoot", "tr")
_CELLS = ("td", "th", "caption", "colgroup", "col")
_STRUCTURE = ("h1", "h2", "h3", "h4", "ul", "ol", "dl", "form")


def is_layout(table: Any) -> bool:
    """Whether the table only arranges a page: it says so, has one column, or holds structure in cells without heads."""
    if table.get("role") in {"presentation", "none"}:
        return True
    if max((len(list(_cells(row))) for row in _rows(table)), default=0) < 2:
        return True
    if _has(table, "pre") or any(inner is not table for inner in table.iter("table")):
        return True
    return not _has(table, "th", "thead") and _has(table, *_STRUCTURE)


def _has(element: Any, *tags: str) -> bool:
    return next(element.iter(*tags), None) is not None


def markdown_table(table: Any, text_of: Callable[[Any], str]) -> str:
    """The table as Markdown; a value that spans rows stands in each, one that spans columns in the
    first, in heads in each."""
    grid = [(_is_header(row), cells) for row, cells in _grid(table, text_of) if any(cells)]
    if not grid:
        return ""
    width = max(len(cells) for _, cells in grid)
    heads = next((index for index, (head, cells) in enumerate(grid) if not head or (index and not any(cells[1:]))), 1)
    header = _merged([cells for _, cells in grid[:heads]], width)
    lines = [_line(header, width), "|" + " --- |" * width]
    return "\n".join([*lines, *(_line(cells, width) for _, cells in grid[heads:])])


def strays(table: Any) -> Iterator[Any]:
    """What stands in the table and in no cell: texts and elements, in order. Browsers show it before the table."""
    yield table.text or ""
    for child in table:
        if child.tag in _ROWS or (child.tag not in _CELLS and next(child.iter(*_ROWS, *_CELLS), None) is not None):
            yield from (" ", *strays(child), " ")
        elif child.tag not in _CELLS:
            yield child
        yield child.tail or ""


def _merged(rows: list[list[str]], width: int) -> list[str]:
    """One header row of several: `Price` over `net` and `gross` gives `Price net` and `Price gross`."""
    columns = [[row[index] for row in rows if index < len(row) and row[index]] for index in range(width)]
    return [" ".join(dict.fromkeys(texts)) for texts in columns]


def _line(cells: list[str], width: int) -> str:
    padded = [*cells, *[""] * (width - len(cells))]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in padded) + " |"


def _rows(table: Any) -> Iterator[Any]:
    for row in table.iter("tr"):
        if next(row.iterancestors("table"), None) is table:
            yield row


def _cells(row: Any) -> Iterator[Any]:
    return (cell for cell in row.iterchildren("td", "th"))


def _is_header(row: Any) -> bool:
    parent = row.getparent()
    return parent.tag == "thead" or all(cell.tag == "th" or _bold(cell) for cell in _cells(row))


def _bold(cell: Any) -> bool:
    return (
        len(cell) == 1
        and cell[0].tag in {"b", "strong"}
        and not (cell.text or "").strip() + (cell[0].tail or "").strip()
    )


def _grid(table: Any, text_of: Callable[[Any], str]) -> Iterator[tuple[Any, list[str]]]:
    carried: dict[int, tuple[int, str]] = {}  # column → rows still to fill, value
    rows = list(_rows(table))
    for left, row in zip(range(len(rows), 0, -1), rows, strict=True):
        cells: list[str] = []
        repeats = _is_header(row) and len(list(_cells(row))) > 1
        for cell in _cells(row):
            _carry(cells, carried)
            text, down = text_of(cell), _span(cell, "rowspan", left)
            below = text if down <= _MAX_SPAN or down * len(text) <= _MOST_REPEATED else ""
            further = (text, below) if repeats else ("", "")
            _lay(cells, carried, [(text, below), *[further] * (_span(cell, "colspan", _MAX_SPAN) - 1)], down)
        _carry(cells, carried)
        yield row, [*cells[:_MAX_COLUMNS], *(cell for cell in cells[_MAX_COLUMNS:] if cell)]


def _lay(cells: list[str], carried: dict[int, tuple[int, str]], values: list[tuple[str, str]], down: int) -> None:
    """Adds a cell's values: of each column, what stands in its first row, and what in those below."""
    for value, below in values:
        if down > 1 and len(cells) < _MAX_COLUMNS:
            carried[len(cells)] = (down - 1, below)
        cells.append(value)


def _carry(cells: list[str], carried: dict[int, tuple[int, str]]) -> None:
    while len(cells) in carried:
        rows, value = carried.pop(column := len(cells))
        cells.append(value)
        if rows > 1:
            carried[column] = (rows - 1, value)


def _span(cell: Any, name: str, most: int) -> int:
    value = cell.get(name) or "1"
    return min(int(value), most) if value.isdecimal() and len(value) < 6 and int(value) > 0 else 1
