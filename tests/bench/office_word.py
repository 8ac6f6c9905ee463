"""Writes a text's parts as a Word document."""

import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import docx
from docx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part as DocxPart
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from tests.bench.office_texts import Part

_BOX = (
    "<w:r {names}><mc:AlternateContent xmlns:mc='http://schemas.openxmlformats.org/markup-compatibility/2006'>"
    "<mc:Choice Requires='wps'><w:drawing><wps:wsp xmlns:wps='urn:wps'><wps:txbx>{box}</wps:txbx></wps:wsp></w:drawing>"
    "</mc:Choice><mc:Fallback><w:pict>{box}</w:pict></mc:Fallback></mc:AlternateContent></w:r>"
)
_NAMES = nsdecls("w", "r")


def docx_file(title: str, parts: Sequence[Part], header: str) -> bytes:
    """A Word document, by python-docx; notes, boxes and tracked changes as Word's own markup."""
    made = docx.Document()
    made.core_properties.title = title
    made.sections[0].header.paragraphs[0].text = header
    notes: list[str] = []
    for part in parts:
        if part.kind == "heading":
            made.add_heading(part.text, int(part.more))
        elif part.kind == "list":
            _docx_list(made, part)
        elif part.kind == "table":
            _docx_table(made, part)
        else:
            _docx_paragraph(made, part, notes)
    if notes:
        _docx_notes(made, notes)
    return _saved(made.save)


def _docx_list(made: Any, part: Part) -> None:
    name = "List Bullet" if part.more == "list" else "List Number"
    for depth, item in part.items:
        made.add_paragraph(item, style=f"{name} {depth + 1}" if depth else name)


def _docx_table(made: Any, part: Part) -> None:
    grid = made.add_table(len(part.rows), len(part.rows[0]))
    for y, row in enumerate(part.rows):
        for x, cell in enumerate(row):
            if cell == "^":
                grid.cell(y - 1, x).merge(grid.cell(y, x))
            elif cell == "<":
                grid.cell(y, x - 1).merge(grid.cell(y, x))
            else:
                grid.cell(y, x).text = cell


def _docx_paragraph(made: Any, part: Part, notes: list[str]) -> None:
    paragraph = made.add_paragraph()
    first, _, rest = part.text.partition(" ")
    paragraph.add_run(first).bold = True
    paragraph.add_run(f" {rest}" if rest else "")
    if part.kind == "break":
        paragraph.add_run().add_break()
        paragraph.add_run(part.more)
    elif part.kind == "hidden":
        paragraph.add_run(part.more).font.hidden = True
    elif part.kind == "comment":
        made.add_comment(paragraph.runs, part.more, author="A")
    elif part.kind == "note":
        notes.append(part.more)
        _docx_add(paragraph, f'<w:r {_NAMES}><w:footnoteReference w:id="{len(notes)}"/></w:r>')
    elif part.kind in {"runs", "deleted", "box"}:
        _docx_add(paragraph, _docx_markup(part))
        paragraph.add_run(" at last" if part.kind == "runs" else "")


def _docx_markup(part: Part) -> str:
    words = escape(part.more)
    if part.kind == "deleted":
        return f'<w:del {_NAMES} w:id="1" w:author="A"><w:r><w:delText>{words}</w:delText></w:r></w:del>'
    if part.kind == "box":
        return _BOX.format(names=_NAMES, box=f"<w:txbxContent><w:p><w:r><w:t>{words}</w:t></w:r></w:p></w:txbxContent>")
    return f'<w:hyperlink {_NAMES} w:anchor="x"><w:r><w:t xml:space="preserve"> have {words}</w:t></w:r></w:hyperlink>'


def _docx_add(paragraph: Any, markup: str) -> None:
    paragraph._p.append(parse_xml(markup))


def _docx_notes(made: Any, notes: Sequence[str]) -> None:
    written = "".join(
        f'<w:footnote w:id="{number}"><w:p><w:r><w:footnoteRef/><w:t>{escape(note)}</w:t></w:r></w:p></w:footnote>'
        for number, note in enumerate(notes, 1)
    )
    body = f'<w:footnotes {_NAMES}><w:footnote w:id="0" w:type="separator"><w:p/></w:footnote>{written}</w:footnotes>'
    part = DocxPart(PackURI("/word/footnotes.xml"), CONTENT_TYPE.WML_FOOTNOTES, body.encode(), made.part.package)
    made.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()
