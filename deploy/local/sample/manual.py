"""Typesets `manual.md`, the owner's manual of the sample company's kiln, as a PDF: the same bytes each time."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import Align, TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace, TextStyle
from fpdf.outline import OutlineSection, TableOfContents
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

TITLE = "Heron 45 Owner's Manual"
DOCUMENT = "HM-2045-7 en"
EDITION = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CONTENTS_PAGES = 2
CLAY, SLATE, SAND, WHITE = (168, 72, 31), (47, 59, 64), (246, 239, 230), (255, 255, 255)


class Manual(FPDF):
    """A5 pages with numbered chapters, and with a running header and footer except on the title page."""

    def __init__(self) -> None:
        super().__init__(format=(148, 210))
        self.numbers = (0, 0)
        self.chapter = ""
        self.set_creation_date(EDITION)
        self.set_title(TITLE)
        self.set_author("Ottermere Kilns")
        self.set_lang("en-GB")
        self.set_margins(16, 21, 16)
        self.set_auto_page_break(True, margin=20)
        self.set_section_title_styles(
            TextStyle("Helvetica", "B", 17, CLAY, l_margin=16, b_margin=4),
            TextStyle("Helvetica", "B", 11.5, SLATE, t_margin=4, l_margin=16, b_margin=2),
        )

    def header(self) -> None:
        """Maker and title."""
        self._running_line(10, "Ottermere Kilns", TITLE)
        self.set_y(self.t_margin)

    def footer(self) -> None:
        """Chapter and page number. Here and not above, since only a page's end knows the chapter that began on it."""
        self._running_line(self.h - 14, f"{DOCUMENT}  |  {self.chapter}", f"Page {self.page_no()}")

    def _running_line(self, y: float, left: str, right: str) -> None:
        if self.page_no() == 1:
            return
        self.set_y(y)
        self.set_font("Helvetica", "", 7.5)
        self.set_text_color(*SLATE)
        self.cell(self.epw * 0.7, 4, left)
        self.cell(self.epw * 0.3, 4, right, align=Align.R)

    def body(self, style: str = "") -> None:
        """Set the type of running text."""
        self.set_font("Helvetica", style, 9.5)
        self.set_text_color(0)


def write_manual(path: Path) -> None:
    """Write the manual to `path` as a PDF of A5 pages with bookmarks; `manual.md` stands beside this module."""
    source = Path(__file__).with_name("manual.md").read_text(encoding="utf-8")
    pdf = Manual()
    _title_page(pdf)
    _contents(pdf)
    for node in SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(source)).children:
        _TYPESET[node.type](pdf, node)
    pdf.output(str(path))


def _title_page(pdf: Manual) -> None:
    pdf.add_page()
    pdf.set_fill_color(*SLATE)
    pdf.rect(0, 0, pdf.w, 78, style="F")
    for y, style, size, color, text in (
        (32, "", 13, SAND, "Ottermere Kilns"),
        (46, "B", 34, WHITE, "Heron 45"),
        (92, "B", 16, CLAY, "Owner's Manual"),
        (104, "", 10.5, SLATE, "Top-loading kiln, 45 litres, up to 1,300 °C"),
        (110, "", 10.5, SLATE, "with the Sluice 3 controller, firmware 3.6 or later"),
        (180, "", 8.5, SLATE, f"{DOCUMENT}, seventh edition, March 2026. Keep it near the kiln."),
    ):
        pdf.set_xy(pdf.l_margin, y)
        pdf.set_font("Helvetica", style, size)
        pdf.set_text_color(*color)
        pdf.cell(text=text)


def _contents(pdf: Manual) -> None:
    entries = TableOfContents(TextStyle("Helvetica", "", 8.5, 0), level_indent=5, line_spacing=1.4)

    def render(contents: FPDF, outline: list[OutlineSection]) -> None:
        contents.set_font("Helvetica", "B", 17)
        contents.set_text_color(*CLAY)
        contents.set_x(contents.l_margin)
        contents.cell(text="Contents", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        contents.ln(4)
        entries.render_toc(contents, outline)

    pdf.add_page()
    pdf.chapter = "Contents"
    pdf.insert_toc_placeholder(render, pages=CONTENTS_PAGES)


def _heading(pdf: Manual, node: SyntaxTreeNode) -> None:
    chapter, section = pdf.numbers
    if node.tag == "h1":
        if chapter:  # the first chapter's page is there already, behind the contents
            pdf.add_page()
        pdf.numbers = (chapter + 1, 0)
        pdf.chapter = f"{chapter + 1}  {_text(node)}"
        pdf.start_section(pdf.chapter, level=0)
    else:
        pdf.numbers = (chapter, section + 1)
        _keep_together(pdf, 48)
        pdf.start_section(f"{chapter}.{section + 1}  {_text(node)}", level=1)


def _keep_together(pdf: Manual, height: float) -> None:
    if pdf.will_page_break(height):
        pdf.add_page()


def _paragraph(pdf: Manual, node: SyntaxTreeNode) -> None:
    pdf.body()
    pdf.multi_cell(pdf.epw, 5, _text(node), markdown=True, align=Align.L, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(2)


def _note(pdf: Manual, node: SyntaxTreeNode) -> None:
    pdf.body()
    pdf.set_fill_color(*SAND)
    pdf.set_draw_color(*CLAY)
    text = _text(node.children[0])
    pdf.multi_cell(
        pdf.epw,
        5,
        text,
        border="L",
        fill=True,
        markdown=True,
        align=Align.L,
        padding=2,
        new_x=XPos.LMARGIN,
        new_y=YPos.NEXT,
    )
    pdf.ln(3)


def _list(pdf: Manual, node: SyntaxTreeNode) -> None:
    for number, item in enumerate(node.children, start=1):
        pdf.body()
        pdf.cell(6, 5, f"{number}." if node.type == "ordered_list" else "-")
        text = _text(item.children[0])
        pdf.multi_cell(pdf.epw - 6, 5, text, markdown=True, align=Align.L, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        pdf.ln(0.8)
    pdf.ln(2)


def _table(pdf: Manual, node: SyntaxTreeNode) -> None:
    rows = [[_text(cell) for cell in row.children] for part in node.children for row in part.children]
    _keep_together(pdf, 6 * min(len(rows), 4))
    pdf.body()
    pdf.set_font_size(8)
    pdf.set_draw_color(*SLATE)
    pdf.set_fill_color(*WHITE)  # a note before leaves its own colour behind
    with pdf.table(
        col_widths=_widths(rows),
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=FontFace(emphasis="BOLD", color=SLATE, fill_color=SAND),
        line_height=4.4,
        padding=(0.8, 1),
        text_align=Align.L,
    ) as table:
        for row in rows:
            table.row(row)
    pdf.ln(4)


def _widths(rows: list[list[str]]) -> tuple[int, ...]:
    """Relative column widths: by the longest cell, within bounds that leave narrow columns legible."""
    return tuple(min(max(5, *map(len, column)), 36) + 5 for column in zip(*rows, strict=True))


def _text(node: SyntaxTreeNode) -> str:
    """The words of a node as they were written, marks for bold included."""
    return "".join(child.content for child in node.children).replace("\n", " ")


_TYPESET: dict[str, Callable[[Manual, SyntaxTreeNode], None]] = {
    "heading": _heading,
    "paragraph": _paragraph,
    "blockquote": _note,
    "bullet_list": _list,
    "ordered_list": _list,
    "table": _table,
}
