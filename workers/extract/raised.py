"""Owns how runs of office files become a line of text: digits above or below the others are no part of their number."""

_PARTS = frozenset({"num", "sup", "sub"})
"""A formula's parts that stand above or below what is before them."""

_OWN = frozenset({"", "0", "baseline"})
"""What formats call the line's own height."""


class Joined:
    """Text put together from what is added; a blank parts digits that meet at two heights."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._height = self._last_height = ""
        self._moved = False

    def __str__(self) -> str:
        return "".join(self._parts)

    def move(self, height: str) -> None:
        """What is added next stands at this height, as its format calls it."""
        self._height = "" if height in _OWN else height

    def enter(self, tag: str) -> None:
        """What is added next is this part of a formula, or none of these."""
        if tag == "den":
            self._parts.append("/")
        self._moved = self._moved or tag in _PARTS

    def add(self, text: str) -> None:
        """Text at the height that was named last."""
        if not text:
            return
        moved = self._moved or self._height != self._last_height
        if moved and text[0].isdecimal() and self._parts and self._parts[-1][-1].isdecimal():
            self._parts.append(" ")
        self._parts.append(text)
        self._last_height, self._moved = self._height, False
