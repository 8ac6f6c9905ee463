"""Owns what a Word paragraph is by its style: a heading, a list's item, code, or a line of the table of contents."""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from workers.extract.xml_tree import attribute, language_tag, whole

_HEADING = re.compile(r"heading (\d)")
_CONTENTS = re.compile(r"toc (?:\d|heading)|table of figures|index \d")
_CODE = re.compile(r"code|preformatted|listing|source text")
_MAX_CHAIN = 16
_OFF = frozenset({"0", "false", "off", "none"})


@dataclass(frozen=True, slots=True)
class Shape:
    """What a paragraph is: `level` 1–6 for a heading, `numbering` the list's id and its depth from 0."""

    level: int = 0
    title: bool = False
    contents: bool = False
    code: bool = False
    numbering: tuple[str, int] | None = None


def is_on(properties: Any | None, name: str) -> bool:
    """Whether a switch such as `b` or `vanish` is set among the properties."""
    switch = properties.find(name) if properties is not None else None
    return switch is not None and attribute(switch, "val", "1") not in _OFF


class Styles:
    """The styles part, which may be missing."""

    def __init__(self, root: Any | None) -> None:
        found = root.iter("style") if root is not None else ()
        self._styles = {attribute(style, "styleId"): style for style in found}
        self._shapes: dict[str, Shape] = {}
        self.hidden = {name for name, style in self._styles.items() if is_on(style.find("rPr"), "vanish")}
        """Ids of the styles whose text is not shown."""
        self.bold = {name for name, style in self._styles.items() if is_on(style.find("rPr"), "b")}
        declared = root.find("docDefaults//lang") if root is not None else None
        self.language = language_tag(attribute(declared, "val")) if declared is not None else None

    def shape(self, paragraph: Any) -> Shape:
        """What the paragraph is by its style and by its own properties, which outrank it."""
        properties = paragraph.find("pPr")
        if properties is None:
            return Shape()
        name = _value(properties, "pStyle")
        if name not in self._shapes:
            self._shapes[name] = self._of_style(name)
        return _refined(self._shapes[name], properties)

    def _of_style(self, name: str) -> Shape:
        chain: list[Any] = []
        while (style := self._styles.get(name)) is not None and len(chain) < _MAX_CHAIN:
            chain.append(style)
            name = _value(style, "basedOn")
        shape = Shape()
        for style in reversed(chain):
            shape = _refined(_named(shape, _value(style, "name").casefold()), style.find("pPr"))
        return shape


def _named(shape: Shape, name: str) -> Shape:
    if found := _HEADING.fullmatch(name):
        return replace(shape, level=min(int(found.group(1)), 6) or 1)
    if name == "title":
        return replace(shape, level=1, title=True)
    if _CONTENTS.fullmatch(name):
        return replace(shape, contents=True, level=0)
    return replace(shape, code=True) if _CODE.search(name) else shape


def _refined(shape: Shape, properties: Any | None) -> Shape:
    if properties is None:
        return shape
    if outline := _value(properties, "outlineLvl"):
        level = whole(outline, 9)
        shape = replace(shape, level=min(level + 1, 6) if 0 <= level < 9 else 0)
    numbering = properties.find("numPr")
    if numbering is not None:
        inherited = shape.numbering or ("0", 0)
        number = _value(numbering, "numId") or inherited[0]
        depth = whole(_value(numbering, "ilvl"), inherited[1])
        shape = replace(shape, numbering=(number, max(0, min(depth, 8))) if number != "0" else None)
    return shape


def _value(element: Any, child: str) -> str:
    found = element.find(child)
    return attribute(found, "val") if found is not None else ""


class Numbering:
    """The numbering part, which may be missing; counts the items of each list."""

    def __init__(self, root: Any | None) -> None:
        self._levels: dict[str, dict[int, tuple[str, int]]] = {}
        self._abstract: dict[str, str] = {}
        self._counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
        if root is None:
            return
        for element in root.iter("abstractNum"):
            self._levels[attribute(element, "abstractNumId")] = {
                whole(attribute(level, "ilvl")): (_value(level, "numFmt"), whole(_value(level, "start"), 1))
                for level in element.iter("lvl")
            }
        for element in root.iter("num"):
            self._abstract[attribute(element, "numId")] = _value(element, "abstractNumId")

    def mark(self, numbering: tuple[str, int] | None) -> str:
        """What stands before the list's next item, which is counted; nothing for what is no item."""
        if numbering is None:
            return ""
        name, depth = numbering
        form, start = self._levels.get(self._abstract.get(name, ""), {}).get(depth, ("bullet", 1))
        indent = "  " * depth
        if form in {"bullet", "none", ""}:
            return f"{indent}- "
        counts = self._counts[name]
        for deeper in [level for level in counts if level > depth]:
            del counts[deeper]
        counts[depth] = counts.get(depth, start - 1) + 1
        return f"{indent}{counts[depth]}. "
