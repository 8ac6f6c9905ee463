"""Owns OpenDocument files: texts, spreadsheets and presentations share one markup."""

from collections.abc import Iterator
from typing import Any

from chat_api.core.errors import EncryptedDocument
from workers.documents import Block, Document
from workers.extract.archive import Archive
from workers.extract.dates import dates_of
from workers.extract.grid import MAX_COLUMNS, Records, carried, markdown, too_wide
from workers.extract.lists import joined_lists
from workers.extract.odf_lists import Numbering
from workers.extract.odf_text import drop_unseen, frames, notes, paragraphs, text_of
from workers.extract.xml_tree import attribute, language_tag, mending, parse_xml, whole

_UNREAD = frozenset(
    {
        *("alphabetical-index", "annotation", "desc", "forms", "illustration-index", "index-title", "notes", "title"),
        *("object-index", "sequence-decls", "settings", "table-index", "table-of-content", "tracked-changes"),
        *("user-index",),
    }
)
_ROW_GROUPS = frozenset({"table-header-rows", "table-rows", "table-row-group"})
_COLUMN_GROUPS = frozenset({"table-header-columns", "table-columns", "table-column-group"})
_MAX_REPEAT = 200


def extract_odf(body: bytes, media_type: str) -> Document:
    """The document's blocks; pages are slides. The title may be empty. Deleted text, comments and what is hidden
    are left out.

    Raises MalformedDocument, EncryptedDocument, TooLarge.
    """
    with mending():
        archive = Archive(body)
        manifest = "META-INF/manifest.xml"
        if manifest in archive and b"encryption-data" in archive.read(manifest):
            raise EncryptedDocument
        meta = parse_xml(archive.read("meta.xml")) if "meta.xml" in archive else None
        named = parse_xml(archive.read("styles.xml")) if "styles.xml" in archive else None
        reader = _Reader(parse_xml(archive.read("content.xml")), named)
        blocks = tuple(joined_lists(reader.blocks()))
        return Document(
            title=" ".join((meta.findtext(".//title") or "").split()) if meta is not None else "",
            blocks=blocks,
            media_type=media_type,
            language=language_tag(meta.findtext(".//language") or "") if meta is not None else None,
            pages=reader.pages,
            warnings=tuple(reader.warnings()),
            **dates_of(_texts(meta, "creation-date"), _texts(meta, "date")),
        )


def _texts(meta: Any | None, name: str) -> list[str | None]:
    return [] if meta is None else [one.text for one in meta.iter(name)]


class _Reader:
    """Walks through the content and gives blocks."""

    def __init__(self, content: Any, named: Any | None) -> None:
        self.pages: int | None = None
        self._hidden: list[str] = []
        self._concealing: dict[str, None] = {}
        """Names of the sheets with text in hidden rows or columns."""
        self._content = content
        self._dropped = drop_unseen(content, named)
        self._records = Records()
        self._numbering = Numbering(content, named)
        self._unseen = {
            attribute(style, "name")
            for style in content.iter("style")
            for properties in style
            if attribute(properties, "visibility") == "hidden" or attribute(properties, "display") in {"none", "false"}
        }

    def blocks(self) -> Iterator[Block]:
        """The blocks of the text, the sheets or the slides."""
        for body in self._content.iterchildren("body"):
            for kind in body:
                if kind.tag == "spreadsheet":
                    yield from self._sheets(kind)
                elif kind.tag == "presentation":
                    yield from self._slides(kind)
                else:
                    yield from self._walk(kind, None)

    def warnings(self) -> Iterator[str]:
        """What was left out, once all blocks are read."""
        if self._hidden:
            yield f"Hidden pages were left out: {', '.join(self._hidden)}."
        if self._concealing:
            yield f"Hidden rows and columns were left out of: {', '.join(self._concealing)}."
        if self._dropped:
            yield f"{self._dropped} words that the document hides from its readers were dropped."

    def _sheets(self, spreadsheet: Any) -> Iterator[Block]:
        for table in spreadsheet.iterchildren("table"):
            name = attribute(table, "name") or "Sheet"
            if attribute(table, "style-name") in self._unseen:
                self._hidden.append(name)
                continue
            rows = list(self._records.blocks(self._sheet_rows(table, name)))
            if rows:
                yield Block("heading", name, 1)
                yield from rows

    def _sheet_rows(self, table: Any, name: str) -> Iterator[list[str]]:
        columns = _collapsed_columns(table)
        for row, cells in _written(table):
            hidden = _collapsed(row)
            shown = [] if hidden else [cell for place, cell in enumerate(cells) if place not in columns]
            if sum(map(bool, shown)) < sum(map(bool, cells)):
                self._concealing[name] = None
            if not hidden:
                for _ in range(_repeat(row, "number-rows-repeated") if any(shown) else 1):
                    yield shown

    def _slides(self, presentation: Any) -> Iterator[Block]:
        self.pages = 0
        for slide in presentation.iterchildren("page"):
            self.pages += 1
            if attribute(slide, "style-name") in self._unseen:
                self._hidden.append(str(self.pages))
            else:
                yield from self._slide(slide, self.pages)

    def _slide(self, slide: Any, page: int) -> Iterator[Block]:
        for frame in slide:
            if attribute(frame, "class") == "title":
                if text := " ".join(" ".join(text_of(one) for one in frame.iter("p")).split()):
                    yield Block("heading", text, 1, page)
            elif frame.tag not in _UNREAD:
                yield from self._walk(frame, page)
        for remarks in slide.iterchildren("notes"):
            if text := "\n".join(text_of(one) for one in remarks.iter("p")).strip():
                yield Block("paragraph", f"Notes: {text}", page=page)

    def _walk(self, container: Any, page: int | None) -> Iterator[Block]:
        for element in container:
            tag = element.tag
            if tag in {"h", "p"}:
                yield from self._paragraph(element, page)
            elif tag == "list":
                yield from self._list(element, page)
            elif tag == "table":
                yield from self._table(element, page)
            elif tag not in _UNREAD and not (tag == "section" and attribute(element, "display") == "none"):
                yield from self._walk(element, page)

    def _paragraph(self, element: Any, page: int | None) -> Iterator[Block]:
        if text := text_of(element).strip():
            if element.tag == "h":
                level = min(max(whole(attribute(element, "outline-level"), 1), 1), 6)
                yield Block("heading", " ".join(text.split()), level, page)
            else:
                yield Block("paragraph", text, page=page)
        yield from _notes(element, page)
        for frame in frames(element):
            yield from self._walk(frame, page)

    def _list(self, element: Any, page: int | None) -> Iterator[Block]:
        if next(element.iter("h"), None) is not None or next(element.iter("table"), None) is not None:
            for item in element:
                yield from self._walk(item, page)
            return
        for line in self._numbering.lines(element):
            yield Block("list", line, page=page)
        yield from _notes(element, page)
        for frame in frames(element):
            yield from self._walk(frame, page)

    def _table(self, table: Any, page: int | None) -> Iterator[Block]:
        rows = [cells for _, cells in _written(table)]
        if max(map(len, rows), default=0) < 2:
            for row in _rows(table):
                yield from self._walk(row, page)
        elif text := markdown(rows):
            yield Block("table", text, page=page)
            yield from _notes(table, page)


def _notes(element: Any, page: int | None) -> Iterator[Block]:
    for mark, text in notes(element):
        yield Block("paragraph", f"[{mark}] {text}", page=page)


def _rows(table: Any) -> Iterator[Any]:
    """The table's own rows, those of its groups too."""
    return _inside(table, "table-row", _ROW_GROUPS)


def _inside(table: Any, tag: str, groups: frozenset[str]) -> Iterator[Any]:
    stack = list(reversed(table))
    while stack:
        element = stack.pop()
        if element.tag == tag:
            yield element
        elif element.tag in groups:
            stack.extend(reversed(element))


def _collapsed(element: Any) -> bool:
    return attribute(element, "visibility") in {"collapse", "filter"}


def _collapsed_columns(table: Any) -> set[int]:
    """Places of the table's hidden columns."""
    found: set[int] = set()
    place = 0
    for column in _inside(table, "table-column", _COLUMN_GROUPS):
        times = max(0, min(whole(attribute(column, "number-columns-repeated"), 1), MAX_COLUMNS - place))
        found.update(range(place, place + times) if _collapsed(column) else ())
        place += times
    return found


def _written(table: Any) -> Iterator[tuple[Any, list[str]]]:
    """The rows, and their cells up to the last that has text."""
    rows = list(_rows(table))
    for row, cells in zip(rows, carried(map(_row, rows)), strict=True):
        while cells and not cells[-1]:
            cells.pop()
        yield row, cells


def _row(row: Any) -> list[str | None]:
    """The cells' texts; None for one that is covered from above."""
    cells: list[str | None] = []
    beside = 0
    for cell in row.iterchildren("table-cell", "covered-table-cell"):
        text = " ".join(text_of(one) for one in paragraphs(cell)).strip()
        wanted = max(0, whole(attribute(cell, "number-columns-repeated"), 1))
        times = min(wanted, MAX_COLUMNS - len(cells))
        if text and times < wanted:
            raise too_wide()
        if cell.tag == "table-cell" or text:
            cells += [text] * times
            beside = whole(attribute(cell, "number-columns-spanned"), 1) - 1
        else:
            cells += [""] * min(times, max(0, beside)) + [None] * (times - max(0, beside))
            beside -= times
    return cells


def _repeat(element: Any, name: str) -> int:
    return max(1, min(whole(attribute(element, name), 1), _MAX_REPEAT))
