"""Owns Word documents: body, lists, tables, text boxes and notes in reading order."""

from collections.abc import Iterator
from typing import Any

from workers.documents import Block, Document
from workers.extract.docx_look import Looks
from workers.extract.docx_numbers import Label, Numbering
from workers.extract.docx_styles import Shape, Styles, is_on
from workers.extract.docx_text import Seen, seen
from workers.extract.grid import markdown
from workers.extract.headings import may_head, with_headings
from workers.extract.lists import joined_lists
from workers.extract.ooxml import Package
from workers.extract.xml_tree import attribute, mending, whole

_OPEN = frozenset({"sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag", "AlternateContent", "Choice"})
_MAX_SPAN, _CARRIED = 64, 500
_GONE = frozenset({"del", "moveFrom"})
_PARTS = ("styles", "numbering", "footnotes", "endnotes")


def extract_docx(body: bytes) -> Document:
    """The document's blocks; the title may be empty. Headers, footers, comments and deleted text are left out.

    Raises MalformedDocument, EncryptedDocument, TooLarge.
    """
    with mending():
        package = Package(body)
        return _Reader(package, package.main("word/document.xml")).read()


class _Reader:
    """Walks through the body and collects blocks."""

    def __init__(self, package: Package, main: str) -> None:
        related = [one for one in package.relations(main).values() if one.target in package.archive]
        parts = {one.kind: one.target for one in related}
        opened = {kind: package.xml(parts[kind]) for kind in _PARTS if kind in parts}
        self._package, self._root = package, package.xml(main)
        self._headers = [one.target for one in related if one.kind == "header"]
        self._numbering = Numbering(opened.get("numbering"))
        self._styles = Styles(opened.get("styles"), self._numbering.level_of)
        self._looks = Looks(self._styles, self._backdrops)
        self._hidden = 0
        self._notes = {kind: self._written_notes(opened.get(f"{kind}s"), kind) for kind in ("footnote", "endnote")}
        self._blocks: list[Block] = []
        self._bold: set[int] = set()
        """Places of the paragraphs that look like headings."""
        self._title = ""

    def read(self) -> Document:
        """The whole document."""
        for element in self._root.iterchildren("body"):
            self._walk(element)
        hidden = f"{self._hidden} words that the document hides from its readers were dropped."
        return Document(
            title=self._package.title() or self._title,
            blocks=tuple(joined_lists(with_headings(self._blocks, self._bold))),
            media_type="application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            language=self._styles.language,
            warnings=(hidden,) if self._hidden else (),
            **self._package.dates(),
        )

    def _backdrops(self) -> Iterator[Any]:
        yield self._root
        yield from map(self._package.xml, self._headers)

    def _written_notes(self, root: Any | None, kind: str) -> dict[str, str]:
        notes = root.iter(kind) if root is not None else ()
        return {
            attribute(note, "id"): " ".join(text for one in note.iter("p") if (text := self._seen(one).text))
            for note in notes
            if attribute(note, "type", "normal") == "normal"
        }

    def _walk(self, container: Any) -> None:
        for element in container:
            if element.tag == "p":
                self._paragraph(element)
            elif element.tag == "tbl":
                self._table(element)
            elif element.tag in _OPEN:
                self._walk(element)

    def _paragraph(self, element: Any) -> None:
        found = self._seen(element)
        shape = self._styles.shape(element)
        label = self._label(element, shape, found)
        if found.text and not shape.contents:
            self._blocks.append(self._block(found, shape, label))
        self._add_notes(found)
        for box in found.boxes:
            self._walk(box)

    def _seen(self, element: Any) -> Seen:
        found = seen(element, self._styles, self._looks)
        self._hidden += found.hidden
        return found

    def _label(self, element: Any, shape: Shape, found: Seen) -> Label | None:
        """The number or bullet of a paragraph in a list, which is counted: also an empty one's, as long as it is seen."""
        if shape.numbering is None or not (found.text or _is_empty_line(element, found)):
            return None
        return self._numbering.next(*shape.numbering)

    def _block(self, found: Seen, shape: Shape, label: Label | None) -> Block:
        flat = " ".join(found.text.split())
        if shape.level:
            self._title = self._title or (flat if shape.title else "")
            return Block("heading", label.before(flat) if label else flat, shape.level)
        if label:
            return label.block(found.text)
        if found.bold and may_head(found.text):
            self._bold.add(len(self._blocks))
        return Block("code" if shape.code else "paragraph", found.text)

    def _add_notes(self, found: Seen) -> None:
        for kind, number in found.notes:
            if note := self._notes[kind].get(number):
                self._blocks.append(Block("paragraph", f"[{number}] {note}"))

    # --- tables -------------------------------------------------------------------------------------------------------

    def _table(self, table: Any) -> None:
        rows = [list(_nearest(row, "tc")) for row in _nearest(table, "tr")]
        if max(map(len, rows), default=0) < 2:  # it only frames its text
            for cell in (cell for row in rows for cell in row):
                self._walk(cell)
            return
        written: list[list[str]] = []
        found: list[Seen] = []
        for row in rows:
            written.append(self._row(row, written[-1] if written else [], found))
        if text := markdown(written):
            self._blocks.append(Block("table", text))
        for one in found:
            self._add_notes(one)

    def _row(self, row: list[Any], above: list[str], found: list[Seen]) -> list[str]:
        cells: list[str] = []
        for cell in row:
            text = " ".join(filter(None, (self._line(one, found) for one in _paragraphs(cell))))
            merged = cell.find("tcPr/vMerge")
            if merged is not None and attribute(merged, "val") != "restart" and len(cells) < len(above):
                text = above[len(cells)][:_CARRIED]
            span = cell.find("tcPr/gridSpan")
            width = min(whole(attribute(span, "val"), 1), _MAX_SPAN) if span is not None else 1
            cells += [text, *[""] * (width - 1)]
        return cells

    def _line(self, paragraph: Any, found: list[Seen]) -> str:
        """The text of a cell's paragraph with its number; `found` gets what has notes."""
        one = self._seen(paragraph)
        if one.notes:
            found.append(one)
        label = self._label(paragraph, self._styles.shape(paragraph), one)
        return label.before(one.text) if label else one.text


def _is_empty_line(paragraph: Any, found: Seen) -> bool:
    """Whether a paragraph without text is a line of its own, and not one that was deleted or is hidden."""
    mark = paragraph.find("pPr/rPr")
    gone = mark is not None and (any(child.tag in _GONE for child in mark) or is_on(mark, "vanish"))
    return not (found.hidden or gone)


def _nearest(parent: Any, tag: str) -> list[Any]:
    """The parent's children of this tag, also those that stand in content controls and the like."""
    found, stack = [], list(reversed(parent))
    while stack:
        element = stack.pop()
        if element.tag == tag:
            found.append(element)
        elif element.tag in _OPEN:
            stack.extend(reversed(element))
    return found


def _paragraphs(cell: Any) -> list[Any]:
    """The cell's paragraphs, at any depth; those of its text boxes once, not in the form for older programs too."""
    found, stack = [], list(reversed(cell))
    while stack:
        element = stack.pop()
        if element.tag == "p":
            found.append(element)
        if element.tag != "Fallback":
            stack.extend(reversed(element))
    return found
