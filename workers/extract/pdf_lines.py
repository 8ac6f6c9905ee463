"""Owns how a PDF is read page by page: lines with their places, outline and title; pdfium reads, pypdf is the fallback."""

import ctypes
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from io import BytesIO
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from chat_api.core.errors import EncryptedDocument, MalformedDocument, TooLarge, UnsupportedType
from workers.extract.pdf_chars import box_of, cells, is_bold, is_white, space_behind_mark
from workers.extract.pdf_forms import filled_in, is_placeholder, with_values
from workers.extract.pdf_objects import Area, backgrounds, is_pictured
from workers.extract.pdf_paged import Entry, Line, Page, Paged

MAX_PAGES = 5000
_CATALOG = re.compile(rb"(\d{1,7}) 0 obj\s*<<[^>]{0,200}/Type\s*/Catalog\b")
_UNKNOWN = (NotImplementedError, DependencyError)
_DAMAGE = (
    *(PyPdfError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError),
    *(AssertionError, struct.error, zlib.error, *_UNKNOWN),
)
_CELL_GAP = 1.2
_DYNAMIC = "This is a dynamic form (XFA), which can't be read. Print it in Adobe Reader and save it as an ordinary PDF."
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{1,8})*")
_FEW_LINES = 10
"""A stamp's, and those that run over all pages."""
_TINY = 1.5
"""Points: characters' boxes of this height hold text of about one point, which is too small to read."""
_UNMAPPED = re.compile("[\ufffd\ue000-\uf8ff\x00-\x08\x0e-\x1f]")


def read_pdf(body: bytes) -> Paged:
    """The PDF's lines. Raises EncryptedDocument, MalformedDocument, TooLarge, and UnsupportedType for an XFA form."""
    if (document := _opened(body)) is not None:
        return _read(document, repaired=False)
    if (document := _opened(_with_trailer(body))) is not None:
        return _read(document, repaired=True)
    return read_with_pypdf(body)


def _opened(body: bytes) -> Any | None:
    try:
        return pypdfium2.PdfDocument(body)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise EncryptedDocument from None
        return None


def _with_trailer(body: bytes) -> bytes:
    """The body with the end that a cut file has lost, as far as its catalogue is still there."""
    found = _CATALOG.search(body)
    return body + b"\ntrailer<</Root %s 0 R>>\n%%%%EOF" % found.group(1) if found else b""


def _read(document: Any, *, repaired: bool) -> Paged:
    with closing(document):
        _open_form(document)
        title, language = document.get_metadata_value("Title"), _language(document)
        paged = Paged([], title, language, list(_outline(document)), repaired=repaired)
        paged.created, paged.modified = map(document.get_metadata_value, ("CreationDate", "ModDate"))
        for index in range(_allowed(len(document))):
            try:
                page, hidden = _page(document, index)
                paged.pages.append(page)
                paged.hidden += hidden
            except pypdfium2.PdfiumError:
                paged.unreadable.append(index + 1)
        if is_placeholder(document, paged.pages):
            raise UnsupportedType(_DYNAMIC)
    return paged


def _open_form(document: Any) -> None:
    """Before the first page is opened, or its fields can't be asked."""
    with suppress(pypdfium2.PdfiumError):
        document.init_forms()


def _allowed(count: int) -> int:
    if count > MAX_PAGES:
        raise TooLarge(f"The document has {count} pages, more than the {MAX_PAGES} that are read. Split it.")
    return count


def _language(document: Any) -> str | None:
    buffer = (ctypes.c_ushort * 36)()
    size = pdfium.FPDFCatalog_GetLanguage(document, buffer, ctypes.sizeof(buffer))
    tag = bytes(buffer)[: max(0, size - 2)].decode("utf-16-le", "ignore").lower().replace("_", "-")
    return tag if _LANGUAGE.fullmatch(tag) else None


def _outline(document: Any) -> Iterator[Entry]:
    try:
        for bookmark in document.get_toc(max_depth=6):
            target = bookmark.get_dest()
            page = target.get_index() if target else None
            if page is not None:
                yield Entry(bookmark.level + 1, bookmark.get_title(), page + 1)
    except pypdfium2.PdfiumError:
        return


def _page(document: Any, index: int) -> tuple[Page, int]:
    """The page, and how many words it hides."""
    with closing(document[index]) as page, closing(page.get_textpage()) as textpage:
        text = textpage.get_text_range()
        lines = () if _unmapped(text) else _lines(textpage, text)
        written = _filled(page, textpage, text, list(lines))
        seen = _seen(page, written)
        hidden = sum(len(line.text.split()) for line in written) - sum(len(line.text.split()) for line in seen)
        return Page(index + 1, page.get_height(), seen, 0 < len(seen) <= _FEW_LINES and is_pictured(page)), hidden


def _filled(page: Any, textpage: Any, text: str, lines: list[tuple[int, Line]]) -> tuple[Line, ...]:
    """The lines with what the page's form fields hold; a scan without any stays one, whatever was typed over it."""
    fields = filled_in(page)
    if not fields or (not lines and is_pictured(page)):
        return tuple(line for _, line in lines)
    return tuple(with_values(textpage, text, lines, fields))


def _seen(page: Any, lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """The lines without those that no reader sees: white ones on nothing, and tiny ones beside others."""
    if all(line.size <= _TINY for line in lines):  # the page's own measure is another
        return lines
    areas = backgrounds(page) if any(line.white for line in lines) else None
    return tuple(line for line in lines if not (_is_tiny(line) or _is_bare(line, areas)))


def _is_tiny(line: Line) -> bool:
    """Whether the line is too small to read; what stands upright has boxes that are as low as its letters are narrow."""
    level = abs(line.bottom - line.first_bottom) <= line.size
    return 0 < line.size <= _TINY and level


def _is_bare(line: Line, areas: list[Area] | None) -> bool:
    """Whether the line is white, with none of the areas behind it."""
    if not line.white or line.size == 0 or areas is None:
        return False
    low, high = sorted((line.first_bottom, line.bottom))
    place = Area(line.left, low, line.right, high + line.size)
    return not any(map(place.meets, areas))


def _unmapped(text: str) -> bool:
    """Whether most glyphs stand for no character: fonts without a map back to text."""
    return len(_UNMAPPED.findall(text)) * 2 > len(text)


def _lines(textpage: Any, text: str) -> Iterator[tuple[int, Line]]:
    """The lines, each behind its place in the text."""
    box, start = pdfium.FS_RECTF(), 0
    for line in text.split("\r\n"):
        stripped = line.strip()
        if stripped:
            first = start + line.index(stripped[0])
            last = first + len(stripped) - 1
            left, _, first_bottom, first_size = box_of(textpage, first, box)
            _, right, bottom, size = box_of(textpage, last, box)
            size = max(first_size, size)
            parts = cells(textpage, stripped, first, _CELL_GAP * size)
            bold, white = (here(textpage, first) and here(textpage, last) for here in (is_bold, is_white))
            shown, space = " | ".join(parts), space_behind_mark(textpage, stripped, first)
            yield first, Line(shown, left, right, first_bottom, bottom, size, len(parts) > 1, bold, white, space)
        start += len(line) + 2


def read_with_pypdf(body: bytes) -> Paged:
    """The PDF's lines without their places, for what pdfium refuses. Raises like `read_pdf`."""
    try:
        reader = PdfReader(BytesIO(body), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise EncryptedDocument
        count = _allowed(len(reader.pages))
        paged = _declared(reader)
    except _UNKNOWN:
        raise EncryptedDocument from None  # by another scheme than passwords
    except _DAMAGE:
        raise MalformedDocument from None
    for index in range(count):
        try:
            paged.pages.append(_flat_page(index + 1, reader.pages[index].extract_text()))
        except _DAMAGE:
            paged.unreadable.append(index + 1)
    if not paged.pages:
        raise MalformedDocument
    return paged


def _declared(reader: PdfReader) -> Paged:
    """What the file says of itself, without its pages."""
    title = str((reader.metadata and reader.metadata.title) or "")
    said: Any = reader.metadata or {}
    created, modified = (str(said.get(name) or "") for name in ("/CreationDate", "/ModDate"))
    return Paged([], title, repaired=True, created=created, modified=modified)


def _flat_page(number: int, text: str) -> Page:
    """A page from text alone: its places are those of a typewriter."""
    step, width, height = 12.0, 6.0, 800.0
    lines = [
        Line(line.strip(), 0.0, width * len(line.strip()), bottom, bottom, 10.0)
        for index, line in enumerate(text.splitlines())
        if line.strip() and (bottom := height - step * (index + 1)) is not None
    ]
    return Page(number, height, () if _unmapped(text) else tuple(lines))
