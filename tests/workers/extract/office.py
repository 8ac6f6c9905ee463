"""Office files with known content, made by the libraries that others make them with."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import docx
import openpyxl
import pptx
from odf import opendocument, table, text
from pptx.util import Inches

EPUB_CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


@dataclass(frozen=True, slots=True)
class Content:
    """What a file is to say."""

    title: str
    sections: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Heading, paragraph, list items."""
    table: tuple[tuple[str, ...], ...]

    def known(self) -> Iterator[str]:
        """All strings that a reader must find."""
        for heading, paragraph, items in self.sections:
            yield from (heading, paragraph, *items)
        for row in self.table:
            yield from row


def content(seed: int) -> Content:
    """The content of the file with this number: each another mixture of lengths, scripts and signs."""
    words = ("Kaffee", "größe", "Фильтр", "咖啡机", "naïve", "été", "tank & lid", "a < b", "50 %", "§ 4")
    sections = tuple(
        (
            f"Part {seed}.{number} {words[(seed + number) % len(words)]}",
            f"Paragraph {seed}-{number} says {words[(seed * 3 + number) % len(words)]}, twice over.",
            tuple(f"Item {seed}-{number}-{place} {words[place]}" for place in range(number % 3 + 1)),
        )
        for number in range(1, 3 + seed % 5)
    )
    rows = tuple((f"Thing {seed}-{row}", f"{row * seed + 0.5:.2f}", words[row % 10]) for row in range(1, 4 + seed % 7))
    return Content(f"File number {seed}", sections, (("Name", "Price", "Note"), *rows))


def make_docx(content: Content) -> bytes:
    """A Word document, by python-docx."""
    made = docx.Document()
    made.core_properties.title = content.title
    made.sections[0].header.paragraphs[0].text = "running header"
    for heading, paragraph, items in content.sections:
        made.add_heading(heading, 1)
        made.add_paragraph(paragraph)
        for item in items:
            made.add_paragraph(item, style="List Bullet")
    grid = made.add_table(len(content.table), len(content.table[0]))
    for row, cells in enumerate(content.table):
        for column, cell in enumerate(cells):
            grid.cell(row, column).text = cell
    return _saved(made.save)


def make_xlsx(content: Content) -> bytes:
    """A workbook by openpyxl: a sheet of sections, one of the table with real numbers and a date."""
    made = openpyxl.Workbook()
    made.properties.title = content.title
    first = made.worksheets[0]
    first.title = "Sections"
    first.append(["Heading", "Text", "Items"])
    for heading, paragraph, items in content.sections:
        first.append([heading, paragraph, "; ".join(items)])
    second = made.create_sheet("Prices")
    second.append(content.table[0])
    for name, price, note in content.table[1:]:
        second.append([name, float(price), note])
        second.cell(second.max_row, 2).number_format = "0.00"
    made.create_sheet("Dates").append([date(2024, 3, 1)])
    return _saved(made.save)


def workbook(rows: str, shared: str = "", prolog: str = "", styles: str = "") -> bytes:
    """A workbook of one sheet, from the markup of its rows and shared strings, without any namespace but ids'."""
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    parts = {"worksheet": "worksheets/sheet1.xml", "sharedStrings": "sharedStrings.xml", "styles": "styles.xml"}
    related = "".join(
        f'<Relationship Id="r{number}" Type="{kind}/{name}" Target="{target}"/>'
        for number, (name, target) in enumerate(parts.items())
    )
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "xl/workbook.xml": f'<workbook xmlns:r="{kind}"><sheets><sheet name="S" r:id="r0"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f"<Relationships>{related}</Relationships>",
            "xl/worksheets/sheet1.xml": f"<worksheet><sheetData>{rows}</sheetData></worksheet>",
            "xl/sharedStrings.xml": f"{prolog}<sst>{shared}</sst>",
            "xl/styles.xml": f"<styleSheet>{styles}</styleSheet>",
        }
    )


def make_pptx(content: Content) -> bytes:
    """A presentation by python-pptx: a slide to a section, then one with the table."""
    made = pptx.Presentation()
    made.core_properties.title = content.title
    for heading, paragraph, items in content.sections:
        slide = made.slides.add_slide(made.slide_layouts[1])
        assert slide.shapes.title is not None
        slide.shapes.title.text = heading
        slide.placeholders[1].text = "\n".join(items)
        frame = slide.notes_slide.notes_text_frame
        assert frame is not None
        frame.text = paragraph
    shapes = made.slides.add_slide(made.slide_layouts[6]).shapes
    rows, columns = len(content.table), len(content.table[0])
    grid = shapes.add_table(rows, columns, Inches(1), Inches(1), Inches(6), Inches(3)).table
    for row, cells in enumerate(content.table):
        for column, cell in enumerate(cells):
            grid.cell(row, column).text = cell
    return _saved(made.save)


def make_odt(content: Content) -> bytes:
    """An OpenDocument text, by odfpy."""
    made = opendocument.OpenDocumentText()
    for heading, paragraph, items in content.sections:
        made.text.addElement(text.H(outlinelevel=1, text=heading))
        made.text.addElement(text.P(text=paragraph))
        listed = text.List()
        for item in items:
            entry = text.ListItem()
            entry.addElement(text.P(text=item))
            listed.addElement(entry)
        made.text.addElement(listed)
    made.text.addElement(_odf_table("Prices", content.table))
    return _saved(made.save)


def make_ods(content: Content) -> bytes:
    """An OpenDocument spreadsheet, by odfpy."""
    made = opendocument.OpenDocumentSpreadsheet()
    sections = [(heading, paragraph, "; ".join(items)) for heading, paragraph, items in content.sections]
    made.spreadsheet.addElement(_odf_table("Sections", [("Heading", "Text", "Items"), *sections]))
    made.spreadsheet.addElement(_odf_table("Prices", content.table))
    return _saved(made.save)


def _odf_table(name: str, rows: Sequence[Sequence[str]]) -> object:
    made = table.Table(name=name)
    for cells in rows:
        row = table.TableRow()
        for cell in cells:
            one = table.TableCell(valuetype="string")
            one.addElement(text.P(text=cell))
            row.addElement(one)
        made.addElement(row)
    return made


def make_rtf(content: Content) -> bytes:
    """An RTF document as Word writes one: styles, Unicode escapes, table rows."""
    lines = [
        r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss\fcharset0 Arial;}}{\stylesheet{\s0 Normal;}{\s1 heading 1;}}"
    ]
    lines.append(rf"{{\info{{\title {_rtf(content.title)}}}}}")
    for heading, paragraph, items in content.sections:
        lines.append(rf"\pard\s1 {_rtf(heading)}\par\pard\s0 {_rtf(paragraph)}\par")
        lines += [rf"{{\listtext\'b7\tab}}\pard\ls1 {_rtf(item)}\par" for item in items]
    for row in content.table:
        lines.append(rf"\trowd\pard\intbl {' '.join(_rtf(cell) + chr(92) + 'cell' for cell in row)}\row")
    return "\r\n".join([*lines, r"\pard\par}"]).encode("ascii")


def _rtf(text: str) -> str:
    units = text.encode("utf-16-le")
    codes = [int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else rf"\u{code - 65536 if code > 32767 else code}?" for code in codes)


def make_epub(content: Content) -> bytes:
    """A book with a chapter to a section, in an order that only the spine tells."""
    chapters = {
        f"c{len(content.sections) - number}.xhtml": f"<h1>{_xml(heading)}</h1><p>{_xml(paragraph)}</p><ul>"
        + "".join(f"<li>{_xml(item)}</li>" for item in items)
        + "</ul>"
        for number, (heading, paragraph, items) in enumerate(content.sections)
    }
    rows = "".join(f"<tr>{''.join(f'<td>{_xml(cell)}</td>' for cell in row)}</tr>" for row in content.table)
    rows = rows.replace("td>", "th>", 2 * len(content.table[0]))
    chapters["last.xhtml"] = f"<table>{rows}</table>"
    items = "".join(
        f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in sorted(chapters)
    )
    spine = "".join(f'<itemref idref="{name}"/>' for name in chapters)
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{_xml(content.title)}</dc:title><dc:language>en</dc:language></metadata>"
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    page = (
        "<!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'><head><title>x</title></head><body>{}</body></html>"
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": EPUB_CONTAINER,
            "OPS/book.opf": opf,
            **{f"OPS/{name}": page.format(body) for name, body in chapters.items()},
        }
    )


def make_csv(content: Content) -> bytes:
    """The table as Excel exports it in Germany."""
    rows = [
        *content.table,
        *(("section", heading, f"{text} {', '.join(items)}") for heading, text, items in content.sections),
    ]
    quoted = "\r\n".join(";".join(f'"{cell}"' for cell in row) for row in rows)
    return quoted.encode("utf-8-sig")


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A zip file of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return buffer.getvalue()


def repacked(body: bytes, changes: Mapping[str, str | bytes]) -> bytes:
    """The zip file with members replaced or added."""
    with zipfile.ZipFile(io.BytesIO(body)) as made:
        members: dict[str, str | bytes] = {name: made.read(name) for name in made.namelist()}
    return zipped({**members, **changes})


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


MAKERS: dict[str, Callable[[Content], bytes]] = {
    "docx": make_docx,
    "xlsx": make_xlsx,
    "pptx": make_pptx,
    "odt": make_odt,
    "ods": make_ods,
    "rtf": make_rtf,
    "epub": make_epub,
    "csv": make_csv,
}
