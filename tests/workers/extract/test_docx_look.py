"""Word text that no reader sees is dropped and reported: hidden by a style, white on white, or too small to read."""

import pytest

from tests.workers.extract.broken import W
from tests.workers.extract.files import read, texts
from tests.workers.extract.office import content, make_docx, repacked
from tests.workers.extract.test_docx import body, para
from workers.documents import Document

_WHITE = '<w:color w:val="FFFFFF"/>'
_DARK = '<w:shd w:val="clear" w:color="auto" w:fill="1F3864"/>'


def styles(*written: str) -> str:
    """The styles part."""
    return f"<w:styles {W}>{''.join(written)}</w:styles>"


def style(name: str, run: str, based_on: str = "", more: str = "") -> str:
    """A style of paragraphs or characters, and what it says of runs."""
    return (
        f'<w:style w:styleId="{name}"{more}><w:name w:val="{name}"/><w:basedOn w:val="{based_on}"/>'
        f"<w:rPr>{run}</w:rPr></w:style>"
    )


def is_dropped(document: Document) -> bool:
    """Whether the two words were dropped, and that was reported."""
    dropped = "our margin" not in "\n".join(texts(document))
    assert document.warnings == (("2 words that the document hides from its readers were dropped.",) if dropped else ())
    return dropped


def test_styles_hide_what_is_based_on_them_unless_it_says_otherwise() -> None:
    part = styles(
        style("Internal", "<w:vanish/>"),
        style("Note", "<w:b/>", "Internal"),
        style("Shown", '<w:vanish w:val="0"/>', "Note"),
        style("Mark", "", "Note", ' w:type="character"'),
        style("Loop", "", "Pool"),
        style("Pool", "", "Loop"),
    )
    written = "".join(
        para(f"{name} text", f'<w:pStyle w:val="{name}"/>') for name in ("Internal", "Note", "Shown", "Loop")
    )
    marked = para("our cost", run='<w:rStyle w:val="Mark"/>')
    document = body(written + marked, styles=part)
    assert texts(document) == ["Shown text", "Loop text"]
    assert document.warnings == ("6 words that the document hides from its readers were dropped.",)


@pytest.mark.parametrize(
    ("run", "dropped"),
    [
        (_WHITE, True),
        ('<w:color w:val="fefefe" w:themeColor="background1"/>', True),
        ('<w:color w:val="F2F2F2"/>', False),
        ('<w:color w:val="auto"/>', False),
        (f'{_WHITE}<w:highlight w:val="darkBlue"/>', False),
        (f"{_WHITE}{_DARK}", False),
        (f'{_WHITE}<w:shd w:val="clear" w:fill="FFFFFF"/>', True),
        (f'{_WHITE}<w:shd w:val="pct50" w:fill="auto"/>', False),
        (f"{_WHITE}<w:outline/>", False),
        ('<w:sz w:val="2"/>', True),
        ('<w:sz w:val="1"/>', True),
        ('<w:sz w:val="3"/>', False),
        ('<w:sz w:val="2"/><w:rtl/>', False),
    ],
)
def test_white_and_tiny_runs_are_dropped_and_reported(run: str, dropped: bool) -> None:
    assert is_dropped(body(para("price") + para("our margin", run=run))) is dropped


def test_white_by_a_style_is_white_unless_the_run_says_otherwise() -> None:
    part = styles(style("Base", _WHITE), style("Ghost", "", "Base"))
    ghost = '<w:pStyle w:val="Ghost"/>'
    plain = f"<w:p><w:pPr>{ghost}</w:pPr><w:r><w:t>our margin</w:t></w:r></w:p>"
    assert is_dropped(body(para("black", ghost, '<w:color w:val="000000"/>') + plain, styles=part))


def test_the_style_of_all_paragraphs_may_be_tiny() -> None:
    part = styles(style("Normal", '<w:sz w:val="2"/>', more=' w:type="paragraph" w:default="1"'))
    assert is_dropped(body(para("price", run='<w:sz w:val="22"/>') + para("our margin"), styles=part))


def _table(properties: str = "", cell: str = "") -> str:
    inside = para("our margin", run=_WHITE)
    return f"<w:tbl><w:tblPr>{properties}</w:tblPr><w:tr><w:tc>{para('Tea')}</w:tc><w:tc><w:tcPr>{cell}</w:tcPr>{inside}</w:tc></w:tr></w:tbl>"


def _behind(kind: str) -> str:
    return f'<w:p><w:r><w:t>Cover</w:t><w:drawing><wp:anchor xmlns:wp="urn:wp" behindDoc="{kind}"/></w:drawing></w:r></w:p>'


@pytest.mark.parametrize(
    ("markup", "dropped"),
    [
        (_table(), True),
        (_table(cell=_DARK), False),
        (_table(_DARK), False),
        (_table('<w:tblStyle w:val="Grid"/>'), False),
        (_table('<w:tblStyle w:val="Plain"/>'), True),
        (para("our margin", _DARK, _WHITE), False),
        (para("our margin", '<w:pStyle w:val="Banner"/>', _WHITE), False),
        (_behind("1") + para("our margin", run=_WHITE), False),
        (_behind("0") + para("our margin", run=_WHITE), True),
        (f"<w:p><w:r><w:t>Box</w:t><w:txbxContent>{para('our margin', run=_WHITE)}</w:txbxContent></w:r></w:p>", False),
    ],
)
def test_white_text_on_what_may_be_dark_stays(markup: str, dropped: bool) -> None:
    first = f'<w:tblStylePr w:type="firstRow"><w:tcPr>{_DARK}</w:tcPr></w:tblStylePr>'
    grid = f'<w:style w:styleId="Grid" w:type="table">{first}</w:style><w:style w:styleId="Plain" w:type="table"/>'
    banner = f'<w:style w:styleId="Banner"><w:pPr>{_DARK}</w:pPr></w:style>'
    assert is_dropped(body(markup + para("price"), styles=styles(grid, banner))) is dropped


@pytest.mark.parametrize(("color", "dropped"), [("1F3864", False), ("FFFFFF", True)])
def test_white_text_on_a_coloured_page_stays(color: str, dropped: bool) -> None:
    written = f"<w:body>{para('price')}{para('our margin', run=_WHITE)}</w:body>"
    markup = f'<w:document {W}><w:background w:color="{color}"/>{written}</w:document>'
    assert is_dropped(read(repacked(make_docx(content(1)), {"word/document.xml": markup}))) is dropped


def test_white_text_over_a_picture_of_the_header_stays() -> None:
    shape = '<v:shape xmlns:v="urn:v" style="position:absolute;z-index:-2516"/>'
    header = f"<w:hdr {W}><w:p><w:r><w:pict>{shape}</w:pict></w:r></w:p></w:hdr>"
    assert not is_dropped(body(para("price") + para("our margin", run=_WHITE), header=header))


def test_hidden_words_of_notes_are_reported() -> None:
    hidden = para("our margin", run="<w:vanish/>")
    note = f'<w:footnotes {W}><w:footnote w:id="2">{para("Without tax.")}{hidden}</w:footnote></w:footnotes>'
    price = '<w:p><w:r><w:t>Price</w:t><w:footnoteReference w:id="2"/></w:r></w:p>'
    assert is_dropped(body(price, footnotes=note))
