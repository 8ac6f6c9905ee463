"""Counts function calls, so that a test can say how much work something may be, on whatever machine."""

import sys
from types import FrameType
from typing import Self


class TooMuchError(Exception):
    """More was called than may be."""


class Calls:
    """Counts the functions that are called meanwhile; raises TooMuchError where they are too many."""

    def __init__(self, most: int) -> None:
        self.made, self._most = 0, most

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.made += event in {"call", "c_call"}
        if self.made > self._most:
            sys.setprofile(None)
            raise TooMuchError
