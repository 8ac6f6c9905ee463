"""Presentations of known content, by python-pptx."""

import io
from typing import Any

import pptx
from pptx.util import Inches

from tests.bench.office_truth import Truth, Words


def pptx_file(seed: int, truth: Truth) -> bytes:
    """The presentation with this number: titles, lists, boxes, groups, tables, notes, and a slide that is hidden."""
    made, words = pptx.Presentation(), Words(seed)
    made.core_properties.title = f"Slides {seed}"
    for number in range(3 + seed % 4):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = truth.head(1, words.some("Slide"))
        _listed(slide.placeholders[1].text_frame, words, truth)
        for add in words.chance.sample((_box, _group, _table, _merged, _notes), 2 if number else 5):
            add(slide, words, truth)
    hidden = made.slides.add_slide(made.slide_layouts[1])
    hidden.shapes.title.text = truth.hide(words.some("Secret"))
    hidden._element.set("show", "0")
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


def _listed(frame: Any, words: Words, truth: Truth) -> None:
    frame.text = truth.say(words.some("Item"))
    for depth in (0, 1, 2, 1, 0):
        paragraph = frame.add_paragraph()
        paragraph.level = depth
        first, second = words.some("Item"), words.some("bold")
        paragraph.add_run().text = f"{first} "
        run = paragraph.add_run()
        run.text, run.font.bold = second, True
        truth.say(f"{first} {second}")


def _box(slide: Any, words: Words, truth: Truth) -> None:
    frame = slide.shapes.add_textbox(Inches(1), Inches(5), Inches(4), Inches(1)).text_frame
    run = frame.paragraphs[0].add_run()
    run.text = truth.say(words.sentence())
    run.hyperlink.address = "https://example.com/"


def _group(slide: Any, words: Words, truth: Truth) -> None:
    inner = slide.shapes.add_group_shape().shapes.add_group_shape()
    inner.shapes.add_shape(1, Inches(1), Inches(1), Inches(2), Inches(1)).text_frame.text = truth.say(words.sentence())


def _notes(slide: Any, words: Words, truth: Truth) -> None:
    slide.notes_slide.notes_text_frame.text = truth.say(words.sentence())


def _grid(slide: Any, rows: list[list[str]]) -> Any:
    grid = slide.shapes.add_table(len(rows), len(rows[0]), Inches(1), Inches(3), Inches(6), Inches(2)).table
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            grid.cell(y, x).text = cell
    return grid


def _rows(words: Words) -> list[list[str]]:
    head = [words.some(name, script="Latin") for name in ("Name", "Price", "Note")]
    return [
        head,
        *([words.some("Thing"), f"{words.chance.randint(100, 999) / 100:.2f}", words.some("note")] for _ in range(4)),
    ]


def _table(slide: Any, words: Words, truth: Truth) -> None:
    _grid(slide, truth.table(_rows(words)))


def _merged(slide: Any, words: Words, truth: Truth) -> None:
    """The note of the second row goes for the third one too."""
    rows = _rows(words)
    said = [list(row) for row in rows]
    said[3][2], rows[3][2] = rows[2][2], ""
    truth.table(said)
    grid = _grid(slide, rows)
    grid.cell(2, 2).merge(grid.cell(3, 2))
