"""Writes a text's parts, and sheets, as OpenDocument files, by odfpy."""

import io
from collections.abc import Callable, Sequence
from typing import Any

from odf import dc, draw, opendocument, style, table, text
from odf.office import Annotation
from odf.style import Header, MasterPage, PageLayout

from tests.bench.office_sheets import Sheet, grid
from tests.bench.office_texts import Part


def odt_file(title: str, parts: Sequence[Part], header: str) -> bytes:
    """An OpenDocument text, by odfpy."""
    made = opendocument.OpenDocumentText()
    made.meta.addElement(dc.Title(text=title))
    made.automaticstyles.addElement(PageLayout(name="page"))
    master = MasterPage(name="Standard", pagelayoutname="page")
    top = Header()
    top.addElement(text.P(text=header))
    master.addElement(top)
    made.masterstyles.addElement(master)
    unseen = style.Style(name="Unseen", family="text")
    unseen.addElement(style.TextProperties(display="none"))
    made.automaticstyles.addElement(unseen)
    numbered = text.ListStyle(name="numbers")
    numbered.addElement(text.ListLevelStyleNumber(level=1, numformat="1"))
    made.automaticstyles.addElement(numbered)
    for number, part in enumerate(parts):
        made.text.addElement(_odt_part(part, number))
    return _saved(made.save)


def _odt_part(part: Part, number: int) -> Any:
    if part.kind == "heading":
        return text.H(outlinelevel=int(part.more), text=part.text)
    if part.kind == "list":
        return _odt_list(part)
    if part.kind == "table":
        return odf_table(f"Table {number}", part.rows)
    return _odt_paragraph(part, number)


def _odt_list(part: Part) -> Any:
    """Items in lists in items, as deep as they are."""
    root = text.List(stylename="numbers") if part.more == "numbers" else text.List()
    lists: list[Any] = [root]
    entries: list[Any] = [None]
    for depth, item in part.items:
        del lists[depth + 1 :], entries[depth + 1 :]
        if len(lists) <= depth:
            lists.append(text.List())
            entries[depth - 1].addElement(lists[depth])
            entries.append(None)
        entries[depth] = text.ListItem()
        entries[depth].addElement(text.P(text=item))
        lists[depth].addElement(entries[depth])
    return root


def _odt_paragraph(part: Part, number: int) -> Any:
    made = text.P()
    first, _, rest = part.text.partition(" ")
    made.addElement(text.Span(text=first))
    made.addText(f" {rest}" if rest else "")
    if part.kind == "break":
        made.addElement(text.LineBreak())
        made.addText(part.more)
    elif part.kind == "runs":
        made.addText(" have ")
        made.addElement(text.A(href="https://example.com/", text=part.more))
        made.addText(" at last")
    elif part.kind == "hidden":
        made.addElement(text.Span(stylename="Unseen", text=part.more))
    elif part.kind in {"note", "box", "comment", "deleted"}:
        made.addElement(_ODT_HANGING[part.kind](part.more, number))
    return made


def _odt_note(words: str, number: int) -> Any:
    note, body = text.Note(noteclass="footnote", id=f"n{number}"), text.NoteBody()
    body.addElement(text.P(text=words))
    note.addElement(text.NoteCitation(text=str(number)))
    note.addElement(body)
    return note


def _odt_box(words: str, number: int) -> Any:
    frame, box = draw.Frame(name=f"f{number}", anchortype="paragraph"), draw.TextBox()
    box.addElement(text.P(text=words))
    frame.addElement(box)
    return frame


def _odt_remark(words: str, number: int) -> Any:
    remark = Annotation(name=f"a{number}")
    remark.addElement(text.P(text=words))
    return remark


_ODT_HANGING = {"note": _odt_note, "box": _odt_box, "comment": _odt_remark, "deleted": _odt_remark}


def odf_table(name: str, rows: Sequence[Sequence[str]]) -> Any:
    """A table whose cells `<` and `^` are covered by those to the left and above."""
    made = table.Table(name=name)
    made.addElement(table.TableColumn(numbercolumnsrepeated=max(map(len, rows))))
    for y, row in enumerate(rows):
        written = table.TableRow()
        for x, cell in enumerate(row):
            if cell in {"<", "^"}:
                written.addElement(table.CoveredTableCell())
                continue
            below = y + 1 < len(rows) and rows[y + 1][x : x + 1] in (["^"], ("^",))
            spans = {"numberrowsspanned": 2} if below else {}
            if row[x + 1 : x + 2] in (["<"], ("<",)):
                spans["numbercolumnsspanned"] = 2
            one = table.TableCell(valuetype="string", **spans)
            one.addElement(text.P(text=cell))
            written.addElement(one)
        made.addElement(written)
    return made


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def ods_file(title: str, made: Sequence[Sheet]) -> bytes:
    """An OpenDocument spreadsheet."""
    book = opendocument.OpenDocumentSpreadsheet()
    book.meta.addElement(dc.Title(text=title))
    unseen = style.Style(name="Unseen", family="table")
    unseen.addElement(style.TableProperties(display="false"))
    book.automaticstyles.addElement(unseen)
    for sheet in made:
        written = odf_table(sheet.name, grid(sheet))
        if sheet.hidden:
            written.setAttribute("stylename", "Unseen")
        book.spreadsheet.addElement(written)
    return _saved(book.save)
