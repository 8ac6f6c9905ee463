"""Owns what Tesseract's table of words says: paragraphs, without what it was not sure of."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import fmean

_COLUMNS = 12
_WORD = "5"
_LEAST_SURE = 50.0
"""The mean confidence, 0–100, below which a paragraph is taken for a picture's noise."""


def paragraphs(table: str) -> list[str]:
    """The paragraphs of a page in reading order, from Tesseract's TSV; what is malformed is left out."""
    rows = [row for line in table.splitlines() if len(row := line.split("\t", _COLUMNS - 1)) == _COLUMNS]
    words = [row for row in rows if row[0] == _WORD and row[11].strip()]
    found = []
    for _, group in groupby(words, key=lambda row: row[2:4]):
        block = list(group)
        text = " ".join(_mended([_line(line) for _, line in groupby(block, key=lambda row: row[4])]))
        if fmean(map(_sureness, block)) >= _LEAST_SURE and any(map(str.isalnum, text)):
            found.append(text)
    return found


def _line(words: Iterator[Sequence[str]]) -> str:
    return " ".join(word[11].strip() for word in words)


def _mended(lines: Sequence[str]) -> Iterator[str]:
    """The lines, a word that was parted at a line's end made one again."""
    waiting = ""
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.endswith("-") and after[:1].islower() and line[-2:-1].isalpha():
            waiting += line[:-1]
        else:
            yield waiting + line
            waiting = ""


def _sureness(word: Sequence[str]) -> float:
    try:
        return float(word[10])
    except ValueError:
        return 0.0
