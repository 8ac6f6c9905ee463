"""Owns a sheet's merged cells: the text of one that covers several rows is said in each of them that says more."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from workers.extract.grid import MAX_CARRIED, MAX_COLUMNS

_CELL = re.compile(rb'<(?:\w{1,20}:)?mergeCell\s[^<>]{0,100}?\bref="([A-Z]{1,3})(\d{1,7}):[A-Z]{1,3}(\d{1,7})"')
_OVERLAP = 200
_MOST = 50_000


def column_of(letters: str) -> int:
    """`C` as 2."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


class Merged:
    """The merged cells that a sheet's markup declares, of which it is told in parts."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._beginning: dict[int, dict[int, int]] = {}
        """By the row that they begin in: their columns, and the rows that they end in."""
        self._open: dict[int, tuple[int, str]] = {}
        """By their column, those that the last row was in: the row that they end in, and their text."""
        for column, first, last in islice(_found(parts), _MOST):
            if last > first and column < MAX_COLUMNS:
                self._beginning.setdefault(first, {})[column] = last

    def filled(self, number: int, cells: list[str]) -> list[str]:
        """The row of this number, with the texts of the cells that cover it from above; rows come in their order."""
        self._open = {column: one for column, one in self._open.items() if one[0] >= number}
        if any(cells):
            for column, (_, text) in self._open.items():
                cells += [""] * (column + 1 - len(cells))
                cells[column] = cells[column] or text
        for column, last in self._beginning.get(number, {}).items():
            if column < len(cells) and cells[column]:
                self._open[column] = (last, cells[column][:MAX_CARRIED])
        return cells


def _found(parts: Iterable[bytes]) -> Iterator[tuple[int, int, int]]:
    """Column, first row and last row of each merged cell; one at a part's edge perhaps twice."""
    rest = b""
    for part in parts:
        rest += part
        for letters, first, last in _CELL.findall(rest):
            yield column_of(letters.decode()), int(first), int(last)
        rest = rest[-_OVERLAP:]
