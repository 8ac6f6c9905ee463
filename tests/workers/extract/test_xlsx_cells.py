"""Cells of workbooks: where they stand, what their strings escape, and the formats that only numbers name."""

import pytest

from tests.workers.extract.files import all_text, read, texts
from tests.workers.extract.office import workbook


def value(number: float, form: int) -> str:
    """How a cell with a number in this format is read."""
    styles = f'<cellXfs><xf numFmtId="0"/><xf numFmtId="{form}"/></cellXfs>'
    cells = f'<c t="str"><v>v</v></c><c s="1"><v>{number}</v></c>'
    line = texts(read(workbook(f"<row>{cells}</row>", styles=styles)), "list")[0]
    return line.removeprefix("- v | ")


@pytest.mark.parametrize("form", [*range(27, 32), *range(34, 37), *range(50, 59)])
def test_east_asian_dates_are_dates(form: int) -> None:
    assert value(45292, form) == "2024-01-01"


@pytest.mark.parametrize("form", [*range(32, 36), 52, 53, 55, 56])
def test_east_asian_times_are_times(form: int) -> None:
    assert value(9.5 / 24, form) == "09:30"


def test_a_format_of_the_workbooks_own_outranks_its_number() -> None:
    styles = '<numFmts><numFmt numFmtId="30" formatCode="0.0"/></numFmts><cellXfs><xf numFmtId="30"/></cellXfs>'
    body = workbook('<row><c t="str"><v>v</v></c><c s="0"><v>45292</v></c></row>', styles=styles)
    assert texts(read(body), "list") == ["- v | 45292.0"]


def test_a_cell_without_a_place_stands_right_of_the_one_before() -> None:
    head = "".join(f'<c t="str"><v>{name}</v></c>' for name in ("Name", "Size", "Price", "Note", "Code"))
    rows = (
        '<row><c t="str"><v>A</v></c><c/><c><v>3</v></c></row>',
        '<row><c r="A3" t="str"><v>B</v></c><c r="C3"/><c t="str"><v>new</v></c><c><v>7</v></c></row>',
        '<row><c t="e"><v>#N/A</v></c><c t="str"><v>large</v></c></row>',
    )
    assert all_text(read(workbook(f"<row>{head}</row>{''.join(rows)}"))).splitlines()[1:] == [
        "- Name: A; Price: 3",
        "- Name: B; Note: new; Code: 7",
        "- Size: large",
    ]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one_x000D_\ntwo", "one two"),
        ("one_x000a_two", "one two"),
        ("_x005F_x000D_", "_x000D_"),
        ("_x00e9_t_x00E9_", "été"),
        ("part_x12_x", "part_x12_x"),
        ("_xD83D_", "_xD83D_"),
    ],
)
def test_what_strings_escape_is_read(written: str, shown: str) -> None:
    shared = f"<si><t>{written}</t></si>"
    cells = f'<c t="s"><v>0</v></c><c t="str"><v>{written}</v></c><c t="inlineStr"><is><t>{written}</t></is></c>'
    assert texts(read(workbook(f"<row>{cells}</row>", shared)), "list") == [f"- {shown} | {shown} | {shown}"]
