"""Owns the items of OpenDocument lists and their numbers, which may go on where another list ended."""

from collections.abc import Iterator
from typing import Any

from workers.extract.odf_text import text_of
from workers.extract.xml_tree import attribute, whole

_MAX_DEPTH = 8
_Count = dict[int, int]
"""The last number at each depth."""


class Numbering:
    """The list styles of a text, and the counts of its lists as they come.

    `named` is the root of the part with the document's named styles.
    """

    def __init__(self, content: Any, named: Any | None) -> None:
        parts = (content,) if named is None else (named, content)
        self._styles = {
            attribute(style, "name"): dict(map(_level, style)) for part in parts for style in part.iter("list-style")
        }
        self._by_id: dict[str, _Count] = {}
        self._by_style: dict[str, _Count] = {}

    def lines(self, element: Any) -> Iterator[str]:
        """The lines of a list that is in no other: as Markdown, an item a line."""
        style = attribute(element, "style-name")
        count = self._continued(element, style)
        self._by_style[style] = self._by_id[attribute(element, "id")] = count
        yield from self._items(element, 0, style, count)

    def _continued(self, element: Any, style: str) -> _Count:
        """The count that the list goes on with: that of the one it names, of the last of its style, or a new one."""
        if (named := attribute(element, "continue-list")) and named in self._by_id:
            return self._by_id[named]
        goes_on = attribute(element, "continue-numbering") == "true"
        return self._by_style.get(style, {}) if goes_on else {}

    def _items(self, element: Any, depth: int, style: str, count: _Count) -> Iterator[str]:
        start = self._styles.get(style, {}).get(depth)
        for item in element.iterchildren("list-item", "list-header"):
            lines = [" ".join(text_of(one).split()) for one in item.iterchildren("p")]
            mark = _mark(item, depth, start, count) if lines else ""
            if text := " ".join(filter(None, lines)):
                yield f"{'  ' * min(depth, _MAX_DEPTH)}{mark} {text}"
            for inner in item.iterchildren("list"):
                yield from self._items(inner, depth + 1, attribute(inner, "style-name") or style, count)


def _mark(item: Any, depth: int, start: int | None, count: _Count) -> str:
    """What stands before the item, which is counted."""
    for deeper in [other for other in count if other > depth]:
        del count[deeper]
    if start is None or item.tag == "list-header":
        return "-"
    begins = whole(attribute(item, "start-value"), -1)
    count[depth] = begins if begins >= 0 else count.get(depth, start - 1) + 1
    return f"{count[depth]}."


def _level(level: Any) -> tuple[int, int | None]:
    """A list style's level: its depth from 0 and what it begins with; None for bullets and for what shows no number."""
    numbered = level.tag == "list-level-style-number" and attribute(level, "num-format")
    return whole(attribute(level, "level"), 1) - 1, whole(attribute(level, "start-value"), 1) if numbered else None
