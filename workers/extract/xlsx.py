"""Owns Excel workbooks: each sheet a section, its rows as records, values as the sheet shows them."""

import re
from collections.abc import Iterator
from typing import Any

from chat_api.core.errors import TooLarge, UnsupportedType
from workers.documents import Block, Document
from workers.extract.grid import MAX_COLUMNS, MAX_TEXT, Records, too_wide
from workers.extract.ooxml import Package
from workers.extract.raised import Joined
from workers.extract.xlsx_merged import Merged, column_of
from workers.extract.xlsx_values import Formats
from workers.extract.xml_tree import attribute, mending, stream_xml, whole

_COLUMN = re.compile(r"([A-Z]{1,3})\d{1,7}")
_ESCAPED = re.compile(r"_x(?![Dd][89A-Fa-f])([0-9A-Fa-f]{4})_")
"""ECMA-376 part 1, 22.9.2.19; not half a character of two."""
_BINARY = "This is a binary Excel workbook (.xlsb), which can't be read. Save it as .xlsx."
_TRUE = frozenset({"1", "true"})


def extract_xlsx(body: bytes) -> Document:
    """The workbook's rows; the title may be empty. Hidden sheets, rows and columns, comments and charts are left out.

    Raises MalformedDocument, EncryptedDocument, TooLarge, and UnsupportedType for a binary workbook.
    """
    with mending():
        package = Package(body)
        main = package.main("xl/workbook.xml")
        if main.casefold().endswith(".bin"):
            raise UnsupportedType(_BINARY)
        workbook, relations = package.xml(main), package.relations(main)
        values = _Values(package, {one.kind: one.target for one in relations.values()}, workbook)
        sheets = []
        hidden = []
        for sheet in workbook.iter("sheet"):
            relation = relations.get(_relation(sheet))
            if attribute(sheet, "state", "visible") != "visible":
                hidden.append(attribute(sheet, "name"))
            elif relation and relation.kind == "worksheet" and relation.target in package.archive:
                sheets.append((attribute(sheet, "name"), relation.target))
        concealing: list[str] = []
        blocks = tuple(_blocks(package, sheets, values, concealing))
        return Document(
            title=package.title(),
            blocks=blocks,
            media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            warnings=tuple(_warnings(hidden, concealing)),
            **package.dates(),
        )


def _relation(sheet: Any) -> str:
    """The id of the sheet's relationship, which is beside its number among the sheets."""
    return next((str(value) for key, value in sheet.items() if key.endswith("}id")), "")


def _warnings(hidden: list[str], concealing: list[str]) -> Iterator[str]:
    if hidden:
        yield f"Hidden sheets were left out: {', '.join(hidden)}."
    if concealing:
        yield f"Hidden rows and columns were left out of: {', '.join(concealing)}."


def _blocks(
    package: Package, sheets: list[tuple[str, str]], values: "_Values", concealing: list[str]
) -> Iterator[Block]:
    """The sheets' blocks; `concealing` gets the names of those with text in hidden rows or columns."""
    records = Records()
    for name, part in sheets:
        sheet = _Sheet(package, part, values)
        rows = list(records.blocks(sheet.rows()))
        if sheet.conceals:
            concealing.append(name or "Sheet")
        if rows:
            yield Block("heading", name or "Sheet", 1)
            yield from rows


class _Sheet:
    """A worksheet's rows, without what it hides."""

    def __init__(self, package: Package, part: str, values: "_Values") -> None:
        self.conceals = False
        """Whether there was text in hidden rows or columns, once all rows are read."""
        self._elements = stream_xml(package.archive.stream(part), "col", "row")
        self._merged = Merged(package.archive.parts(part))
        self._values = values
        self._hidden: set[int] = set()

    def rows(self) -> Iterator[list[str]]:
        """The sheet's rows, gaps between them as one empty row."""
        last = 0
        for element in self._elements:
            hidden = attribute(element, "hidden") in _TRUE
            if element.tag == "col":
                if hidden:
                    first, end = (whole(attribute(element, name)) for name in ("min", "max"))
                    self._hidden.update(range(max(first - 1, 0), min(end, MAX_COLUMNS)))
                continue
            number = whole(attribute(element, "r"), last + 1)
            if number > last + 1:
                yield []
            last = number
            cells = self._merged.filled(number, self._cells(element))
            shown = [] if hidden else [cell for place, cell in enumerate(cells) if place not in self._hidden]
            self.conceals = self.conceals or sum(map(bool, shown)) < sum(map(bool, cells))
            if not hidden:
                yield shown

    def _cells(self, row: Any) -> list[str]:
        cells: list[str] = []
        column = -1
        for cell in row.iterchildren("c"):
            column = _column(attribute(cell, "r"), column + 1)
            text = self._values.of(cell)
            if text and column >= MAX_COLUMNS:
                raise too_wide()
            if text:
                cells += [""] * (column + 1 - len(cells))
                cells[column] = text
        return cells


def _column(reference: str, default: int) -> int:
    """`C7` as 2."""
    found = _COLUMN.fullmatch(reference)
    return column_of(found.group(1)) if found else default


class _Values:
    """What cells hold, as text."""

    def __init__(self, package: Package, parts: dict[str, str], workbook: Any) -> None:
        self._shared = list(_shared(package, parts["sharedStrings"])) if "sharedStrings" in parts else []
        properties = next(workbook.iter("workbookPr"), None)
        since_1904 = properties is not None and attribute(properties, "date1904") in _TRUE
        styles = package.xml(parts["styles"]) if "styles" in parts else None
        self._formats = Formats(styles, since_1904=since_1904)

    def of(self, cell: Any) -> str:
        """The cell's value; nothing for errors and formulas without a stored value."""
        kind, value = attribute(cell, "t", "n"), cell.findtext("v") or ""
        if kind == "inlineStr":
            return _rich(cell.find("is"))
        if kind == "s":
            index = whole(value, -1)
            return self._shared[index] if 0 <= index < len(self._shared) else ""
        if kind == "b":
            return {"1": "yes", "0": "no"}.get(value, "")
        if kind == "e" or not value:
            return ""
        if kind in {"str", "d"}:
            return _unescaped(value)
        return self._formats.show(value, whole(attribute(cell, "s")))


def _shared(package: Package, part: str) -> Iterator[str]:
    size = 0
    for item in stream_xml(package.archive.stream(part), "si"):
        text = _rich(item)
        size += len(text) + 8
        if size > 2 * MAX_TEXT:
            raise TooLarge("The workbook holds more text than is read. Split it.")
        yield text


def _rich(item: Any) -> str:
    """A text of one or more runs, without its pronunciation."""
    if item is None:
        return ""
    joined = Joined()
    for element in item.iter("r", "t"):
        if element.tag == "r":
            aligned = element.find("rPr/vertAlign")
            joined.move(attribute(aligned, "val") if aligned is not None else "")
        elif element.getparent().tag != "rPh":
            joined.add(_unescaped(element.text or ""))
    return str(joined)


def _unescaped(text: str) -> str:
    """The text with the characters that XML can't hold, or that Excel would not have it hold."""
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), text)
