"""Office files with known content: every string is found, headings are headings, tables are tables."""

import pytest

from tests.workers.extract.files import all_text, headings, read, texts
from tests.workers.extract.office import MAKERS, content

SEEDS = range(4)
_AS_RECORDS = {"xlsx", "ods", "csv"}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_every_known_string_is_found(kind: str) -> None:
    for seed in SEEDS:
        known = content(seed)
        text = all_text(read(MAKERS[kind](known), filename=f"file.{kind}"))
        assert [string for string in known.known() if string not in text] == []


@pytest.mark.parametrize("kind", sorted(MAKERS.keys() - _AS_RECORDS))
def test_headings_lists_and_tables_keep_their_kind(kind: str) -> None:
    known = content(5)
    document = read(MAKERS[kind](known), filename=f"file.{kind}")
    assert headings(document) == [(1, heading) for heading, _, _ in known.sections]
    assert texts(document, "list") == ["\n".join(f"- {item}" for item in items) for _, _, items in known.sections]
    rows = [f"| {' | '.join(cells)} |" for cells in known.table]
    assert texts(document, "table") == ["\n".join([rows[0], "| --- | --- | --- |", *rows[1:]])]


@pytest.mark.parametrize("kind", sorted(_AS_RECORDS))
def test_rows_say_what_their_values_are(kind: str) -> None:
    known = content(5)
    lines = all_text(read(MAKERS[kind](known), filename=f"file.{kind}")).splitlines()
    for name, price, note in known.table[1:]:
        assert f"- Name: {name}; Price: {price}; Note: {note}" in lines


@pytest.mark.parametrize("kind", ["docx", "xlsx", "pptx", "rtf", "epub"])
def test_the_title_is_the_declared_one(kind: str) -> None:
    assert read(MAKERS[kind](content(2)), filename=f"other.{kind}").title == "File number 2"


@pytest.mark.parametrize("kind", sorted(MAKERS.keys() - {"csv"}))
def test_the_type_is_told_by_the_content(kind: str) -> None:
    assert all_text(read(MAKERS[kind](content(2)), filename="page.html", media_type="text/html")) == all_text(
        read(MAKERS[kind](content(2)), filename=f"file.{kind}")
    )


def test_slides_are_pages() -> None:
    document = read(MAKERS["pptx"](content(1)))
    assert document.pages == 4
    assert [block.page for block in document.blocks if block.kind == "heading"] == [1, 2, 3]
    assert "Notes: Paragraph 1-1 says naïve, twice over." in texts(document)


def test_running_headers_are_left_out() -> None:
    assert "running header" not in all_text(read(MAKERS["docx"](content(1))))
