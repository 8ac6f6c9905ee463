"""Office files of known and varied content: nothing is lost, nothing hidden is shown, merged cells speak in each row."""

import io

import pytest
from odf import opendocument, style, text

from chat_api.core.errors import TooLarge
from tests.bench import office
from tests.bench.office_odf import odf_table
from tests.bench.office_truth import Truth, lost
from tests.workers.extract.files import all_text, read, texts
from tests.workers.extract.office import workbook
from tests.workers.extract.test_markup import odt, rtf
from tests.workers.extract.test_tables import sheet
from workers.extract.grid import MAX_CARRIED, carried
from workers.extract.xlsx_merged import Merged


@pytest.mark.parametrize("kind", sorted(office.MAKERS))
@pytest.mark.parametrize("seed", [2, 5])
def test_nothing_is_lost_and_nothing_hidden_shown(kind: str, seed: int) -> None:
    truth = Truth()
    body = office.MAKERS[kind](seed, truth)
    assert list(lost(truth, read(body, filename=f"file.{kind}"))) == []


def test_the_measure_can_fail() -> None:
    truth = Truth()
    body = office.MAKERS["docx"](1, truth)
    truth.say("words that are not there")
    truth.head(2, truth.headings[0][1])
    truth.hide(truth.strings[0])
    truth.rows[0][1] = (truth.rows[0][1][0], truth.rows[0][2][1])
    found = list(lost(truth, read(body, filename="file.docx")))
    assert [kind for kind, _ in found] == ["strings", "headings", "hidden", "cells"]


# --- merged cells -----------------------------------------------------------------------------------------------------


def test_cells_covered_from_above_speak_only_in_rows_that_say_more() -> None:
    rows: list[list[str | None]] = [["a", "x" * 1000], [None, None], ["b", None], [None, "c"], ["d", None, None]]
    long = "x" * MAX_CARRIED
    assert list(carried(rows)) == [["a", "x" * 1000], [], ["b", long], ["b", "c"], ["d", "c", ""]]


def test_odt_cells_that_go_on_to_the_right_are_empty_there() -> None:
    rows = [("Name", "Price", "Note"), ("A", "1", "same"), ("B", "<", "^"), ("C", "3", "other")]
    lines = texts(odt(odf_table("T", rows)), "table")[0].split("\n")
    assert lines[2:] == ["| A | 1 | same |", "| B |  | same |", "| C | 3 | other |"]


def test_rtf_rows_may_say_before_or_after_their_cells_what_is_merged() -> None:
    first = r"\trowd\clvmgf\cellx1\cellx2\intbl same\cell 1\cell\row"
    after = r"\intbl\cell 2\cell\trowd\clvmrg\cellx1\cellx2\row"
    plain = r"\trowd\cellx1\cellx2\intbl\cell 3\cell\row\pard\par"
    lines = texts(rtf(first + after + plain), "table")[0].split("\n")
    assert [lines[0], *lines[2:]] == ["| same | 1 |", "| same | 2 |", "|  | 3 |"]


def test_xlsx_cells_that_cover_rows_are_said_in_each() -> None:
    rows = "".join(
        f'<row r="{number}">'
        + "".join(f'<c r="{at}{number}" t="str"><v>{text}</v></c>' for at, text in cells)
        + "</row>"
        for number, cells in enumerate(
            [[("A", "Kind"), ("B", "Name")], [("A", "Cups"), ("B", "one")], [("B", "two")], [], [("B", "three")]], 1
        )
    )
    merged = '</sheetData><mergeCells><mergeCell ref="A2:A4"/><mergeCell ref="XFD1:XFD9"/></mergeCells><sheetData>'
    lines = all_text(read(workbook(rows + merged))).splitlines()
    assert lines[1:3] == ["- Kind: Cups; Name: one", "- Kind: Cups; Name: two"]
    assert not any("Cups" in line for line in lines[3:])


def test_merged_cells_are_found_across_the_parts_of_a_sheet() -> None:
    markup = b'<mergeCells count="1"><x:mergeCell ref="B2:C3"/></mergeCells>'
    for at in range(len(markup)):
        merged = Merged([markup[:at], markup[at:]])
        assert merged.filled(2, ["a", "b"]) == ["a", "b"]
        assert merged.filled(3, ["c"]) == ["c", "b"]
        assert merged.filled(4, ["d"]) == ["d"]


def test_endless_merged_cells_are_refused() -> None:
    columns = "".join(
        f'<mergeCell ref="{chr(65 + first)}{chr(65 + last)}1:XX1048576"/>' for first in range(26) for last in range(26)
    )
    cells = "".join(
        f'<c r="{chr(65 + first)}{chr(65 + last)}1" t="str"><v>{"x" * 400}</v></c>'
        for first in range(26)
        for last in range(26)
    )
    rows = f'<row r="1">{cells}</row>' + "<row><c><v>1</v></c></row>" * 300
    with pytest.raises(TooLarge):
        read(workbook(f"{rows}</sheetData><mergeCells>{columns}</mergeCells><sheetData>"))


def test_a_second_head_of_as_many_names_begins_a_table() -> None:
    rows = [["Name", "Price", "Age"], ["A", "1", "2"], [], ["Town", "Street", "Code"], ["X", "Y", "3"]]
    assert sheet(rows)[1:] == ["- Town: X; Street: Y; Code: 3"]
    rows[3] = ["B", "on request", "3"]
    assert sheet(rows)[1] == "- Name: B; Price: on request; Age: 3"


# --- hidden text ------------------------------------------------------------------------------------------------------


def test_odt_text_that_a_style_hides_is_dropped_and_reported() -> None:
    made = opendocument.OpenDocumentText()
    for name, family in (("Unseen", "text"), ("Gone", "paragraph")):
        hiding = style.Style(name=name, family=family)
        hiding.addElement(style.TextProperties(display="none"))
        made.automaticstyles.addElement(hiding)
    mixed = text.P(stylename="Unseen", text="shown ")  # a style of spans, not of paragraphs
    mixed.addElement(text.Span(stylename="Unseen", text="two words"))
    mixed.addText("still")
    made.text.addElement(mixed)
    made.text.addElement(text.P(stylename="Gone", text="a hidden line"))
    buffer = io.BytesIO()
    made.save(buffer)
    document = read(buffer.getvalue())
    assert texts(document) == ["shown still"]
    assert document.warnings == ("5 words that the document hides from its readers were dropped.",)
