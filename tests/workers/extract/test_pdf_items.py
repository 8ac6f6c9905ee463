"""PDF lines that begin like list items: those that wrap a sentence stay in it, real items stay items."""

import pytest
from fpdf import FPDF

from tests.workers.extract.files import LONG, read, texts
from tests.workers.extract.test_pdf import layout, line
from workers.extract.pdf_paged import Line


@pytest.mark.parametrize(
    "second", ["o martes, de 9 a 14", "– wie immer – ab neun", "— comme toujours — à neuf", "- as ever - from nine"]
)
def test_a_sentence_that_wraps_before_a_mark_is_one(second: str) -> None:
    lines = [line("Abierto todos los lunes", 100), line(second, 112, right=200)]
    assert layout(*lines) == [f"Abierto todos los lunes {second}"]


@pytest.mark.parametrize("first", [50, 70])
def test_an_indent_of_the_first_line_makes_no_item_of_the_second(first: float) -> None:
    lines = [line("Abierto todos los lunes", 100, left=first), line("o martes, de 9 a 14", 112)]
    assert layout(*lines) == ["Abierto todos los lunes o martes, de 9 a 14"]


def test_an_item_that_wraps_before_a_mark_is_one() -> None:
    lines = [
        line("• Abierto todos los lunes, los", 100),
        line("miércoles, los jueves, los sábados", 112, left=62),
        line("o los martes, de 9 a 14", 124, left=62, right=300),
        line("• Cerrado en agosto", 136, right=200),
    ]
    text = "- Abierto todos los lunes, los miércoles, los jueves, los sábados o los martes, de 9 a 14"
    assert layout(*lines) == [f"{text}\n- Cerrado en agosto"]


@pytest.mark.parametrize(
    ("above", "item"),
    [
        (line("We sell and repair:", 100), line("- cups", 112, right=90)),
        (line("We sell and repair", 100, right=200), line("- cups", 112, right=90)),
        (line("We sell and repair cups.", 100), line("– saucers", 112, right=90)),
        (line("We sell and we repair", 100), line("o cups", 112, left=68, right=120)),
        (line("We sell and we repair", 100), line("o cups", 130, right=120)),
        (line("We sell and we repair", 100), line("• cups", 112, right=120)),
    ],
)
def test_an_item_below_prose_is_one(above: Line, item: Line) -> None:
    assert layout(line("A line as wide as the page.", 60), above, item)[-1].startswith("- ")


def test_several_items_below_prose_without_a_colon_are_items() -> None:
    lines = [line("We sell to all of the country", 100), line("- cups", 112), line("- saucers", 124, right=120)]
    assert layout(*lines) == ["We sell to all of the country", "- cups\n- saucers"]


def test_items_of_full_lines_at_one_edge_are_items() -> None:
    lines = [line("- cups and what they stand on", 100), line("- spoons and what they lie on", 112)]
    assert layout(*lines) == ["- cups and what they stand on\n- spoons and what they lie on"]


def test_items_of_a_reader_that_knows_no_places_are_items() -> None:
    lines = [line("- cups and what they stand on", 100, left=0), line("– spoons and what they lie on", 112, left=0)]
    assert layout(*lines) == ["- cups and what they stand on\n- spoons and what they lie on"]


def listed(*items: tuple[str, float, float, str]) -> bytes:
    """A page of items: mark, where it stands and its text begins in millimetres, text."""
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    for mark, left, begins, text in items:
        pdf.set_x(left)
        pdf.cell(begins - left, 6, mark)
        pdf.multi_cell(190 - begins, 6, text, new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())


FULL = "The tank holds two litres of cold water, and it is filled from above when the machine stands open"


@pytest.mark.parametrize("mark", ["o", "-"])
@pytest.mark.parametrize("left", [16.35, 22.7])
def test_the_second_level_of_a_list_stays_one(mark: str, left: float) -> None:
    body = listed((chr(183), 10, 16.35, FULL), (mark, left, left + 6.35, "Not in winter"))
    assert texts(read(body), "list") == [f"- {FULL}\n- Not in winter"]


def test_items_with_a_mark_apart_stay_items_below_open_prose() -> None:
    body = listed(("", 9, 10, FULL), ("o", 10, 16.35, "Not in winter"))
    assert texts(read(body), "list") == ["- Not in winter"]


def test_a_conjunction_that_begins_a_line_is_a_word() -> None:
    text = " ".join(["o" if word == "and" else word for word in LONG.split()] * 3)
    for width in range(60, 190, 10):
        pdf = FPDF()
        pdf.add_page()
        pdf.set_font("Helvetica", size=11)
        pdf.multi_cell(width, 6, text)
        assert texts(read(bytes(pdf.output()))) == [text]


@pytest.mark.parametrize("begins", [16, 18, 20])
def test_a_conjunction_that_begins_a_line_of_an_item_is_a_word(begins: float) -> None:
    for before in range(30, 60):
        text = f"{'en ' * before}abril o mayo"
        assert texts(read(listed((chr(183), 10, begins, text)))) == [f"- {text}"]
