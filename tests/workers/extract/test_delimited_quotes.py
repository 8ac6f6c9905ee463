"""Quotes in delimited files: those around fields hold them together, inch marks and lone ones are characters."""

import pytest

from tests.workers.extract.files import all_text
from tests.workers.extract.test_tables import delimited_text

HEAD = "Customer,Thing,Where\n"
PIPE = '"Smith, John",5" pipe,"Kiln, Bulrush Lane"\n'


@pytest.mark.parametrize("others", [0, 1, 20, 9_000])
def test_an_inch_mark_in_a_field_leaves_quotes_their_meaning(others: int) -> None:
    body = HEAD + '"Doe, Jane",cup,"Kiln, High Street"\n' * others + PIPE + '"Doe, Ann",lid,here\n'
    lines = all_text(delimited_text(body)).splitlines()
    assert lines[others:] == [
        '- Customer: Smith, John; Thing: 5" pipe; Where: Kiln, Bulrush Lane',
        "- Customer: Doe, Ann; Thing: lid; Where: here",
    ]
    assert lines[:others] == ["- Customer: Doe, Jane; Thing: cup; Where: Kiln, High Street"] * others


@pytest.mark.parametrize(
    "rows",
    [
        ['"Smith,5" pipe,here', "Doe,cup,there", "Roe,lid,there"],
        ['"Smith,pipe,here', "Doe,cup,there", "Roe,lid,there"],
        ['"Smith,pipe,here', "Doe,cup,there", 'Roe,lid,5"', 'Poe,5" cap,here'],
        ["Smith,pipe,here", 'Doe,"cup,there', "Roe,lid,there"],
    ],
)
@pytest.mark.parametrize("before", [0, 30])
def test_a_quote_that_nothing_closes_holds_no_lines_together(rows: list[str], before: int) -> None:
    body = HEAD + "Ann,spoon,here\n" * before + "\n".join(rows)
    lines = all_text(delimited_text(body)).splitlines()
    assert len(lines) == before + len(rows)
    last = rows[-1].split(",")
    assert lines[-1] == f"- Customer: {last[0]}; Thing: {last[1]}; Where: {last[2]}"


def test_a_quote_far_from_the_one_that_seems_to_close_it_is_a_character() -> None:
    body = HEAD + "Ann,spoon,here\n" * 9_000 + '"Smith,pipe,here\n' + "Doe,cup,there\n" * 9_000
    body += 'Roe,lid,5"\nPoe,5" cap,here\n'
    assert len(all_text(delimited_text(body)).splitlines()) == 18_003
