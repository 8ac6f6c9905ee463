"""Raised and lowered digits and fractions in office files: no number is made of two."""

import io

import pptx
import pytest
from pptx.oxml import parse_xml
from pptx.util import Inches

from tests.workers.extract.broken import W
from tests.workers.extract.files import read, texts
from tests.workers.extract.office import workbook
from tests.workers.extract.test_docx import body

_MATH = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
_DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'

RUNS = [
    ([("19", ""), ("99", "superscript"), (" euros", "")], "19 99 euros"),
    ([("in 2024", ""), ("1", "superscript")], "in 2024 1"),
    ([("12 m", ""), ("2", "superscript"), (" of H", ""), ("2", "subscript"), ("O", "")], "12 m2 of H2O"),
    ([("3", "superscript"), ("2024", "")], "3 2024"),
    ([("19", ""), ("", "superscript"), ("99", "")], "1999"),
    ([("19", "baseline"), ("99", "")], "1999"),
    ([("10", ""), ("-3", "superscript")], "10-3"),
    ([("1", "superscript"), ("2", "superscript")], "12"),
]


def slide(paragraph: str) -> list[str]:
    """The texts of a presentation of one slide with this paragraph."""
    made = pptx.Presentation()
    shapes = made.slides.add_slide(made.slide_layouts[6]).shapes
    frame = shapes.add_textbox(Inches(1), Inches(1), Inches(6), Inches(3)).text_frame
    frame._txBody.replace(frame.paragraphs[0]._p, parse_xml(f"<a:p {_DRAWING} {_MATH}>{paragraph}</a:p>"))
    buffer = io.BytesIO()
    made.save(buffer)
    return texts(read(buffer.getvalue()))


@pytest.mark.parametrize(("runs", "shown"), RUNS)
def test_digits_of_two_heights_are_two_numbers(runs: list[tuple[str, str]], shown: str) -> None:
    def written(space: str, properties: dict[str, str]) -> str:
        return "".join(f"<r>{properties[height]}<t{space}>{text}</t></r>" for text, height in runs)

    heights = ("superscript", "subscript", "baseline")
    named = {"": ""} | {height: f'<rPr><vertAlign val="{height}"/></rPr>' for height in heights}
    cells = f'<c t="str"><v>v</v></c><c t="inlineStr"><is>{written("", named)}</is></c>'
    assert texts(read(workbook(f"<row>{cells}</row>")), "list") == [f"- v | {shown}"]

    word = written(' xml:space="preserve"', named).replace("<", "<w:").replace("<w:/", "</w:").replace(" val", " w:val")
    assert texts(body(f"<w:p>{word}</w:p>")) == [shown]

    raised = {"superscript": "30000", "subscript": "-25000", "baseline": "0"}
    drawn = {"": ""} | {height: f'<rPr baseline="{raised[height]}"/>' for height in heights}
    assert slide(written("", drawn).replace("<", "<a:").replace("<a:/", "</a:")) == [shown]


def test_a_style_may_raise_a_words_run() -> None:
    base = '<w:style w:styleId="Up"><w:name w:val="Up"/><w:rPr><w:vertAlign w:val="superscript"/></w:rPr></w:style>'
    more = '<w:style w:styleId="Note"><w:name w:val="Note"/><w:basedOn w:val="Up"/></w:style>'
    runs = '<w:r><w:t>19</w:t></w:r><w:r><w:rPr><w:rStyle w:val="Note"/></w:rPr><w:t>99</w:t></w:r>'
    assert texts(body(f"<w:p>{runs}</w:p>", styles=f"<w:styles {W}>{base}{more}</w:styles>")) == ["19 99"]


def run(text: object) -> str:
    """A run of a formula."""
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        (f"<m:f><m:num>{run(1)}</m:num><m:den>{run(2)}</m:den></m:f>", "1/2"),
        (f"{run(3)}<m:f><m:fPr/><m:num>{run(1)}</m:num><m:den>{run(2)}</m:den></m:f>{run('kg')}", "3 1/2kg"),
        (f"<m:sSup><m:e>{run(10)}</m:e><m:sup>{run(3)}</m:sup></m:sSup>", "10 3"),
        (f"<m:sSub><m:e>{run('x')}</m:e><m:sub>{run(1)}</m:sub></m:sSub>", "x1"),
    ],
)
def test_formulas_keep_their_numbers_apart(formula: str, shown: str) -> None:
    markup = f"<m:oMath>{formula}</m:oMath>"
    assert texts(body(f"<w:p {_MATH}>{markup}</w:p>")) == [shown]
    assert slide(markup) == [shown]
