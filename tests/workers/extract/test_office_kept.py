"""Office files of known and varied content: nothing is lost, nothing hidden is shown, merged cells speak in each row."""

import io

import pytest
from odf import office as odf_office
from odf import opendocument, style, table, text

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


def test_odt_text_that_a_named_style_hides_is_dropped_and_reported() -> None:
    made = opendocument.OpenDocumentText()
    hiding = style.Style(name="Internal", family="paragraph")
    hiding.addElement(style.TextProperties(display="none"))
    made.styles.addElement(hiding)
    made.automaticstyles.addElement(style.Style(name="P1", family="paragraph", parentstylename="Internal"))
    shown = style.Style(name="P2", family="paragraph", parentstylename="P1")
    shown.addElement(style.TextProperties(display="true"))
    made.automaticstyles.addElement(shown)
    for name, words in (("Internal", "our cost"), ("P1", "our margin"), ("P2", "the price")):
        made.text.addElement(text.P(stylename=name, text=words))
    document = read(_saved(made))
    assert texts(document) == ["the price"]
    assert document.warnings == ("4 words that the document hides from its readers were dropped.",)


def test_xlsx_hidden_rows_and_columns_are_left_out_and_reported() -> None:
    def row(number: int, *cells: str, hidden: str = "") -> str:
        written = "".join(f'<c t="str"><v>{cell}</v></c>' for cell in cells)
        return f'<row r="{number}"{hidden}>{written}</row>'

    columns = (
        '<cols><col min="2" max="2" hidden="1"/><col min="3" max="3"/><col min="5" max="16384" hidden="true"/></cols>'
    )
    rows = [
        row(1, "Name", "Cost (internal)", "Price"),
        row(2, "A", "1", "2"),
        row(3, "B", "3", "4", hidden=' hidden="1"'),
        row(4, "C", "5", "6", hidden=' hidden="0"'),
    ]
    document = read(workbook(f"</sheetData>{columns}<sheetData>{''.join(rows)}"))
    assert texts(document, "list") == ["- Name: A; Price: 2\n- Name: C; Price: 6"]
    assert document.warnings == ("Hidden rows and columns were left out of: S.",)


def test_xlsx_hidden_columns_without_text_are_not_reported() -> None:
    columns = '<cols><col min="3" max="16384" hidden="1"/></cols>'
    row = '<row><c t="str"><v>a</v></c><c><v>1</v></c></row>'
    document = read(workbook(f"</sheetData>{columns}<sheetData>{row}"))
    assert (texts(document, "list"), document.warnings) == (["- a | 1"], ())


def test_ods_hidden_rows_and_columns_are_left_out_and_reported() -> None:
    rows = [("Name", "Cost", "Margin", "Price"), ("A", "1", "1", "2"), ("B", "3", "1", "4"), ("C", "5", "1", "6")]
    made = opendocument.OpenDocumentSpreadsheet()
    sheet, group = table.Table(name="Goods"), table.TableColumns()
    group.addElement(table.TableColumn())
    group.addElement(table.TableColumn(numbercolumnsrepeated=2, visibility="collapse"))
    group.addElement(table.TableColumn())
    sheet.addElement(group)
    lines = [one for one in odf_table("", rows).childNodes if one.qname[1] == "table-row"]
    lines[2].setAttribute("visibility", "collapse")
    for line in lines:
        sheet.addElement(line)
    made.spreadsheet.addElement(sheet)
    document = read(_saved(made))
    assert texts(document, "list") == ["- Name: A; Price: 2\n- Name: C; Price: 6"]
    assert document.warnings == ("Hidden rows and columns were left out of: Goods.",)


# --- comments and notes in cells --------------------------------------------------------------------------------------


def _cells(*cells: object) -> object:
    made, row = table.Table(name="T"), table.TableRow()
    for inside in cells:
        cell = table.TableCell(valuetype="string")
        for element in inside if isinstance(inside, tuple) else (inside,):
            cell.addElement(element)
        row.addElement(cell)
    made.addElement(row)
    return made


def _annotation() -> object:
    made = odf_office.Annotation()
    made.addElement(text.P(text="INTERNAL: cost is 2"))
    return made


def _noted(words: str) -> object:
    noted, note, body = text.P(text=words), text.Note(noteclass="footnote"), text.NoteBody()
    note.addElement(text.NoteCitation(text="1"))
    body.addElement(text.P(text="Without tax."))
    note.addElement(body)
    noted.addElement(note)
    return noted


def test_comments_in_cells_are_left_out() -> None:
    made = opendocument.OpenDocumentSpreadsheet()
    made.spreadsheet.addElement(_cells(text.P(text="Price"), (_annotation(), text.P(text="5"))))
    assert texts(read(_saved(made)), "list") == ["- Price | 5"]
    assert "INTERNAL" not in all_text(odt(_cells(text.P(text="Price"), (_annotation(), text.P(text="5")))))


def test_a_footnote_in_an_odt_table_stands_once() -> None:
    assert texts(odt(_cells(text.P(text="Tea"), _noted("Price")))) == [
        "| Tea | Price [1] |\n| --- | --- |",
        "[1] Without tax.",
    ]


def _saved(made: opendocument.OpenDocument) -> bytes:
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()
