"""Owns what pdfium tells of a page's characters: their places, the gaps between them, their weight and colour."""

import ctypes
import re
from typing import Any

import pypdfium2.raw as pdfium

_MAX_RUNS = 40
_BOLD = re.compile(rb"bold|black|heavy|demi", re.IGNORECASE)
_FORCE_BOLD, _FONT_NAME = 1 << 18, 128
_SPACE = re.compile(r"\s+")
_MARK = re.compile(r"\(?[\dA-Za-z]{0,3}(?:\.\d+)*[.)]?|\W{1,2}")
WHITE = 250
"""From here on, of 255, red, green and blue are white to a reader."""


def is_bold(textpage: Any, text_index: int) -> bool:
    """Whether the character's font is bold."""
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, text_index)
    if index < 0:
        return False
    name, flags = ctypes.create_string_buffer(_FONT_NAME), ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(textpage, index, name, _FONT_NAME, ctypes.byref(flags))
    return bool(flags.value & _FORCE_BOLD or _BOLD.search(name.value))


def cells(textpage: Any, line: str, first: int, gap: float) -> list[str]:
    """The line cut at gaps wider than `gap` points, but for the one behind a number or bullet that it begins with."""
    if not _has_gap(textpage, first, len(line), gap):
        return [line]
    found, start, box = [], 0, pdfium.FS_RECTF()
    for space in _SPACE.finditer(line):
        _, before, *_ = box_of(textpage, first + space.start() - 1, box)
        after, *_ = box_of(textpage, first + space.end(), box)
        if after - before > gap and not (start == 0 and _MARK.fullmatch(line[: space.start()])):
            found.append(line[start : space.start()])
            start = space.end()
    return [*found, line[start:]]


def space_behind_mark(textpage: Any, line: str, first: int) -> tuple[float, float]:
    """Where the space behind the number, bullet or short word begins and ends with which the line begins, or zeros."""
    space = _SPACE.search(line)
    if not space or not _MARK.fullmatch(line[: space.start()]):
        return 0.0, 0.0
    box = pdfium.FS_RECTF()
    _, before, *_ = box_of(textpage, first + space.start() - 1, box)
    after, *_ = box_of(textpage, first + space.end(), box)
    return before, after


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


def box_of(textpage: Any, text_index: int, box: Any) -> tuple[float, float, float, float]:
    """Left, right, bottom and height of one character."""
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, text_index)
    if index < 0 or not pdfium.FPDFText_GetLooseCharBox(textpage, index, ctypes.byref(box)):
        return 0.0, 0.0, 0.0, 0.0
    return box.left, box.right, box.bottom, box.top - box.bottom


def is_white(textpage: Any, text_index: int) -> bool:
    """Whether the character is filled with white, and drawn in no other way: not like the invisible text of scans."""
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, text_index)
    color = [ctypes.c_uint() for _ in range(4)]
    if index < 0 or not pdfium.FPDFText_GetFillColor(textpage, index, *map(ctypes.byref, color)):
        return False
    *channels, opacity = (part.value for part in color)
    if min(channels) < WHITE or not opacity:
        return False
    drawn = pdfium.FPDFText_GetTextObject(textpage, index)
    return bool(drawn) and pdfium.FPDFTextObj_GetTextRenderMode(drawn) == pdfium.FPDF_TEXTRENDERMODE_FILL
