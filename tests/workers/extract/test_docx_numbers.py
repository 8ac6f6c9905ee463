"""Word's automatic numbers: headings, clauses and list items carry those that Word shows."""

from collections.abc import Sequence

import pytest

from tests.workers.extract.broken import W
from tests.workers.extract.files import headings, texts
from tests.workers.extract.test_docx import body, para

_CLAUSES = ("decimal|%1.", "decimal|%1.%2", "lowerLetter|(%3)", "lowerRoman|(%4)")


def numbered(level: int, number: int = 1) -> str:
    """A paragraph's own place in a list."""
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'


def levels(forms: Sequence[str], more: str = "") -> str:
    """The levels of a list: each its form, its text, and what else it declares."""
    written = ""
    for depth, form in enumerate(forms):
        kind, text, *rest = form.split("|")
        written += (
            f'<w:lvl w:ilvl="{depth}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/>{"".join(rest)}'
            f'<w:lvlText w:val="{text}"/></w:lvl>'
        )
    return f'<w:abstractNum w:abstractNumId="7">{more}{written}</w:abstractNum>'


def numbering(forms: Sequence[str], *others: str) -> str:
    """The numbering part: list 1 has these levels, and the others are lists 2, 3 …, which share its count."""
    lists = "".join(
        f'<w:num w:numId="{number}"><w:abstractNumId w:val="7"/>{other}</w:num>'
        for number, other in enumerate(("", *others), 1)
    )
    return f"<w:numbering {W}>{levels(forms)}{lists}</w:numbering>"


def style(name: str, properties: str, based_on: str = "") -> str:
    """A paragraph style."""
    base = f'<w:basedOn w:val="{based_on}"/>' if based_on else ""
    return f'<w:style w:styleId="{name}"><w:name w:val="{name}"/>{base}<w:pPr>{properties}</w:pPr></w:style>'


def shown(forms: Sequence[str], places: Sequence[tuple[int, int]], *others: str) -> list[str]:
    """What stands before the paragraphs at these levels of these lists."""
    written = "".join(para("x", numbered(level, number)) for level, number in places)
    lines = "\n".join(texts(body(written, numbering=numbering(forms, *others)))).split("\n")
    return [line.strip().removesuffix(" x").removeprefix("- ") for line in lines]


def test_clauses_carry_the_numbers_that_word_shows() -> None:
    written = [
        (0, "Term"),
        (1, "It begins."),
        (0, "Liability"),
        (1, "None."),
        (1, "Except:"),
        (2, "for death;"),
        (2, "fraud."),
    ]
    document = body("".join(para(text, numbered(level)) for level, text in written), numbering=numbering(_CLAUSES))
    assert [(block.kind, block.text) for block in document.blocks] == [
        ("list", "1. Term"),
        ("paragraph", "1.1 It begins."),
        ("list", "2. Liability"),
        ("paragraph", "2.1 None."),
        ("paragraph", "2.2 Except:"),
        ("list", "- (a) for death;\n- (b) fraud."),
    ]


def test_headings_are_numbered_by_the_level_that_their_style_stands_for() -> None:
    forms = ('decimal|%1|<w:pStyle w:val="heading 1"/>', 'decimal|%1.%2|<w:pStyle w:val="heading 2"/>')
    first = style("heading 1", '<w:numPr><w:numId w:val="1"/></w:numPr>')
    second = style("heading 2", '<w:numPr><w:numId w:val="1"/></w:numPr>', "heading 1")
    own = style("Clause", "", "heading 2")
    names = (
        ("heading 1", "Scope"),
        ("heading 2", "Parties"),
        ("heading 1", "Terms"),
        ("heading 2", "Price"),
        ("Clause", "Liability"),
    )
    document = body(
        "".join(para(text, f'<w:pStyle w:val="{name}"/>') for name, text in names),
        numbering=numbering(forms),
        styles=f"<w:styles {W}>{first}{second}{own}</w:styles>",
    )
    assert headings(document) == [
        (1, "1 Scope"),
        (2, "1.1 Parties"),
        (1, "2 Terms"),
        (2, "2.1 Price"),
        (2, "2.2 Liability"),
    ]


@pytest.mark.parametrize(
    ("form", "last"),
    [
        ("lowerLetter|%1)", "bb)"),
        ("upperLetter|%1.", "BB."),
        ("lowerRoman|(%1)", "(xxviii)"),
        ("upperRoman|%1", "XXVIII"),
        ("decimalZero|%1", "28"),
        ("ordinal|%1", "28"),
        ("decimal|Article %1", "Article 28"),
        ("decimal|§ %1", "§ 28"),
        ("bullet|o", "-"),
    ],
)
def test_numbers_are_written_in_their_form(form: str, last: str) -> None:
    assert shown([form], [(0, 1)] * 28)[-1] == last


def test_lists_of_one_family_count_on_unless_one_begins_anew() -> None:
    anew = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>'
    assert shown(_CLAUSES, [(0, 1), (0, 2), (0, 3), (0, 3), (0, 1)], "", anew) == ["1.", "2.", "5.", "6.", "7."]


def test_a_list_may_override_how_a_level_looks() -> None:
    other = (
        '<w:lvlOverride w:ilvl="0"><w:lvl w:ilvl="0"><w:numFmt w:val="upperRoman"/><w:lvlText w:val="%1)"/></w:lvl>'
        "</w:lvlOverride>"
    )
    assert shown(_CLAUSES, [(0, 1), (0, 2), (1, 2)], other) == ["1.", "II)", "II.1"]


def test_a_level_may_count_on_over_those_above_it() -> None:
    forms = ("decimal|%1.", 'decimal|%2|<w:lvlRestart w:val="0"/>', "decimal|%3")
    assert shown(forms, [(0, 1), (1, 1), (2, 1), (0, 1), (1, 1), (2, 1)]) == ["1.", "1", "1", "2.", "2", "1"]


def test_legal_numbers_are_decimal_and_levels_that_were_skipped_begin() -> None:
    forms = ("upperRoman|%1.", "decimal|%1.%2|<w:isLgl/>")
    assert shown(forms, [(1, 1), (1, 1), (0, 1), (1, 1)]) == ["1.1", "1.2", "II.", "2.1"]


def test_a_list_style_lends_its_levels() -> None:
    lent = levels(_CLAUSES, '<w:styleLink w:val="Legal"/>')
    borrowed = '<w:abstractNum w:abstractNumId="8"><w:numStyleLink w:val="Legal"/></w:abstractNum>'
    part = f'<w:numbering {W}>{lent}{borrowed}<w:num w:numId="1"><w:abstractNumId w:val="8"/></w:num></w:numbering>'
    document = body(para("a", numbered(0)) + para("b", numbered(1)), numbering=part)
    assert texts(document) == ["1. a", "1.1 b"]


def test_empty_paragraphs_count_and_deleted_or_hidden_ones_do_not() -> None:
    empty = f"<w:p><w:pPr>{numbered(0)}</w:pPr></w:p>"
    deleted = f"<w:p><w:pPr>{numbered(0)}<w:rPr><w:del/></w:rPr></w:pPr><w:del><w:r><w:delText>x</w:delText></w:r></w:del></w:p>"
    hidden = para("secret", numbered(0), "<w:vanish/>")
    written = para("a", numbered(0)) + empty + deleted + hidden + para("b", numbered(0))
    assert texts(body(written, numbering=numbering(_CLAUSES))) == ["1. a\n3. b"]


def test_rows_that_word_numbers_say_their_numbers() -> None:
    rows = "".join(
        f"<w:tr><w:tc><w:p><w:pPr>{numbered(0)}</w:pPr></w:p></w:tc><w:tc>{para(text)}</w:tc></w:tr>"
        for text in ("Tea", "Cups")
    )
    document = body(f"<w:tbl>{rows}</w:tbl>" + para("Next", numbered(0)), numbering=numbering(_CLAUSES))
    assert texts(document) == ["| 1. | Tea |\n| --- | --- |\n| 2. | Cups |", "3. Next"]


def test_absurd_numbers_stay_small() -> None:
    anew = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="999999999"/></w:lvlOverride>'
    assert shown(["lowerLetter|" + "%1" * 1000], [(0, 2)], anew) == ["999999999" * 30]
