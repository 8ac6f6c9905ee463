"""Owns PDF files: their text with page numbers, and what is said when there is none."""

import re
from collections.abc import Iterable

from chat_api.core.errors import NoText
from workers.documents import Document
from workers.extract.dates import dates_of
from workers.extract.pdf_furniture import without_furniture
from workers.extract.pdf_layout import blocks_of, largest_text
from workers.extract.pdf_lines import read_pdf
from workers.extract.pdf_paged import Paged
from workers.extract.scanned import WITHOUT_TEXT, ranges

_TOOL = re.compile(
    r"^(?:Microsoft (?:Word|PowerPoint|Excel)\s*-\s*)|\.(?:docx?|pptx?|xlsx?|odt|indd|pdf|tex|rtf)$", re.IGNORECASE
)
_NO_TITLE = frozenset({"", "untitled", "unbenannt", "untitled document", "document", "title", "none", "null"})


def extract_pdf(body: bytes) -> Document:
    """The PDF's text as blocks; the title may be empty.

    Raises EncryptedDocument, MalformedDocument, TooLarge, UnsupportedType for a form that only Adobe's programs
    show, and NoText with the number of pages that were seen.
    """
    paged = read_pdf(body)
    stripped = without_furniture(paged.pages)
    empty = stripped.empty
    count = len(paged.pages) + len(paged.unreadable)
    if len(empty) == len(paged.pages):
        raise NoText(
            f"There is no text to learn from: none of its {count} page(s) has a text layer; it may be a scan."
            f" Pages without text: {ranges(empty)}."
        )
    return Document(
        title=declared_title(paged) or (largest_text(paged.pages[0]) if paged.pages else ""),
        blocks=tuple(blocks_of(stripped, paged.outline)),
        media_type="application/pdf",
        language=paged.language,
        pages=count,
        warnings=tuple(_warnings(body, paged, empty)),
        **dates_of([paged.created], [paged.modified]),
    )


def _warnings(body: bytes, paged: Paged, empty: list[int]) -> Iterable[str]:
    if empty:
        yield f"{WITHOUT_TEXT}{ranges(empty)}."
    if paged.hidden:
        yield f"{paged.hidden} words that the document hides from its readers were dropped."
    if paged.unreadable:
        yield f"Damaged pages that could not be read: {ranges(paged.unreadable)}."
    if paged.repaired or b"%%EOF" not in body[-2048:]:
        yield "The file is damaged or incomplete; what could be read was taken."


def declared_title(paged: Paged) -> str:
    """The title that the file gives itself, unless that only names the program that made it."""
    title = _TOOL.sub("", " ".join(paged.title.split())).strip()
    return "" if title.casefold() in _NO_TITLE else title
