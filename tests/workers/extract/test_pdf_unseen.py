"""PDF text that no reader sees is dropped and reported: white on nothing, or too small; a scan's own layer stays."""

from collections.abc import Callable

import pytest
from fpdf import FPDF
from fpdf.enums import TextMode
from fpdf.pattern import LinearGradient
from PIL import Image

from tests.workers.extract.files import read, texts

_TOLD = ("3 words that the document hides from its readers were dropped.",)
Draw = Callable[[FPDF], None]


def drawn(*steps: Draw) -> bytes:
    """A page with a line of black text, and below it what these steps draw, then three words."""
    pdf = FPDF()
    pdf.set_auto_page_break(False)
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    pdf.text(20, 20, "The price is five euros.")
    for step in steps:
        step(pdf)
    pdf.text(20, 60, "our secret margin")
    return bytes(pdf.output())


def colored(*channels: int) -> Draw:
    """Text from here on is of this colour."""
    return lambda pdf: pdf.set_text_color(*channels)


def filled(*channels: int, at: float = 50) -> Draw:
    """A rectangle of this colour across the page."""

    def draw(pdf: FPDF) -> None:
        pdf.set_fill_color(*channels)
        pdf.rect(10, at, 150, 20, style="F")

    return draw


def outlined(pdf: FPDF) -> None:
    """A frame without a colour of its own."""
    pdf.rect(10, 50, 150, 20, style="D")


def shaded(pdf: FPDF) -> None:
    """A rectangle with a gradient."""
    gradient = LinearGradient(10, 50, 160, 50, ["#000050", "#0000a0"])
    with pdf.use_pattern(gradient):
        pdf.rect(10, 50, 150, 20, style="F")


def banded(pdf: FPDF) -> None:
    """A line as high as the words."""
    pdf.set_line_width(20)
    pdf.line(10, 60, 160, 60)


def pictured(pdf: FPDF) -> None:
    """A picture where the words are."""
    pdf.image(Image.new("RGB", (60, 20), "navy"), x=10, y=50, w=150, h=20)


def sized(points: float) -> Draw:
    """Text from here on is of this size."""
    return lambda pdf: pdf.set_font("Helvetica", size=points)


def mode(kind: TextMode) -> Draw:
    """Text from here on is drawn so."""

    def draw(pdf: FPDF) -> None:
        pdf.text_mode = kind

    return draw


@pytest.mark.parametrize(
    "steps",
    [
        (colored(255, 255, 255),),
        (colored(251, 252, 253),),
        (colored(255, 255, 255), filled(0, 0, 90, at=200)),
        (colored(255, 255, 255), outlined),
        (sized(1),),
        (sized(0.4),),
    ],
)
def test_what_no_reader_sees_is_dropped_and_reported(steps: tuple[Draw, ...]) -> None:
    document = read(drawn(*steps))
    assert (texts(document), document.warnings) == (["The price is five euros."], _TOLD)


@pytest.mark.parametrize(
    "steps",
    [
        (colored(240, 240, 240),),
        (colored(255, 255, 255), filled(0, 0, 90)),
        (colored(255, 255, 255), filled(255, 255, 255)),
        (colored(255, 255, 255), shaded),
        (colored(255, 255, 255), banded),
        (colored(255, 255, 255), pictured),
        (colored(255, 255, 255), mode(TextMode.INVISIBLE)),
        (colored(255, 255, 255), mode(TextMode.STROKE)),
        (mode(TextMode.INVISIBLE),),
        (sized(2),),
    ],
)
def test_what_a_reader_may_see_and_a_scans_text_stay(steps: tuple[Draw, ...]) -> None:
    document = read(drawn(*steps))
    assert "our secret margin" in "\n".join(texts(document))
    assert document.warnings == ()


def test_a_page_of_nothing_but_tiny_text_has_another_measure() -> None:
    pdf = FPDF(unit="pt", format=(60, 40))
    pdf.set_auto_page_break(False)
    pdf.add_page()
    pdf.set_font("Helvetica", size=1)
    pdf.text(5, 5, "A plan of the house.")
    document = read(bytes(pdf.output()))
    assert (texts(document), document.warnings) == (["A plan of the house."], ())


def test_upright_text_is_not_tiny() -> None:
    def upright(pdf: FPDF) -> None:
        pdf.set_font("Helvetica", size=5)
        with pdf.rotation(90, 100, 200):
            pdf.text(100, 200, "literal")
        pdf.set_font("Helvetica", size=11)

    assert "literal" in "\n".join(texts(read(drawn(upright))))
