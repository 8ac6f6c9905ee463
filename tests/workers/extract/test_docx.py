"""Word documents: what python-docx does not write."""

import io

import docx
import pytest

from chat_api.core.errors import EncryptedDocument, MalformedDocument, UnsupportedType
from tests.workers.extract.broken import W
from tests.workers.extract.files import headings, read, texts
from tests.workers.extract.office import content, make_docx, repacked
from workers.documents import Document

_BASE = make_docx(content(1))


def body(markup: str, **parts: str) -> Document:
    """The document with this body and these other parts of its folder, without anything else."""
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    related = "".join(f'<Relationship Id="{name}" Type="{kind}/{name}" Target="{name}.xml"/>' for name in parts)
    changes = {f"word/{name}.xml": part for name, part in parts.items()}
    if parts:
        changes["word/_rels/document.xml.rels"] = f"<Relationships>{related}</Relationships>"
    changes["word/document.xml"] = f"<w:document {W}><w:body>{markup}</w:body></w:document>"
    return read(repacked(_BASE, changes))


def para(text: str, properties: str = "", run: str = "") -> str:
    """A paragraph of one run."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:rPr>{run}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


def test_deleted_and_hidden_text_is_dropped_and_reported() -> None:
    deleted = "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>new</w:t></w:r></w:ins></w:p>"
    document = body(
        deleted + para("three hidden words", run="<w:vanish/>") + para("shown", run='<w:vanish w:val="0"/>')
    )
    assert texts(document) == ["new", "shown"]
    assert document.warnings == ("3 words that the document hides from its readers were dropped.",)


def test_text_that_a_paragraph_style_hides_is_dropped_and_reported() -> None:
    style = f'<w:styles {W}><w:style w:styleId="In"><w:name w:val="In"/><w:rPr><w:vanish/></w:rPr></w:style></w:styles>'
    named = '<w:pStyle w:val="In"/>'
    plain = f"<w:p><w:pPr>{named}</w:pPr><w:r><w:t>cost</w:t></w:r></w:p>"
    shown = para("shown", named, '<w:vanish w:val="0"/>')
    document = body(plain + para("our margin", named, "<w:b/>") + shown + para("price"), styles=style)
    assert texts(document) == ["shown", "price"]
    assert document.warnings == ("3 words that the document hides from its readers were dropped.",)


def test_headings_by_outline_level_and_by_inherited_style() -> None:
    made = docx.Document()
    made.styles.add_style("Chapter", 1).base_style = made.styles["Heading 2"]
    made.add_paragraph("By style", style="Chapter")
    buffer = io.BytesIO()
    made.save(buffer)
    assert headings(read(buffer.getvalue())) == [(2, "By style")]
    assert headings(body(para("By level", '<w:outlineLvl w:val="3"/>') + para("text"))) == [(4, "By level")]


def test_bold_lines_are_headings_only_where_there_are_no_others() -> None:
    bold = para("Opening hours", run="<w:b/>")
    assert headings(body(bold + para("Nine to five."))) == [(2, "Opening hours")]
    assert headings(body(bold + para("Nine to five.") + para("Real", '<w:outlineLvl w:val="0"/>'))) == [(1, "Real")]


def test_numbered_lists_count_by_level() -> None:
    numbering = (
        f'<w:numbering {W}><w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="0"><w:start w:val="3"/>'
        '<w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl><w:lvl w:ilvl="1"><w:numFmt w:val="lowerLetter"/>'
        '<w:lvlText w:val="%2."/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num></w:numbering>'
    )
    levels = (0, 1, 1, 0, 1)
    items = "".join(
        para(f"i{n}", f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="1"/></w:numPr>')
        for n, level in enumerate(levels)
    )
    assert texts(body(items, numbering=numbering)) == ["3. i0\n  - a. i1\n  - b. i2\n4. i3\n  - a. i4"]


def test_merged_cells_say_their_value_in_each_row() -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{para(text)}</w:tc>"

    rows = (
        cell("A") + cell("B") + cell("C"),
        cell("all", '<w:vMerge w:val="restart"/>') + cell("wide", '<w:gridSpan w:val="2"/>'),
        cell("", "<w:vMerge/>") + cell("x") + cell("y"),
    )
    table = "".join(f"<w:tr>{row}</w:tr>" for row in rows)
    assert texts(body(f"<w:tbl>{table}</w:tbl>")) == [
        "| A | B | C |\n| --- | --- | --- |\n| all | wide |  |\n| all | x | y |"
    ]


def test_a_table_of_one_column_only_frames_its_text() -> None:
    title = para("Title", '<w:outlineLvl w:val="0"/>')
    table = f"<w:tbl><w:tr><w:tc>{title}{para('text')}</w:tc></w:tr></w:tbl>"
    assert [(block.kind, block.text) for block in body(table).blocks] == [("heading", "Title"), ("paragraph", "text")]


def _drawn(text: str) -> str:
    """A text box as Word writes it: once for itself, once for older programs."""
    box = f"<w:txbxContent>{para(text)}</w:txbxContent>"
    return (
        '<mc:AlternateContent xmlns:mc="urn:mc"><mc:Choice>'
        f"<w:drawing>{box}</w:drawing></mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    )


def test_text_boxes_come_once_and_after_their_paragraph() -> None:
    drawn = _drawn("in the box")
    assert texts(body(f"<w:p><w:r><w:t>beside</w:t>{drawn}</w:r></w:p>")) == ["beside", "in the box"]


def test_text_boxes_in_table_cells_come_once() -> None:
    cells = f"<w:tc>{para('A')}</w:tc><w:tc><w:p><w:r><w:t>beside</w:t>{_drawn('in the box')}</w:r></w:p></w:tc>"
    assert texts(body(f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>")) == ["| A | beside in the box |\n| --- | --- |"]


def test_footnotes_follow_the_paragraph_that_they_explain() -> None:
    note = f'<w:footnotes {W}><w:footnote w:id="2">{para("Without tax.")}</w:footnote></w:footnotes>'
    price = '<w:p><w:r><w:t>Price</w:t><w:footnoteReference w:id="2"/></w:r></w:p>'
    document = body(price + para("Next"), footnotes=note)
    assert texts(document) == ["Price [2]", "[2] Without tax.", "Next"]


def test_contents_are_left_out() -> None:
    style = f'<w:styles {W}><w:style w:styleId="T1"><w:name w:val="toc 1"/></w:style></w:styles>'
    document = body(para("Brewing 4", '<w:pStyle w:val="T1"/>') + para("text"), styles=style)
    assert texts(document) == ["text"]


def test_doctype_is_refused() -> None:
    with pytest.raises(MalformedDocument, match="DOCTYPE"):
        read(repacked(_BASE, {"word/document.xml": f"<!DOCTYPE d []><w:document {W}/>"}))


def test_external_targets_are_no_parts() -> None:
    relations = (
        '<Relationships><Relationship Id="x" TargetMode="External" Target="http://127.0.0.1:9/styles.xml" Type="a/styles"/>'
        '<Relationship Id="y" Target="../../../etc/passwd" Type="a/numbering"/></Relationships>'
    )
    document = read(repacked(_BASE, {"word/_rels/document.xml.rels": relations}))
    assert "Paragraph 1-1 says naïve, twice over." in texts(document)


def test_password_and_old_formats_have_their_own_word() -> None:
    old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
    with pytest.raises(EncryptedDocument):
        read(old + "EncryptedPackage".encode("utf-16-le"), filename="x.docx")
    with pytest.raises(UnsupportedType, match=r"Save it as \.docx"):
        read(old, filename="x.doc")


def test_a_cut_file_is_damaged_and_not_unknown() -> None:
    with pytest.raises(MalformedDocument):
        read(_BASE[: len(_BASE) // 2], filename="x.docx")
