"""OpenDocument, RTF, EPUB, PowerPoint, JSON and XML: what their makers in the tests do not write."""

import io

import pptx
import pytest
from odf import draw, opendocument, style, text
from pptx.util import Inches

from chat_api.core.errors import EncryptedDocument, MalformedDocument
from tests.workers.extract.files import all_text, headings, read, texts
from tests.workers.extract.office import content, make_epub, make_odt, make_pptx, repacked
from workers.documents import Document


def rtf(body: str, head: str = "") -> Document:
    """The RTF document with this body."""
    return read(
        rf"{{\rtf1\ansi\ansicpg1252\deff0{{\fonttbl{{\f0 Arial;}}{{\f1\fcharset204 A;}}}}{head} {body}}}".encode()
    )


# --- RTF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (r"Caf\'e9", "Café"),
        (r"\f1 \'cf\'f0\'e8\f0  \'e9", "При é"),
        (r"5 \u8364?uro", "5 €uro"),
        (r"x \u-10179?\u-8704?", "x 😀"),
        (r"\uc2\u8364\'a4xuro", "€uro"),
        (r"a\~b\_c \{x\}\\", "a\xa0b-c {x}\\"),
        (r"one{\*\unknown secret}{\pict 00ff}{\header top} two", "one two"),
        (r"{\field{\*\fldinst HYPERLINK x}{\fldrslt shown}}", "shown"),
        (r"a\bin4 {}{}b", "ab"),
        (r"\ldblquote x\rdblquote\emdash y", "“x”—y"),
    ],
)
def test_rtf_characters(written: str, seen: str) -> None:
    assert texts(rtf(written)) == [seen]


def test_rtf_hidden_text_is_dropped_and_reported() -> None:
    document = rtf(r"shown {\v two words}\par")
    assert texts(document) == ["shown"]
    assert document.warnings == ("2 words that the document hides from its readers were dropped.",)


def test_rtf_lists_footnotes_and_levels() -> None:
    body = (
        r"\pard\outlinelevel1 Head\par\pard{\listtext 1.\tab}\ls1 one\par{\listtext\'b7\tab}\ls1\ilvl1 two\par"
        r"\pard price{\footnote without tax\par} here\par"
    )
    assert [(block.kind, block.text) for block in rtf(body).blocks] == [
        *(("heading", "Head"), ("list", "1. one\n  - two"), ("paragraph", "price here"), ("paragraph", "without tax")),
    ]


def test_rtf_bold_lines_are_headings_where_there_are_no_others() -> None:
    assert headings(rtf(r"{\b Opening hours}\par Nine to {\b five}\par")) == [(2, "Opening hours")]


def test_cut_rtf_gives_what_is_left_with_a_warning() -> None:
    document = read(rb"{\rtf1\ansi {\b some text")
    assert texts(document) == ["some text"]
    assert document.warnings == ("The file is damaged or incomplete; what could be read was taken.",)


def test_deep_rtf_is_damage() -> None:
    with pytest.raises(MalformedDocument):
        rtf("{" * 600 + "x")


# --- OpenDocument -----------------------------------------------------------------------------------------------------


def odt(*elements: object) -> Document:
    """An OpenDocument text of these elements."""
    made = opendocument.OpenDocumentText()
    for element in elements:
        made.text.addElement(element)
    buffer = io.BytesIO()
    made.save(buffer)
    return read(buffer.getvalue())


def test_odt_notes_spaces_and_nested_lists() -> None:
    noted = text.P(text="Price")
    note = text.Note(noteclass="footnote")
    note.addElement(text.NoteCitation(text="1"))
    body = text.NoteBody()
    body.addElement(text.P(text="Without tax."))
    note.addElement(body)
    noted.addElement(note)
    noted.addElement(text.S(c=2))
    noted.addText("here")
    outer, inner = text.List(), text.List()
    for parent, name in ((outer, "a"), (inner, "b")):
        item = text.ListItem()
        item.addElement(text.P(text=name))
        if parent is outer:
            item.addElement(inner)
        parent.addElement(item)
    assert texts(odt(noted, outer)) == ["Price [1]  here", "[1] Without tax.", "- a\n  - b"]


def test_odt_text_boxes_come_after_their_paragraph() -> None:
    paragraph, frame, box = text.P(text="beside"), draw.Frame(), draw.TextBox()
    box.addElement(text.P(text="in the box"))
    frame.addElement(box)
    paragraph.addElement(frame)
    assert texts(odt(paragraph)) == ["beside", "in the box"]


def test_odf_password() -> None:
    manifest = '<manifest xmlns="m"><file-entry><encryption-data/></file-entry></manifest>'
    with pytest.raises(EncryptedDocument):
        read(repacked(make_odt(content(1)), {"META-INF/manifest.xml": manifest}))


def test_odp_slides_are_pages() -> None:
    made = opendocument.OpenDocumentPresentation()
    layout = style.PageLayout(name="L")
    made.automaticstyles.addElement(layout)
    master = style.MasterPage(name="M", pagelayoutname=layout)
    made.masterstyles.addElement(master)
    for number in (1, 2):
        page = draw.Page(masterpagename=master)
        for kind, words in (("title", f"Slide {number}"), ("outline", f"words {number}")):
            frame, box = draw.Frame(attributes={"class": kind}), draw.TextBox()
            box.addElement(text.P(text=words))
            frame.addElement(box)
            page.addElement(frame)
        made.presentation.addElement(page)
    buffer = io.BytesIO()
    made.save(buffer)
    document = read(buffer.getvalue())
    found = [(block.kind, block.text, block.page) for block in document.blocks]
    assert found == [
        *(
            ("heading", "Slide 1", 1),
            ("paragraph", "words 1", 1),
            ("heading", "Slide 2", 2),
            ("paragraph", "words 2", 2),
        ),
    ]
    assert document.pages == 2


# --- PowerPoint -------------------------------------------------------------------------------------------------------


def test_hidden_slides_are_left_out_and_reported_and_groups_are_read() -> None:
    made = pptx.Presentation(io.BytesIO(make_pptx(content(1))))
    made.slides[0]._element.set("show", "0")
    group = made.slides[1].shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "in the group"
    buffer = io.BytesIO()
    made.save(buffer)
    document = read(buffer.getvalue())
    assert document.warnings == ("Hidden slides were left out: 1.",)
    assert [block.page for block in document.blocks if block.kind == "heading"] == [2, 3]
    assert "in the group" in texts(document, "paragraph")


def test_hidden_shapes_are_left_out_and_reported() -> None:
    made = pptx.Presentation(io.BytesIO(make_pptx(content(1))))
    shapes = made.slides[1].shapes
    group = shapes.add_group_shape()
    group._element.nvGrpSpPr.cNvPr.set("hidden", "1")
    for container, words, hidden in (
        (shapes, "our cost", "1"),
        (group.shapes, "in group", "1"),
        (shapes, "price", "0"),
    ):
        box = container.add_textbox(0, 0, Inches(1), Inches(1))
        box.text_frame.text = words
        box._element.nvSpPr.cNvPr.set("hidden", hidden)
    buffer = io.BytesIO()
    made.save(buffer)
    document = read(buffer.getvalue())
    found = all_text(document)
    assert "price" in texts(document, "paragraph")
    assert not any(words in found for words in ("our cost", "in group"))
    assert document.warnings == ("4 words that the presentation hides from its readers were dropped.",)


# --- EPUB -------------------------------------------------------------------------------------------------------------


def test_epub_leaves_navigation_and_hidden_text_out() -> None:
    opf = (
        '<package><metadata><title>Book</title></metadata><manifest><item id="n" href="nav.xhtml" properties="nav"'
        ' media-type="application/xhtml+xml"/><item id="c" href="my%20c.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="m" href="gone.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="n"/><itemref idref="c"/><itemref idref="m"/></spine></package>'
    )
    chapter = '<html><body><h2>One</h2><p>Text<span style="display:none"> secret</span></p></body></html>'
    changes = {"OPS/book.opf": opf, "OPS/nav.xhtml": "<p>contents</p>", "OPS/my c.xhtml": chapter}
    document = read(repacked(make_epub(content(1)), changes))
    assert [(block.kind, block.text) for block in document.blocks] == [("heading", "One"), ("paragraph", "Text")]
    assert document.warnings == (
        "1 words that the book hides from its readers were dropped.",
        "1 chapters are missing in the file.",
    )


def _book(chapter: bytes) -> Document:
    opf = (
        '<package><metadata><title>Book</title></metadata><manifest><item id="c" href="c.xhtml"'
        ' media-type="application/xhtml+xml"/></manifest><spine><itemref idref="c"/></spine></package>'
    )
    return read(repacked(make_epub(content(1)), {"OPS/book.opf": opf, "OPS/c.xhtml": chapter}))


@pytest.mark.parametrize(
    "head", ["<?xml version='1.0' encoding='iso-8859-2'?><html>", '<html><head><meta charset="iso-8859-2"/></head>']
)
def test_epub_chapters_are_in_the_encoding_that_they_declare(head: str) -> None:
    written = "Cena wynosi 5 zł."
    chapter = f"{head}<body><p>{written}</p></body></html>".encode("iso-8859-2")
    assert texts(_book(chapter)) == [written]


def test_protected_books_say_so() -> None:
    with pytest.raises(EncryptedDocument, match="copying"):
        read(repacked(make_epub(content(1)), {"META-INF/rights.xml": "<rights/>"}))


# --- JSON and XML -----------------------------------------------------------------------------------------------------


def test_json_objects_are_records() -> None:
    body = '{"shop": "Bean", "open": true, "items": [{"name": "A", "tags": ["x", "y"]}, {"name": "B", "at": {"town": "Ulm"}}]}'
    assert all_text(read(body)).splitlines() == [
        *("- shop: Bean; open: yes", "- items: name: A; tags: x, y", "- items: name: B", "- items at: town: Ulm"),
    ]


def test_xml_elements_are_records() -> None:
    body = (
        '<?xml version="1.0"?><shop xmlns="u"><item id="7"><name>A</name>sold <b>out</b></item><note>Hi</note></shop>'
    )
    assert all_text(read(body)).splitlines() == ["- note: Hi", "- item: id: 7; name: A; b: out; text: sold"]


@pytest.mark.parametrize("name", ["file:///etc/passwd", "http://127.0.0.1:9/x"])
def test_xml_entities_are_refused(name: str) -> None:
    with pytest.raises(MalformedDocument, match="DOCTYPE"):
        read(f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "{name}">]><d>&x;</d>')
