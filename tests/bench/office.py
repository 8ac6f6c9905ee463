"""Office files of known content: how much of what they say comes out of them, and of what they hide."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.bench import office_markup, office_odf, office_sheets, office_slides, office_word
from tests.bench.office_texts import Part, script
from tests.bench.office_truth import Truth, shares
from tests.workers.extract.files import read

FILES = 20
"""Of each type."""
Maker = Callable[[int, Truth], bytes]


def _text(write: Callable[[str, list[Part], str], bytes]) -> Maker:
    def make(seed: int, truth: Truth) -> bytes:
        return write(f"File {seed}", list(script(seed, truth)), truth.hide(f"The header of file {seed}"))

    return make


def _xlsx(seed: int, truth: Truth) -> bytes:
    return office_sheets.xlsx_file(f"File {seed}", list(office_sheets.sheets(seed, truth)), seed)


def _ods(seed: int, truth: Truth) -> bytes:
    return office_odf.ods_file(f"File {seed}", list(office_sheets.sheets(seed, truth)))


def _csv(seed: int, truth: Truth) -> bytes:
    return office_sheets.csv_file(office_sheets.csv_rows(seed, truth), seed)


MAKERS: dict[str, Maker] = {
    "docx": _text(office_word.docx_file),
    "pptx": office_slides.pptx_file,
    "xlsx": _xlsx,
    "odt": _text(office_odf.odt_file),
    "ods": _ods,
    "rtf": _text(office_markup.rtf_file),
    "epub": _text(office_markup.epub_file),
    "csv": _csv,
}


def measure() -> dict[str, Any]:
    """For each type: how many strings, headings, cells and hidden strings there were, and how many were kept so."""
    found = {}
    for kind, make in MAKERS.items():
        counts: Counter[str] = Counter()
        for seed in range(FILES):
            truth = Truth()
            body = make(seed, truth)
            counts += shares(truth, read(body, filename=f"file.{kind}"))
        found[kind] = dict(counts)
    return found


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    words = {
        "strings": "strings found",
        "headings": "headings at their level",
        "cells": "cells in their row under their head",
        "hidden": "hidden ones left out",
    }
    return [
        (
            f"{FILES} {kind} files",
            ", ".join(
                f"{told} {counts.get(f'{name} kept', 0)} of {counts[name]}"
                for name, told in words.items()
                if counts.get(name)
            ),
        )
        for kind, counts in result.items()
    ]
