"""Owns what a PDF page shows beside its text: pictures and surfaces."""

import ctypes
import math
from itertools import islice
from typing import Any, NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

_MOST_OF_PAGE, _MOST_OBJECTS, _DEPTH = 0.7, 2000, 4
_BAND = 4.0
"""So wide in points, a line is a surface."""


class Area(NamedTuple):
    """A rectangle in points from the page's lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Area") -> bool:
        """Whether the two have a point in common."""
        beside = self.right < other.left or other.right < self.left
        return not (beside or self.top < other.bottom or other.top < self.bottom)


def is_pictured(page: Any) -> bool:
    """Whether images cover most of the page."""
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


def backgrounds(page: Any) -> list[Area] | None:
    """Where white text may be seen: on pictures and surfaces, or in forms; None where all over."""
    try:
        found = list(islice(page.get_objects(max_depth=1), _MOST_OBJECTS + 1))
        areas = [Area(*one.get_bounds()) for one in found if _is_background(one)]
    except pypdfium2.PdfiumError:
        return None
    return areas if len(found) <= _MOST_OBJECTS else None


def _is_background(drawn: Any) -> bool:
    # Whatever the colour: that of a pattern, such as a gradient, can't be asked for, and is told as white.
    if drawn.type == pdfium.FPDF_PAGEOBJ_PATH:
        fill, stroke = ctypes.c_int(), ctypes.c_int()
        known = pdfium.FPDFPath_GetDrawMode(drawn, ctypes.byref(fill), ctypes.byref(stroke))
        return not known or bool(fill.value) or (bool(stroke.value) and _stroke_width(drawn) >= _BAND)
    return bool(drawn.type != pdfium.FPDF_PAGEOBJ_TEXT)


def _stroke_width(path: Any) -> float:
    width = ctypes.c_float()
    return width.value if pdfium.FPDFPageObj_GetStrokeWidth(path, ctypes.byref(width)) else math.inf
