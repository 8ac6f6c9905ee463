"""Lets only citations through that were offered, also when a marker comes in pieces."""

import re

MARKER = re.compile(r"[ \t]*\[\s*(\d{1,9}(?:\s*[,;]\s*\d{1,9})*)\s*\]")
OPEN = re.compile(r"[ \t]*\[[\[\s\d,;]*\Z|[ \t]+\Z")
"""What may still become a marker, with the spaces before it, which go when it does."""
MAX_HELD = 64


class CitationFilter:
    """Reads an answer as it streams. Numbers that were not offered are dropped; `[1, 2]` becomes `[1][2]`."""

    def __init__(self, offered: int) -> None:
        """`offered`: passages are numbered from 1 to this."""
        self._offered = offered
        self._held = ""
        self.cited: list[int] = []
        """Numbers cited so far, in the order of their first use."""

    def feed(self, text: str) -> str:
        """What of the answer can be shown now; what may become a marker is held back until that is decided."""
        text = self._checked(self._held + text)
        found = OPEN.search(text)
        held = found[0] if found else ""
        if len(held) > MAX_HELD:
            # No marker is that long. Without its brackets it will never be one.
            text, held = text.removesuffix(held) + held.replace("[", ""), ""
        self._held = held
        return text.removesuffix(held) if held else text

    def finish(self) -> str:
        """What was held back, at the answer's end."""
        held, self._held = self._held, ""
        return held

    def _checked(self, text: str) -> str:
        # What is left around a dropped marker may make another one: [[9]1].
        while (checked := MARKER.sub(self._marker, text)) != text:
            text = checked
        return text

    def _marker(self, found: re.Match[str]) -> str:
        numbers = dict.fromkeys(int(number) for number in re.split("[,;]", found[1]))
        known = [number for number in numbers if 1 <= number <= self._offered]
        self.cited += [number for number in known if number not in self.cited]
        if not known:
            return ""
        space = found[0][: len(found[0]) - len(found[0].lstrip())]
        return space + "".join(f"[{number}]" for number in known)
