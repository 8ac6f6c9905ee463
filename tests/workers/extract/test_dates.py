"""The days that documents give themselves: read where a machine is told them, and nowhere else."""

from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import pytest
from docx import Document as WordFile
from fpdf import FPDF
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from pptx import Presentation

from tests.workers.extract.files import page, read
from tests.workers.extract.office import zipped
from workers.documents import Document
from workers.extract.dates import day_of
from workers.extract.dispatch import extract
from workers.extract.pdf_lines import read_with_pypdf

MADE, CHANGED = date(2021, 3, 4), date(2024, 5, 6)
TEXT = "<p>" + "Parcels leave the house on the morning after the day of the order, as a rule. " * 8 + "</p>"


def dated(head: str = "", body: str = "") -> tuple[date | None, date | None]:
    """What a page with this head and beginning says of itself."""
    found = extract(page(f"<html lang='en'><head>{head}</head><body><main>{body}{TEXT}</main></body></html>"))
    return found.published_on, found.modified_on


def days_of(document: Document) -> tuple[date | None, date | None]:
    """When it was made and changed."""
    return document.published_on, document.modified_on


# --- days -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "2024-05-06", " 2024-05-06T23:59:59+14:00 ", "2024-05-06 08:00", "20240506", "2024/05/06", "D:20240506120000+01'00'",
    "20240506T080000Z", "2024-05-06T08:00:00.123456789Z", "D:20240506",
])  # fmt: skip
def test_a_day_is_read_where_it_was_written(text: str) -> None:
    assert day_of(text) == CHANGED


@pytest.mark.parametrize("text", [
    None, "", "May 6, 2024", "06.05.2024", "05/06/2024", "6/5/24", "2024", "2024-05", "2024-13-01", "2024-02-30", "1714953600",
    "0001-01-01", "1970-01-01T00:00:00Z", "1899-12-30", "9999-12-31", "2024-05-06; ignore all rules", "2024-05-06 was a day",
    "2024-05/06", "2013-12-23T23:15:00Z", "infinity", "\u0662\u0660\u0662\u0664-05-06", "2024-05-06T08:00" + "0" * 80,
])  # fmt: skip
def test_what_is_no_plain_day_is_none(text: str | None) -> None:
    assert day_of(text) is None


def test_days_to_come_are_none() -> None:
    today = datetime.now(UTC).date()
    assert day_of(today.isoformat()) == today
    assert day_of((today + timedelta(days=3)).isoformat()) is None


@given(st.text(max_size=60) | st.from_regex(r"\s?(D:)?\d{4}[-/]?\d\d[-/]?\d\d.{0,20}"))
def test_any_text_is_a_sane_day_or_none(text: str) -> None:
    day = day_of(text)
    assert day is None or date(1990, 1, 1) <= day <= datetime.now(UTC).date() + timedelta(days=1)


# --- web pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [
    '<script type="application/ld+json">{"@type": "NewsArticle", "datePublished": "2021-03-04T10:00:00+01:00",'
    ' "dateModified": "2024-05-06"}</script>',
    '<script type="application/ld+json">{"@graph": [{"@type": ["WebPage", "FAQPage"], "datePublished": "2021-03-04",'
    ' "dateModified": "2024-05-06"}, {"@type": "Organization", "datePublished": "1999-01-01"}]}</script>',
    '<meta property="article:published_time" content="2021-03-04T08:00:00Z">'
    '<meta property="og:updated_time" content="2024-05-06">',
    '<meta name="DC.date.issued" content="2021-03-04"><meta name="dcterms.modified" content="2024-05-06">',
    '<meta itemprop="datePublished" content="2021-03-04"><meta itemprop="dateModified" content="2024-05-06">',
    '<meta name="date" content="2021-03-04"><meta http-equiv="last-modified" content="2024-05-06">',
])  # fmt: skip
def test_a_page_says_when_it_was_published_and_changed(head: str) -> None:
    assert dated(head) == (MADE, CHANGED)


@pytest.mark.parametrize("body", [
    '<time itemprop="datePublished" datetime="2021-03-04">last spring</time>'
    '<time itemprop="dateModified" datetime="2024-05-06T10:00">now</time>',
    '<article itemscope itemtype="https://schema.org/Article"><time itemprop="datePublished" datetime="2021-03-04">x</time>'
    '<meta itemprop="dateModified" content="2024-05-06"><div itemprop="comment" itemscope itemtype="https://schema.org/Comment">'
    '<time itemprop="dateModified" datetime="2024-06-07">x</time></div></article>',
])  # fmt: skip
def test_elements_of_a_page_say_it_too(body: str) -> None:
    assert dated(body=body) == (MADE, CHANGED)


@pytest.mark.parametrize(("head", "body"), [
    ("", "<p>Published on 2021-03-04, updated <time>2024-05-06</time>.</p>"),
    ("", '<time datetime="2021-03-04">The battle</time>'),
    ("", '<div itemscope itemtype="https://schema.org/Event"><time itemprop="datePublished" datetime="2021-03-04">x</time></div>'),
    ("", "".join(f'<article itemscope itemtype="https://schema.org/BlogPosting"><time itemprop="datePublished"'
                 f' datetime="2021-03-0{day}">x</time></article>' for day in (3, 4))),
    ("", '<time itemprop="datePublished" datetime="2021-03-03">x</time><time itemprop="datePublished" datetime="2021-03-04">y</time>'),
    ('<script type="application/ld+json">{"@type": "WebPage", "mainEntity": {"@type": "Article",'
     ' "datePublished": "2021-03-04"}}</script>', ""),
    ('<script type="application/ld+json">{"@type": "Article", "datePublished": {"@value": "2021-03-04"}}</script>', ""),
    ('<script type="application/ld+json">{"@type": "Article", "datePublished": "4 March 2021"}</script>', ""),
])  # fmt: skip
def test_other_things_days_are_not_the_page_s(head: str, body: str) -> None:
    assert dated(head, body) == (None, None)


def test_data_come_before_elements_and_what_contradicts_itself_counts_for_nothing() -> None:
    data = '<script type="application/ld+json">{"@type": "Article", "datePublished": "%s"}</script>'
    meta = '<meta property="article:published_time" content="2021-03-04">'
    assert dated(meta + data % "2022-01-01")[0] == date(2022, 1, 1)
    assert dated(meta + data % "2022-01-01" + data % "2023-01-01")[0] == MADE


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_pdf_says_it_to_both_readers() -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica")
    pdf.cell(text="The tank holds two litres.")
    pdf.set_creation_date(datetime(2021, 3, 4, 23, 30, tzinfo=UTC))
    body = bytes(pdf.output())
    assert read(body).published_on == MADE
    assert day_of(read_with_pypdf(body).created) == MADE


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx"])
def test_an_office_file_says_it(kind: str) -> None:
    made = {"docx": WordFile, "pptx": Presentation, "xlsx": Workbook}[kind]()  # type: ignore[operator]  # three makers
    if kind == "docx":
        made.add_paragraph("The tank holds two litres.")
    elif kind == "pptx":
        made.slides.add_slide(made.slide_layouts[5]).shapes.title.text = "The tank holds two litres."
    else:
        made.active.append(["The tank holds", "two litres"])
    properties = made.properties if kind == "xlsx" else made.core_properties
    properties.created, properties.modified = datetime(2021, 3, 4), datetime(2024, 5, 6)  # noqa: DTZ001  # as these libraries want it
    buffer = BytesIO()
    made.save(buffer)
    found = days_of(read(buffer.getvalue()))
    # openpyxl writes the moment of saving.
    assert found == (MADE, CHANGED) or (kind == "xlsx" and found[0] == MADE)


def test_a_template_s_date_is_no_document_s() -> None:
    made, buffer = WordFile(), BytesIO()
    made.add_paragraph("The tank holds two litres.")
    made.save(buffer)
    assert days_of(read(buffer.getvalue())) == (None, None)


def test_an_open_document_says_it() -> None:
    office = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
    body = zipped({
        "mimetype": "application/vnd.oasis.opendocument.text",
        "meta.xml": f'<o:document-meta xmlns:o="{office}" xmlns:m="meta" xmlns:dc="dc"><o:meta>'
        "<m:creation-date>2021-03-04T10:00:00</m:creation-date><dc:date>2024-05-06T10:00:00.1</dc:date></o:meta></o:document-meta>",
        "content.xml": f'<o:document-content xmlns:o="{office}" xmlns:t="text"><o:body><o:text><t:p>The tank holds two litres.'
        "</t:p></o:text></o:body></o:document-content>",
    })  # fmt: skip
    assert days_of(read(body)) == (MADE, CHANGED)


@pytest.mark.parametrize("dates", [
    '<dc:date>2021-03-04</dc:date><meta property="dcterms:modified">2024-05-06T00:00:00Z</meta>',
    '<dc:date opf:event="modification">2024-05-06</dc:date><dc:date opf:event="publication">2021-03-04</dc:date>',
])  # fmt: skip
def test_a_book_says_it(dates: str) -> None:
    body = zipped({
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="book.opf"/></rootfiles></container>',
        "book.opf": f'<package xmlns:dc="dc" xmlns:opf="opf"><metadata>{dates}</metadata><manifest><item id="a" href="a.xhtml"'
        ' media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>',
        "a.xhtml": "<html><body><p>The tank holds two litres.</p></body></html>",
    })  # fmt: skip
    assert days_of(read(body)) == (MADE, CHANGED)


def test_front_matter_says_it() -> None:
    document = read(
        b"---\ntitle: Tank\ndate: '2021-03-04'\nlastmod: 2024-05-06 10:00:00 +0100\n---\n\n# Tank\n\nTwo litres.\n"
    )
    assert days_of(document) == (MADE, CHANGED)
