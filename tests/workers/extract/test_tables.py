"""Workbooks and delimited files: values as shown, rows as records, whatever their encoding or size."""

import csv
import io
from html import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odf import opendocument, table, text

from chat_api.core.errors import MalformedDocument, TooLarge
from tests.workers.extract.files import all_text, read, texts
from tests.workers.extract.office import workbook
from workers.documents import Document
from workers.extract import delimited, grid
from workers.extract.grid import Records
from workers.extract.xlsx_values import Formats


def sheet(rows: list[list[str]]) -> list[str]:
    """The lines that these rows become."""
    return "\n".join(block.text for block in Records().blocks(rows)).splitlines()


def delimited_text(body: str, encoding: str = "utf-8") -> Document:
    return read(body.encode(encoding), filename="x.csv")


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_head_names_the_values_below_it() -> None:
    rows = [["Name", "2023", "2024"], ["A", "1", ""], ["B", "", "2"]]
    assert sheet(rows) == ["- Name: A; 2023: 1", "- Name: B; 2024: 2"]


def test_rows_without_a_head_are_lists() -> None:
    assert sheet([["1", "2"], ["3", "4"]]) == ["- 1 | 2", "- 3 | 4"]


def test_a_title_stands_alone_and_a_gap_begins_a_new_table() -> None:
    rows = [
        ["Prices"],
        [""],
        ["Name", "Price"],
        ["A", "1"],
        [],
        ["B", "two"],
        ["C", "3"],
        [],
        ["Town", "Street", "Code"],
        ["X", "Y", "3"],
    ]
    names = ["- Name: A; Price: 1", "- Name: B; Price: two", "- Name: C; Price: 3"]
    assert sheet(rows) == ["Prices", *names, "- Town: X; Street: Y; Code: 3"]


def test_names_without_rows_are_a_row() -> None:
    assert sheet([["Name", "Price"]]) == ["- Name | Price"]


def test_records_are_bounded() -> None:
    with pytest.raises(TooLarge, match="100,000 rows"):
        list(Records().blocks([["a", "b"]] * (grid.MAX_ROWS + 2)))
    with pytest.raises(TooLarge, match="characters"):
        list(Records().blocks([["x" * 32_767] * 100] * 10))


def test_a_row_that_is_larger_than_all_that_is_read_is_refused_at_once() -> None:
    long = "word " * (grid.MAX_TEXT // 50)
    with pytest.raises(TooLarge, match="table is larger"):
        list(Records().blocks([[long] * 11]))
    with pytest.raises(TooLarge, match="table is larger"):
        grid.markdown([[long] * 11])


WIDE = ["x", *[""] * (grid.MAX_COLUMNS - 2)]


def test_text_beyond_the_last_column_that_is_read_is_refused_and_not_left_out() -> None:
    assert sheet([[*WIDE, "last"]]) == ["- x | last"]
    assert sheet([[*WIDE, "last", *[""] * 10]]) == ["- x | last"]
    for row in ([*WIDE, "last", "beyond"], [*WIDE, "", "", "beyond"]):
        with pytest.raises(TooLarge, match="1,000th column"):
            sheet([row])
        with pytest.raises(TooLarge, match="1,000th column"):
            grid.markdown([row])


def test_a_workbook_that_is_too_wide_is_refused() -> None:
    def cells(last: str) -> bytes:
        return workbook(
            f'<row r="1"><c r="A1" t="str"><v>x</v></c><c r="{last}1" t="str"><v>y</v></c><c r="XFD1"/></row>'
        )

    assert all_text(read(cells("ALL"))).endswith("- x | y")
    with pytest.raises(TooLarge, match="1,000th column"):
        read(cells("ALM"))


def test_an_opendocument_sheet_that_is_too_wide_is_refused() -> None:
    def spreadsheet(gap: int, times: int = 1) -> bytes:
        made = opendocument.OpenDocumentSpreadsheet()
        row = table.TableRow()
        for text_, repeated in (("x", 1), ("", gap), ("y", times), ("", 15_000)):
            cell = table.TableCell(numbercolumnsrepeated=repeated)
            if text_:
                cell.addElement(text.P(text=text_))
            row.addElement(cell)
        only = table.Table(name="Sheet")
        only.addElement(row)
        made.spreadsheet.addElement(only)
        buffer = io.BytesIO()
        made.save(buffer)
        return buffer.getvalue()

    assert all_text(read(spreadsheet(998))).endswith("- x | y")
    for wide in (spreadsheet(999), spreadsheet(998, 2)):
        with pytest.raises(TooLarge, match="1,000th column"):
            read(wide)


def test_long_cells_are_kept_whole() -> None:
    long = "word " * 20_000 + "end"
    assert sheet([["Name", "Text"], ["A", long]]) == [f"- Name: A; Text: {long}"]
    assert long in grid.markdown([["Name", "Text"], ["A", long]])
    assert all_text(delimited_text(f'Name,Text\nA,"{long}"\n')) == f"- Name: A; Text: {long}"


def test_markdown_escapes_and_pads() -> None:
    assert grid.markdown([["a|b", "c"], ["d\ne"], ["", ""]]) == "| a\\|b | c |\n| --- | --- |\n| d e |  |"


# --- workbooks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        *(
            ("General", "3.50", "3.5"),
            ("General", "1e3", "1000"),
            ("General", "0.1234567890123456", "0.123456789012346"),
        ),
        *(("0.00", "3.5", "3.50"), ("#,##0", "1234567", "1,234,567"), ("#,##0.00", "-1234.5", "-1,234.50")),
        *(("0.##", "2.5", "2.5"), ("0.##", "2", "2"), ("0%", "0.125", "12%"), ("0.0%", "0.125", "12.5%")),
        *(('"€"#,##0.00', "3.5", "€3.50"), ('0.00 "kg"', "2", "2.00 kg"), ("[$€-407]#,##0.00", "9", "€9.00")),
        *(("yyyy-mm-dd", "45352", "2024-03-01"), ("dd/mm/yy", "45352", "2024-03-01"), ("mmm", "45352", "2024-03-01")),
        *(("d.m.yyyy h:mm", "45352.604166666664", "2024-03-01 14:30"), ("h:mm", "0.25", "06:00")),
        *(("[h]:mm:ss", "1.5", "36:00:00"), ("yyyy", "-5", "-5"), ("yyyy", "1e15", "1e+15"), ("General", "NaN", "NaN")),
        *(("@", "5", "5"), ("[Red]0.0;[Blue]-0.0", "5", "5.0"), ('"day" 0', "3", "day 3")),
        *(("00000", "2108", "02108"), ("0,000", "5", "0,005"), ('"No. 2024-"000', "1234.6", "No. 2024-1235")),
        *(("(###) ###-####", "5551234567", "(555) 123-4567"), ("000-00-0000", "123456789", "123-45-6789")),
        *(("000\\-00\\-0000", "12345678", "012-34-5678"), ("000-00-0000", "1123456789", "1123-45-6789")),
        *(('00"-"00', "1234", "12-34"), ('"No. "000" / "00', "12345", "No. 123 / 45"), ("00-00", "-123", "-01-23")),
        *(("(000) 000-0000", "5551234567", "(555) 123-4567"), ("###-####", "5", "-5"), ("???-00", "100", "1-00")),
        *(("[<=9999999]###-####;(###) ###-####", "5551234", "555-1234"), ("0-0.0", "12.5", "12.5")),
        *(("[<=9999999]###-####;(###) ###-####", "5551234567", "(555) 123-4567"), ("00-00", "1234.6", "12-35")),
        *(("[>=100]0.0;[<0]0.00;0", "5", "5"), ("[=1]0.0;[<>2]0.00", "2", "2"), ("[>1]0.0;0.00", "1", "1.00")),
        *(('#,##0,"K"', "1234567", "1,235K"), ('0.0,,"M"', "1234567", "1.2M"), ("0.0,%", "1234", "123.4%")),
        *(("# ?/?", "1.5", "1.5"), ("?/8", "1.5", "1.5"), ("0.00E+00", "1234.5", "1234.5"), (".00", "0.5", "0.50")),
        *(('#,##0.00 "EUR"', "1234.5", "1,234.50 EUR"), ("[$EUR] #,##0.00", "1234.5", "EUR 1,234.50")),
        *(('0"%"', "5", "5%"), ('0.00 "€/h"', "5", "5.00 €/h"), ("00.0", "-5.25", "-05.2")),
    ],
)
def test_numbers_are_as_shown(code: str, value: str, shown: str) -> None:
    cells = f'<numFmts><numFmt numFmtId="200" formatCode="{escape(code)}"/></numFmts>'
    styles = f'{cells}<cellXfs><xf numFmtId="0"/><xf numFmtId="200"/></cellXfs>'
    body = workbook(f'<row><c t="inlineStr"><is><t>v</t></is></c><c s="1"><v>{value}</v></c></row>', styles=styles)
    assert texts(read(body), "list") == [f"- v | {shown}"]


@given(st.text(max_size=30), st.floats(allow_nan=False))
def test_any_format_shows_any_number(code: str, value: float) -> None:
    formats = Formats(None, since_1904=True)
    formats._codes[0], formats._styles = code, [0]
    assert isinstance(formats.show(repr(value), 0), str)


def test_cells_of_every_type() -> None:
    shared = "<si><t>plain</t></si><si><r><t>ri</t></r><r><t>ch</t></r><rPh><t>no</t></rPh></si>"
    cells = (
        '<c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c><c r="D1" t="b"><v>1</v></c><c r="E1" t="e"><v>#N/A</v></c>'
        '<c r="F1" t="str"><f>A1</f><v>sum</v></c><c r="G1" t="s"><v>99</v></c>'
    )
    assert texts(read(workbook(f"<row>{cells}</row>", shared)), "list") == ["- plain | rich | yes | sum"]


def test_gaps_between_rows_end_a_table() -> None:
    def row(number: int, *cells: str) -> str:
        written = "".join(f'<c t="str"><v>{cell}</v></c>' for cell in cells)
        return f'<row r="{number}">{written}</row>'

    rows = row(1, "Name", "Price") + row(2, "A", "1") + row(9, "Town", "Code", "Land") + row(10, "X", "2", "Y")
    assert all_text(read(workbook(rows))).splitlines()[1:] == ["- Name: A; Price: 1", "- Town: X; Code: 2; Land: Y"]


# --- delimited --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_and_encoding_are_found(delimiter: str, encoding: str) -> None:
    rows = [["Größe", "Preis"], ["klein, aber fein", "1,50 €"], ["groß; größer", '2" breit'], ["zwei\nZeilen", "3"]]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    lines = all_text(delimited_text(buffer.getvalue(), encoding)).splitlines()
    assert lines == [f"- Größe: {first.replace(chr(10), ' ')}; Preis: {second}" for first, second in rows[1:]]


def test_long_fields_keep_their_commas_and_lines() -> None:
    long = "word, 'word'\n" * 8_000 + "end"
    assert all_text(delimited_text(f'Name,Text\nA,"{long}"\n')) == f"- Name: A; Text: {' '.join(long.split())}"


def test_two_lone_quotes_far_apart_are_characters() -> None:
    body = 'Name,Size\n"Screw 3 long,7\n' + "A,8\n" * 20_000 + '"Screw 4 long,9\n'
    lines = all_text(delimited_text(body)).splitlines()
    assert (len(lines), lines[-1]) == (20_002, '- Name: "Screw 4 long; Size: 9')


@pytest.mark.parametrize("many", [1, 20_000])
def test_a_lone_quote_is_a_character(many: int) -> None:
    body = 'Name,Size\n"Screw 3 long,7\n' + "A,8\n" * many
    assert all_text(delimited_text(body)).splitlines()[:2] == ['- Name: "Screw 3 long; Size: 7', "- Name: A; Size: 8"]


def test_excel_hint_names_the_delimiter() -> None:
    assert texts(delimited_text("sep=|\nName|Price, net\nA|1\n")) == ["- Name: A; Price, net: 1"]


def test_one_column() -> None:
    assert texts(delimited_text("Anna\nBen\n")) == ["Anna\nBen"]


def test_large_files_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(TooLarge, match="more than the 38"):
        read(b"a,b\n" * (delimited.MAX_BYTES // 4 + 1), filename="x.csv")


def test_an_endless_field_is_damage() -> None:
    with pytest.raises(MalformedDocument):
        delimited_text("a,b\n" + "x" * (2 << 20))


@settings(max_examples=60)
@given(st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=4), min_size=1, max_size=6))
def test_every_word_of_a_table_is_found(rows: list[list[str]]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["key", *row] for row in rows])
    text = "\n".join(
        block.text for block in delimited.extract_delimited(buffer.getvalue().encode("utf-8", "replace")).blocks
    )
    assert text.count("key") >= len(rows)
