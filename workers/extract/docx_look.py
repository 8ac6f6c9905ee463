"""Owns whether a reader of a Word document sees a run: not when it is hidden, white on white, or too small to read."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple

from workers.extract.docx_styles import Styles, is_on, value_of
from workers.extract.xml_tree import attribute, whole

_WHITE = 250
"""From here on, of 255, red, green and blue are white to a reader."""
_TINY = 2
"""Half points: text of one point or less."""
_PLAIN = frozenset({"", "auto", "none", "white"})
_EFFECTS = frozenset({"textOutline", "textFill", "outline", "shadow", "glow", "emboss", "imprint"})
_SHAPES = ("anchor", "shape", "rect", "roundrect", "background")


class Look(NamedTuple):
    """What properties say of a run; None where they say nothing."""

    hidden: bool | None = None
    white: bool | None = None
    tiny: bool | None = None
    backed: bool | None = None
    """Whether it stands out from the page otherwise than by its colour."""

    def over(self, base: "Look") -> "Look":
        """Its own words, and the base's where it says nothing."""
        return Look(*(under if own is None else own for own, under in zip(self, base, strict=True)))


class Looks:
    """Tells what a document's readers see. `backdrops` gives the roots of the parts that may lay something behind text."""

    def __init__(self, styles: Styles, backdrops: Callable[[], Iterable[Any]]) -> None:
        self._styles, self._backdrops = styles, backdrops
        self._by_style: dict[str, Look] = {}

    def of_paragraph(self, paragraph: Any) -> Look:
        """What the paragraph's style says of its runs."""
        properties = paragraph.find("pPr")
        name = value_of(properties, "pStyle") if properties is not None else ""
        return self._of_style(name or self._styles.default)

    def is_seen(self, run: Any, paragraph: Look) -> bool:
        """Whether a reader sees the run, whose paragraph's style says this of it."""
        properties, look = run.find("rPr"), paragraph
        if properties is not None:
            own, named = _look(properties), self._of_style(value_of(properties, "rStyle"))
            hidden = bool(named.hidden or paragraph.hidden) if own.hidden is None else own.hidden
            look = own.over(named).over(paragraph)._replace(hidden=hidden)
        return not (look.hidden or look.tiny or (look.white and not look.backed and not self._is_backed(run)))

    def _of_style(self, name: str) -> Look:
        if name not in self._by_style:
            look = Look()
            for style in self._styles.chain(name):
                look = look.over(_look(style.find("rPr")))
            self._by_style[name] = look
        return self._by_style[name]

    def _is_backed(self, run: Any) -> bool:
        """Whether something may be behind the run: a shade of its paragraph, cell or table, a text box, a picture."""
        return self._has_backdrop or any(map(self._is_shaded, run.iterancestors("p", "tc", "tbl", "txbxContent")))

    def _is_shaded(self, element: Any) -> bool:
        properties = element.find(f"{element.tag}Pr")
        if element.tag == "txbxContent" or is_shaded(properties):
            return True
        kind = {"p": "pStyle", "tbl": "tblStyle"}.get(element.tag)
        name = value_of(properties, kind) if kind and properties is not None else ""
        return any(is_shaded(one) for style in self._styles.chain(name) for one in style.iter("pPr", "tcPr", "tblPr"))

    @cached_property
    def _has_backdrop(self) -> bool:
        return any(_is_behind(shape) for root in self._backdrops() for shape in root.iter(*_SHAPES))


def is_shaded(properties: Any | None) -> bool:
    """Whether the properties of a run, paragraph, cell or table lay another colour than white behind it."""
    shade = properties.find("shd") if properties is not None else None
    if shade is None:
        return False
    patterned = attribute(shade, "val", "clear") not in {"clear", "nil"}
    fill = attribute(shade, "fill").casefold()
    return patterned or not (fill in _PLAIN or _is_white(fill))


def _look(properties: Any | None) -> Look:
    """What a run's own properties say."""
    if properties is None:
        return Look()
    color, size = value_of(properties, "color"), whole(value_of(properties, "sz"))
    complex_script = is_on(properties, "rtl") or is_on(properties, "cs")  # of which `sz` does not speak
    return Look(
        hidden=None if properties.find("vanish") is None else is_on(properties, "vanish"),
        white=_is_white(color) if color else None,
        tiny=size <= _TINY and not complex_script if size > 0 else None,
        backed=_stands_out(properties) or None,
    )


def _stands_out(properties: Any) -> bool:
    lit = value_of(properties, "highlight").casefold() not in _PLAIN
    return lit or is_shaded(properties) or any(child.tag in _EFFECTS for child in properties)


def _is_white(color: str) -> bool:
    try:
        return len(color) == 6 and min(bytes.fromhex(color)) >= _WHITE
    except ValueError:
        return False


def _is_behind(shape: Any) -> bool:
    """Whether a drawing lies behind the text, or the page has a colour."""
    if shape.tag == "background":
        return not _is_white(attribute(shape, "color", "FFFFFF"))
    return attribute(shape, "behindDoc") in {"1", "true"} or "z-index:-" in attribute(shape, "style")
