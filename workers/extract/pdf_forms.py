"""Owns what was filled into a PDF's form: the text of its fields and where it stands, and forms that no page shows."""

import ctypes
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium

from workers.extract.pdf_chars import box_of
from workers.extract.pdf_paged import Line, Page

_MOST_FIELDS, _MOST_OPTIONS = 2000, 500
_UNSEEN = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_CHOICES = frozenset({pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX})
_SIZE = 10.0
_COLUMN = 12
_RULE = "_ "
"""Drawn where something is to be filled in."""


class Filled(NamedTuple):
    """What a field shows, and its rectangle in points from the page's lower left corner."""

    text: str
    left: float
    bottom: float
    right: float
    top: float


_Placed = tuple[int, Line]  # a line's place in the page's text, and the line


def filled_in(page: Any) -> list[Filled]:
    """What readers see in the page's text and choice fields, from left to right; nothing where there is no form."""
    if not page.formenv:
        return []
    count = min(pdfium.FPDFPage_GetAnnotCount(page), _MOST_FIELDS)
    found = [one for index in range(count) if (one := _field(page, index))]
    return sorted(found, key=lambda one: one.left)


def with_values(textpage: Any, text: str, lines: Sequence[_Placed], fields: Sequence[Filled]) -> list[Line]:
    """The lines with the fields' values: in the line that a field stands in or behind, else as lines of their own."""
    beside: dict[int, list[Filled]] = defaultdict(list)
    apart: list[Filled] = []
    for field in fields:
        line = _label(lines, field)
        (apart if line is None else beside[line]).append(field)
    written = [
        _completed(textpage, text, *placed, beside[index]) if index in beside else placed[1]
        for index, placed in enumerate(lines)
    ]
    size = statistics.median([line.size for line in written] or [_SIZE])
    for field in sorted(apart, key=lambda one: -one.top):
        written.insert(_place(written, field), _line(field, size))
    return written


def is_placeholder(document: Any, pages: Sequence[Page]) -> bool:
    """Whether the file only asks to be opened by Adobe's programs, which draw its form."""
    if document.get_formtype() != pdfium.FORMTYPE_XFA_FULL or len(pages) != 1:
        return False
    return any("adobe" in line.text.casefold() for line in pages[0].lines)


def _field(page: Any, index: int) -> Filled | None:
    annotation = pdfium.FPDFPage_GetAnnot(page, index)
    if not annotation:
        return None
    try:
        text = " ".join(_shown(page.formenv, annotation).split()) if _is_seen(annotation) else ""
        box = pdfium.FS_RECTF()
        if not text or not pdfium.FPDFAnnot_GetRect(annotation, ctypes.byref(box)):
            return None
        (left, right), (bottom, top) = sorted((box.left, box.right)), sorted((box.bottom, box.top))
        return Filled(text, left, bottom, right, top)
    finally:
        pdfium.FPDFPage_CloseAnnot(annotation)


def _is_seen(annotation: Any) -> bool:
    widget = pdfium.FPDFAnnot_GetSubtype(annotation) == pdfium.FPDF_ANNOT_WIDGET
    return widget and not pdfium.FPDFAnnot_GetFlags(annotation) & _UNSEEN


def _shown(form: Any, field: Any) -> str:
    """The field's text; of a choice what is shown for it; nothing for passwords, buttons and boxes."""
    kind = pdfium.FPDFAnnot_GetFormFieldType(form, field)
    if kind in _CHOICES:
        return ", ".join(_chosen(form, field)) or _string(pdfium.FPDFAnnot_GetFormFieldValue, form, field)
    secret = pdfium.FPDFAnnot_GetFormFieldFlags(form, field) & pdfium.FPDF_FORMFLAG_TEXT_PASSWORD
    if kind != pdfium.FPDF_FORMFIELD_TEXTFIELD or secret:
        return ""
    return _string(pdfium.FPDFAnnot_GetFormFieldValue, form, field)


def _chosen(form: Any, field: Any) -> Iterator[str]:
    for option in range(min(pdfium.FPDFAnnot_GetOptionCount(form, field), _MOST_OPTIONS)):
        if pdfium.FPDFAnnot_IsOptionSelected(form, field, option):
            yield _string(pdfium.FPDFAnnot_GetOptionLabel, form, field, option)


def _string(ask: Any, *arguments: Any) -> str:
    size = ask(*arguments, None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    ask(*arguments, buffer, size)
    return bytes(buffer)[: max(0, size - 2)].decode("utf-16-le", "replace")


def _label(lines: Sequence[_Placed], field: Filled) -> int | None:
    """Index of the nearest line that begins left of the field at its height, of several the highest."""
    found = [
        (round(line.left / _COLUMN), line.first_bottom, index)
        for index, (_, line) in enumerate(lines)
        if line.left < field.left and field.bottom <= line.first_bottom + line.size / 2 <= field.top
    ]
    return max(found)[2] if found else None


def _completed(textpage: Any, text: str, first: int, line: Line, fields: Sequence[Filled]) -> Line:
    """The line, which begins at `first` in the text, with the values of the fields that stand in or behind it."""
    end = text.find("\r\n", first)
    written = text[first : end if end >= 0 else None].rstrip()
    parts, at = [], 0
    for field in fields:
        to = _offset(textpage, written, first, at, field.left)
        parts += [written[at:to].strip(_RULE), field.text]
        at = to
    whole = " ".join(filter(None, (*parts, written[at:].strip(_RULE))))
    return replace(line, text=whole, right=max(line.right, fields[-1].right), tabular=True)


def _offset(textpage: Any, written: str, first: int, start: int, left: float) -> int:
    """Where in the line, from `start` on, the first character is whose middle is right of `left`."""
    box = pdfium.FS_RECTF()
    for offset in range(start, len(written)):
        begins, ends, *_ = box_of(textpage, first + offset, box)
        if not written[offset].isspace() and begins + ends > 2 * left:
            return offset
    return len(written)


def _place(lines: Sequence[Line], field: Filled) -> int:
    """Before which of the lines a field is read that stands at no other's height."""
    for index, line in enumerate(lines):
        if line.bottom < field.bottom and line.left < field.right and line.right > field.left:
            return index
    return len(lines)


def _line(field: Filled, size: float) -> Line:
    bottom = max((field.bottom + field.top - size) / 2, field.top - 1.5 * size)
    return Line(field.text, field.left, field.right, bottom, bottom, size, tabular=True)
