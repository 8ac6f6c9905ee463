"""Owns what a Word paragraph is by its style: a heading, a list's item, code, or a line of the table of contents."""

import re
from collections.abc import Callable
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


def value_of(element: Any, child: str) -> str:
    """What a child such as `pStyle` says; nothing where there is none."""
    found = element.find(child)
    return attribute(found, "val") if found is not None else ""


class Styles:
    """The styles part, which may be missing. `level_of` tells which level of a list (its id) a style stands for."""

    def __init__(self, root: Any | None, level_of: Callable[[str, str], int | None]) -> None:
        found = list(root.iter("style")) if root is not None else []
        self._styles = {attribute(style, "styleId"): style for style in found}
        self._shapes: dict[str, Shape] = {}
        self._level_of = level_of
        self.default = next((attribute(style, "styleId") for style in found if _is_default(style)), "")
        """The style of paragraphs that name none."""
        self.bold = {name for name, style in self._styles.items() if is_on(style.find("rPr"), "b")}
        declared = root.find("docDefaults//lang") if root is not None else None
        self.language = language_tag(attribute(declared, "val")) if declared is not None else None

    def shape(self, paragraph: Any) -> Shape:
        """What the paragraph is by its style and by its own properties, which outrank it."""
        properties = paragraph.find("pPr")
        if properties is None:
            return Shape()
        name = value_of(properties, "pStyle")
        if name not in self._shapes:
            self._shapes[name] = self._of_style(name)
        return _refined(self._shapes[name], properties)

    def chain(self, name: str) -> list[Any]:
        """The style with this id, and those that it is based on, each after the one that is based on it."""
        chain: list[Any] = []
        while (style := self._styles.get(name)) is not None and len(chain) < _MAX_CHAIN:
            chain.append(style)
            name = value_of(style, "basedOn")
        return chain

    def _of_style(self, name: str) -> Shape:
        shape = Shape()
        for style in reversed(self.chain(name)):
            properties = style.find("pPr")
            shape = _refined(_named(shape, value_of(style, "name").casefold()), properties)
            if shape.numbering and properties is not None and properties.find("numPr") is not None:
                number, depth = shape.numbering
                level = self._level_of(number, attribute(style, "styleId"))
                shape = replace(shape, numbering=(number, depth if level is None else level))
        return shape


def _is_default(style: Any) -> bool:
    return attribute(style, "type") == "paragraph" and attribute(style, "default") in {"1", "true", "on"}


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
    if outline := value_of(properties, "outlineLvl"):
        level = whole(outline, 9)
        shape = replace(shape, level=min(level + 1, 6) if 0 <= level < 9 else 0)
    numbering = properties.find("numPr")
    if numbering is not None:
        inherited = shape.numbering or ("0", 0)
        number = value_of(numbering, "numId") or inherited[0]
        depth = whole(value_of(numbering, "ilvl"), inherited[1])
        shape = replace(shape, numbering=(number, max(0, min(depth, 8))) if number != "0" else None)
    return shape
