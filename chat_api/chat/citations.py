"""Lets only citations through that were offered, also when a marker comes in pieces."""

import re

MARKER = re.compile(r"\[(\d{1,4}(?:\s*,\s*\d{1,4})*)\]")
BEGINNING = re.compile(r"\s*\[[\d,\s]{0,24}\Z")


class CitationFilter:
    """Reads an answer as it streams. Numbers beyond `offered` are dropped; `[1, 2]` becomes `[1][2]`."""

    def __init__(self, offered: int) -> None:
        self._offered = offered
        self._held = ""
        self.cited: list[int] = []
        """Numbers cited so far, in the order of their first use."""

    def feed(self, text: str) -> str:
        """What of the answer can be shown now; the beginning of a marker is held back until it is decided."""
        text = self._held + text
        beginning = BEGINNING.search(text)
        self._held = beginning[0] if beginning else ""
        return self._checked(text[: len(text) - len(self._held)])

    def finish(self) -> str:
        """What was held back, at the answer's end."""
        held, self._held = self._held, ""
        return self._checked(held)

    def _checked(self, text: str) -> str:
        return MARKER.sub(self._marker, text)

    def _marker(self, found: re.Match[str]) -> str:
        numbers = [number for number in map(int, found[1].split(",")) if 1 <= number <= self._offered]
        self.cited += [number for number in dict.fromkeys(numbers) if number not in self.cited]
        return "".join(f"[{number}]" for number in numbers)
