"""Owns what a PDF says page by page: lines with their places, outline and title; pdfium reads, pypdf is the fallback."""

import ctypes
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from chat_api.core.errors import EncryptedDocument, MalformedDocument, TooLarge

MAX_PAGES = 5000
HYPHEN = "\ufffe"
"""Where pdfium took a hyphen and a line end out of a word."""
_CATALOG = re.compile(rb"(\d{1,7}) 0 obj\s*<<[^>]{0,200}/Type\s*/Catalog\b")
_UNKNOWN = (NotImplementedError, DependencyError)
_DAMAGE = (
    *(PyPdfError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError),
    *(AssertionError, struct.error, zlib.error, *_UNKNOWN),
)
_CELL_GAP = 1.2
_MAX_RUNS = 40
_BOLD = re.compile(rb"bold|black|heavy|demi", re.IGNORECASE)
_FORCE_BOLD, _FONT_NAME = 1 << 18, 128
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{1,8})*")
_FEW_LINES = 10
"""A stamp's, and those that run over all pages."""
_MOST_OF_PAGE, _MOST_OBJECTS, _DEPTH = 0.7, 2000, 4
_SPACE = re.compile(r"\s+")
_MARK = re.compile(r"\(?[\dA-Za-z]{0,3}(?:\.\d+)*[.)]?|\W{1,2}")
_UNMAPPED = re.compile("[\ufffd\ue000-\uf8ff\x00-\x08\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text with its place in points from the page's lower left corner."""

    text: str
    left: float
    right: float
    first_bottom: float
    """The bottom of its first character's box; a word mended over a line end makes it differ from `bottom`."""
    bottom: float
    size: float
    """The height of its characters' boxes, which grows with the font's size."""
    tabular: bool = False
    """Whether it has gaps as wide as those between a table's cells, written as ` | `."""
    bold: bool = False
    """Whether it begins and ends in a bold font."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page's lines in reading order."""

    number: int
    height: float
    lines: tuple[Line, ...]
    pictured: bool = False
    """Whether images cover most of it; looked at only where there are few lines."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the outline: level from 1, title, 1-based page."""

    level: int
    title: str
    page: int


@dataclass(slots=True)
class Paged:
    """A PDF's text before it is put in order."""

    pages: list[Page]
    title: str = ""
    language: str | None = None
    """As declared, lower case."""
    outline: list[Entry] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    """Numbers of the pages that are damaged."""
    repaired: bool = False
    """Whether it could be opened only by mending it or by the fallback."""
    created: str = ""
    """As declared, like `modified`."""
    modified: str = ""


def read_pdf(body: bytes) -> Paged:
    """The PDF's lines. Raises EncryptedDocument, MalformedDocument, TooLarge."""
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
        title, language = document.get_metadata_value("Title"), _language(document)
        paged = Paged([], title, language, list(_outline(document)), repaired=repaired)
        paged.created, paged.modified = map(document.get_metadata_value, ("CreationDate", "ModDate"))
        for index in range(_allowed(len(document))):
            try:
                paged.pages.append(_page(document, index))
            except pypdfium2.PdfiumError:
                paged.unreadable.append(index + 1)
    return paged


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


def _page(document: Any, index: int) -> Page:
    with closing(document[index]) as page, closing(page.get_textpage()) as textpage:
        text = textpage.get_text_range()
        lines = () if _unmapped(text) else tuple(_lines(textpage, text))
        return Page(index + 1, page.get_height(), lines, 0 < len(lines) <= _FEW_LINES and _is_pictured(page))


def _is_pictured(page: Any) -> bool:
    try:
        found = list(islice(page.get_objects(max_depth=_DEPTH), _MOST_OBJECTS))
        covered = sum(_area(one) for one in found if one.type == pdfium.FPDF_PAGEOBJ_IMAGE)
    except pypdfium2.PdfiumError:
        return False
    return bool(covered >= _MOST_OF_PAGE * page.get_width() * page.get_height())


def _area(image: Any) -> float:
    """How much of its page an image covers, in square points."""
    left, bottom, right, top = image.get_bounds()
    area, form = (right - left) * (top - bottom), image.container
    while form is not None:
        a, b, c, d, *_ = form.get_matrix().get()
        area, form = area * abs(a * d - b * c), form.container
    return float(area)


def _unmapped(text: str) -> bool:
    """Whether most glyphs stand for no character: fonts without a map back to text."""
    return len(_UNMAPPED.findall(text)) * 2 > len(text)


def _lines(textpage: Any, text: str) -> Iterator[Line]:
    box, start = pdfium.FS_RECTF(), 0
    for line in text.split("\r\n"):
        stripped = line.strip()
        if stripped:
            first = start + line.index(stripped[0])
            left, _, first_bottom, first_size = _box(textpage, first, box)
            _, right, bottom, size = _box(textpage, first + len(stripped) - 1, box)
            size = max(first_size, size)
            cells = _cells(textpage, stripped, first, _CELL_GAP * size)
            bold = _is_bold(textpage, first) and _is_bold(textpage, first + len(stripped) - 1)
            yield Line(" | ".join(cells), left, right, first_bottom, bottom, size, len(cells) > 1, bold)
        start += len(line) + 2


def _is_bold(textpage: Any, text_index: int) -> bool:
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, text_index)
    if index < 0:
        return False
    name, flags = ctypes.create_string_buffer(_FONT_NAME), ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(textpage, index, name, _FONT_NAME, ctypes.byref(flags))
    return bool(flags.value & _FORCE_BOLD or _BOLD.search(name.value))


def _cells(textpage: Any, line: str, first: int, gap: float) -> list[str]:
    """The line cut at gaps wider than `gap` points, but for the one behind a number or bullet that it begins with."""
    if not _has_gap(textpage, first, len(line), gap):
        return [line]
    cells, start, box = [], 0, pdfium.FS_RECTF()
    for space in _SPACE.finditer(line):
        _, before, *_ = _box(textpage, first + space.start() - 1, box)
        after, *_ = _box(textpage, first + space.end(), box)
        if after - before > gap and not (start == 0 and _MARK.fullmatch(line[: space.start()])):
            cells.append(line[start : space.start()])
            start = space.end()
    return [*cells, line[start:]]


def _has_gap(textpage: Any, first: int, length: int, gap: float) -> bool:
    """Whether two of the line's runs of text stand far apart: cheap, since most lines are one run."""
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, first)
    runs = pdfium.FPDFText_CountRects(textpage, index, length) if index >= 0 else 0
    if runs < 2:
        return False
    edges = [ctypes.c_double() for _ in range(4)]
    left, top, right, bottom = edges
    end = None
    for run in range(min(runs, _MAX_RUNS)):
        pdfium.FPDFText_GetRect(textpage, run, *map(ctypes.byref, (left, top, right, bottom)))
        if end is not None and left.value - end > gap:
            return True
        end = right.value
    return False


def _box(textpage: Any, text_index: int, box: Any) -> tuple[float, float, float, float]:
    """Left, right, bottom and height of one character."""
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, text_index)
    if index < 0 or not pdfium.FPDFText_GetLooseCharBox(textpage, index, ctypes.byref(box)):
        return 0.0, 0.0, 0.0, 0.0
    return box.left, box.right, box.bottom, box.top - box.bottom


def read_with_pypdf(body: bytes) -> Paged:
    """The PDF's lines without their places, for what pdfium refuses. Raises like `read_pdf`."""
    try:
        reader = PdfReader(BytesIO(body), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise EncryptedDocument
        count = _allowed(len(reader.pages))
        title = str((reader.metadata and reader.metadata.title) or "")
        said: Any = reader.metadata or {}
        created, modified = (str(said.get(name) or "") for name in ("/CreationDate", "/ModDate"))
    except _UNKNOWN:
        raise EncryptedDocument from None  # by another scheme than passwords
    except _DAMAGE:
        raise MalformedDocument from None
    paged = Paged([], title, repaired=True, created=created, modified=modified)
    for index in range(count):
        try:
            paged.pages.append(_flat_page(index + 1, reader.pages[index].extract_text()))
        except _DAMAGE:
            paged.unreadable.append(index + 1)
    if not paged.pages:
        raise MalformedDocument
    return paged


def _flat_page(number: int, text: str) -> Page:
    """A page from text alone: its places are those of a typewriter."""
    step, width, height = 12.0, 6.0, 800.0
    lines = [
        Line(line.strip(), 0.0, width * len(line.strip()), bottom, bottom, 10.0)
        for index, line in enumerate(text.splitlines())
        if line.strip() and (bottom := height - step * (index + 1)) is not None
    ]
    return Page(number, height, () if _unmapped(text) else tuple(lines))
