"""Documents made for the tests: PDFs of every condition, and what was fetched around them."""

from collections.abc import Callable
from io import BytesIO

from fpdf import FPDF
from PIL import Image
from pypdf import PdfReader, PdfWriter

from chat_api.core.errors import ServiceError
from workers.documents import Document, Fetched
from workers.extract.dispatch import extract

LONG = (
    "The tank holds two litres of cold water, and it is filled from above, which is easy when the machine stands on an"
    " open shelf and hard when there is a cupboard over it, as most people find out on the first morning."
)


class Manual(FPDF):
    """Pages with a running header, and a footer that counts them."""

    def header(self) -> None:
        """The same words on every page."""
        self.set_font("Helvetica", "I", 9)
        self.cell(0, 8, "Brewmaster 3000 - User Manual", new_x="LMARGIN", new_y="NEXT")

    def footer(self) -> None:
        """Page x of y."""
        self.set_y(-15)
        self.set_font("Helvetica", "", 8)
        self.cell(0, 10, f"Page {self.page_no()} of {{nb}}", align="C")

    def chapter(self, title: str) -> None:
        """A page that begins with a heading, in the outline too."""
        self.add_page()
        self.set_font("Helvetica", "B", 18)
        self.start_section(title)
        self.cell(0, 12, title, new_x="LMARGIN", new_y="NEXT")
        self.set_font("Helvetica", "", 11)

    def text_block(self, text: str) -> None:
        """A paragraph that wraps, and space below it."""
        self.multi_cell(0, 6, text, new_x="LMARGIN", new_y="NEXT")
        self.ln(4)


def manual(pages: int = 4, *, write: Callable[[Manual, int], None] | None = None, title: str = "") -> bytes:
    """A manual of chapters, one to a page; `write` adds to each."""
    pdf = Manual()
    if title:
        pdf.set_title(title)
    for number in range(1, pages + 1):
        pdf.chapter(
            f"{['Zero', 'One', 'Two', 'Three', 'Four', 'Five', 'Six', 'Seven', 'Eight'][number % 9]} things to know"
        )
        pdf.text_block(f"Chapter {number} is about item {number * 7}. {LONG}")
        if write:
            write(pdf, number)
    return bytes(pdf.output())


def scan(pages: int = 3) -> bytes:
    """Pages that are pictures."""
    pdf = FPDF()
    for _ in range(pages):
        pdf.add_page()
        pdf.image(Image.new("RGB", (60, 80), "grey"), x=10, y=10, w=100)
    return bytes(pdf.output())


def stamped(*stamps: str) -> bytes:
    """Scanned pages, on each of which a program has left a line of text."""
    pdf = FPDF()
    pdf.set_auto_page_break(False)
    for stamp in stamps:
        pdf.add_page()
        pdf.image(Image.new("RGB", (60, 80), "grey"), x=5, y=5, w=200, h=285)
        pdf.set_font("Helvetica", size=8)
        pdf.text(80, 288, stamp)
    return bytes(pdf.output())


def encrypted(body: bytes, password: str) -> bytes:
    """The PDF behind a password."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(body)))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-256")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def joined(*bodies: bytes) -> bytes:
    """The PDFs' pages in one."""
    writer = PdfWriter()
    for body in bodies:
        writer.append(PdfReader(BytesIO(body)))
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def page(markup: str, url: str = "https://shop.example/help/returns.html") -> Fetched:
    """An HTML page as it was fetched."""
    return Fetched(url, 200, markup.encode(), "text/html")


def read(
    body: bytes | str, *, filename: str | None = None, media_type: str | None = None, charset: str | None = None
) -> Document:
    """The document in this body, read in process."""
    data = body.encode() if isinstance(body, str) else body
    return extract(Fetched("https://shop.example/help/", 200, data, media_type, charset), filename=filename)


def outcome(body: bytes, *, filename: str | None = None) -> str:
    """`text`, or the code of the error that stands for it."""
    try:
        read(body, filename=filename)
    except ServiceError as error:
        return error.code
    return "text"


def texts(document: Document, kind: str | None = None) -> list[str]:
    """The texts of the document's blocks of one kind, or of all."""
    return [block.text for block in document.blocks if kind in {None, block.kind}]


def all_text(document: Document) -> str:
    """The document's whole text."""
    return "\n".join(texts(document))


def headings(document: Document) -> list[tuple[int, str]]:
    """The document's headings with their levels."""
    return [(block.level, block.text) for block in document.blocks if block.kind == "heading"]
