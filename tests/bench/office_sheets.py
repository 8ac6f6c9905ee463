"""Workbooks of known content as Excel, OpenDocument and CSV files: values of all types, as their sheets show them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import openpyxl
import xlsxwriter  # type: ignore[import-untyped]  # it has no types of its own, and nobody else has any
from openpyxl.comments import Comment

from tests.bench.office_truth import Truth, Words


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, the format that shows it, and what it then looks like; `down` is how many rows it covers."""

    value: str | float | bool | date | None
    form: str = "General"
    shown: str = ""
    down: int = 1


@dataclass(frozen=True, slots=True)
class Sheet:
    """Its cells by row and column, from 0."""

    name: str
    cells: dict[tuple[int, int], Cell]
    hidden: bool = False
    remark: str = ""
    """The comment on its first cell."""


_COLUMNS = ("text", "date", "price", "share", "money", "whole", "flag", "time", "note")


def sheets(seed: int, truth: Truth) -> Iterator[Sheet]:
    """The workbook with this number: visible sheets of one or two tables each, and one that is hidden."""
    words = Words(seed)
    for number in range(1 + seed % 3):
        name = f"Sheet {seed}-{number}"
        truth.head(1, name)
        cells: dict[tuple[int, int], Cell] = {}
        top, left = words.chance.randint(0, 3), words.chance.randint(0, 2)
        if words.chance.random() < 0.5:
            cells[top, left] = _text(truth.say(words.some("About")))
            top += 2
        for _ in range(words.chance.randint(1, 2)):
            top += 1 + _table(cells, (top, left), words, truth)
        yield Sheet(name, cells, remark=truth.hide(words.some("Remark")))
    yield Sheet(f"Hidden {seed}", {(0, 0): _text(truth.hide(words.some("Secret")))}, hidden=True)


def _table(cells: dict[tuple[int, int], Cell], corner: tuple[int, int], words: Words, truth: Truth) -> int:
    """Adds a table at this corner; how many rows it has. In some, a group's name covers two rows."""
    top, left = corner
    kinds = [*words.chance.sample(_COLUMNS, words.chance.randint(2, 6))]
    head = [words.some(name, script="Latin") for name in ("Thing", *kinds)]
    rows = [
        [_text(words.some("Row")), *(_cell(kind, words) for kind in kinds)]
        for _ in range(2 * words.chance.randint(2, 6))
    ]
    if grouped := words.chance.random() < 0.4:
        head.append(words.some("Group", script="Latin"))
        for first, second in zip(rows[::2], rows[1::2], strict=True):
            name = words.some("Group")
            first.append(Cell(name, shown=name, down=2))
            second.append(Cell(None, shown=name))
    truth.table([head, *([cell.shown for cell in row] for row in rows)])
    for y, row in enumerate([[_text(name) for name in head], *rows]):
        cells |= {(top + y, left + x): cell for x, cell in enumerate(row) if cell.value is not None}
    return len(rows) + 1 + grouped


def _text(words: str) -> Cell:
    return Cell(words, shown=words)


def _cell(kind: str, words: Words) -> Cell:
    number = words.chance.randint(1, 99_999)
    day = date(2000, 1, 1) + timedelta(days=number % 9999)
    return {
        "text": lambda: _text(words.some("Text")),
        "date": lambda: Cell(day, "yyyy-mm-dd", f"{day}"),
        "price": lambda: Cell(number / 100, "0.00", f"{number / 100:.2f}"),
        "share": lambda: Cell(number % 1000 / 1000, "0.0%", f"{number % 1000 / 10:.1f}%"),
        "money": lambda: Cell(number / 4, '#,##0.00 "€"', f"{number / 4:,.2f} €"),
        "whole": lambda: Cell(number, "General", f"{number}"),
        "flag": lambda: Cell(number % 2 == 0, "General", "no" if number % 2 else "yes"),
        "time": lambda: Cell(number % 96 / 96, "hh:mm", f"{number % 96 // 4:02}:{number % 4 * 15:02}"),
        "note": lambda: _text(f"{words.some('Note')}\n{words.some('more')}"),
    }[kind]()


def xlsx_file(title: str, made: list[Sheet], seed: int) -> bytes:
    """A workbook, by XlsxWriter or by openpyxl."""
    return (_by_xlsxwriter if seed % 2 else _by_openpyxl)(title, made)


def _by_xlsxwriter(title: str, made: list[Sheet]) -> bytes:
    """Numbers are formulas whose values are stored, dates real ones."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        book.set_properties({"title": title})
        for sheet in made:
            page = book.add_worksheet(sheet.name)
            for (row, column), cell in sheet.cells.items():
                _write(page, (row, column), cell, book.add_format({"num_format": cell.form}))
            if sheet.remark:
                page.write_comment(*next(iter(sheet.cells)), sheet.remark)
            if sheet.hidden:
                page.hide()
    return buffer.getvalue()


def _write(page: Any, place: tuple[int, int], cell: Cell, form: Any) -> None:
    row, column = place
    if cell.down > 1:
        page.merge_range(row, column, row + cell.down - 1, column, cell.value, form)
    elif isinstance(cell.value, date):
        page.write_datetime(row, column, datetime.combine(cell.value, datetime.min.time()), form)
    elif isinstance(cell.value, float):
        page.write_formula(row, column, f"={cell.value}", form, cell.value)
    else:
        page.write(row, column, cell.value, form)


def _by_openpyxl(title: str, made: list[Sheet]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    book.properties.title = title
    for sheet in made:
        page = book.create_sheet(sheet.name)
        for (row, column), cell in sheet.cells.items():
            one = page.cell(row + 1, column + 1, cell.value)
            one.number_format = cell.form
            if cell.down > 1:
                page.merge_cells(None, row + 1, column + 1, row + cell.down, column + 1)
        if sheet.remark:
            row, column = next(iter(sheet.cells))
            page.cell(row + 1, column + 1).comment = Comment(sheet.remark, "A")
        if sheet.hidden:
            page.sheet_state = "hidden"
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def grid(sheet: Sheet) -> list[list[str]]:
    """The sheet's cells as texts, row by row; `^` where one is covered from above."""
    height = max(row + cell.down for (row, _), cell in sheet.cells.items())
    width = max(column for _, column in sheet.cells) + 1
    rows = [[""] * width for _ in range(height)]
    for (row, column), cell in sheet.cells.items():
        rows[row][column] = cell.shown
        for below in range(1, cell.down):
            rows[row + below][column] = "^"
    return rows


def csv_rows(seed: int, truth: Truth) -> list[list[str]]:
    """One table whose cells have the signs in them that part others."""
    words = Words(seed)
    head = [words.some(name, script="Latin") for name in ("Name", "Price", "Text", "Note")]
    rows = [
        [
            words.some("Thing"),
            f"{words.chance.randint(100, 9999) / 100:.2f}",
            words.some('a "b", c | d\te'),
            words.some("two\nlines"),
        ]
        for _ in range(5 + seed)
    ]
    return truth.table([head, *rows])


def csv_file(rows: list[list[str]], seed: int) -> bytes:
    """The rows as one program or another exports them."""
    delimiter = ",;\t|"[seed % 4]
    quoted = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    return ("\r\n".join(quoted) + "\r\n").encode(("utf-8", "utf-8-sig", "utf-16")[seed % 3])
