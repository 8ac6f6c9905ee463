"""Owns the numbers that Word shows before headings, clauses and list items: their forms, restarts and common counts."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from workers.documents import Block
from workers.extract.docx_styles import is_on, value_of
from workers.extract.xml_tree import attribute, whole

_PLACE = re.compile(r"%([1-9])")
_ITEM = re.compile(r"[(\[]?%[1-9][)\].:]{0,2}")
"""What stands before a list's item: the number of its own level, and no word."""
_MARKDOWN = re.compile(r"[0-9]{1,9}[.)]")
_MAX_TEXT = 60
_MAX_LETTERS, _MAX_ROMAN = 780, 3999
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x")),
    *((9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


class Label(NamedTuple):
    """What stands before a numbered paragraph: `text` as Word shows it, empty for a bullet."""

    text: str
    depth: int
    clause: bool
    """Whether it names a place in the document, such as `4.2` or `Article 4`, and not only one in its list."""

    def before(self, text: str) -> str:
        """The text behind its number."""
        return f"{self.text} {text}".strip()

    def block(self, text: str) -> Block:
        """The paragraph with this text: a clause is one, others are items of a Markdown list."""
        if self.clause:
            return Block("paragraph", self.before(text))
        mark = "" if _MARKDOWN.fullmatch(self.text) else "- "
        return Block("list", f"{'  ' * self.depth}{mark}{self.before(' '.join(text.split()))}")


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of a list: `text` has `%1` for the number of the first level."""

    form: str
    text: str
    start: int
    restart: int
    """It begins anew after an item of a level above this one, counted from 0: after none where that is 0."""
    legal: bool
    """Whether all numbers in it are decimal."""
    style: str
    """The paragraph style that stands for it."""


@dataclass(slots=True)
class _List:
    levels: Mapping[int, _Level]
    family: str
    """What it shares its counts with."""
    anew: dict[int, int]
    """By level, what it begins with at its first item there."""


class Numbering:
    """The numbering part, which may be missing; counts the items of each list as they come."""

    def __init__(self, root: Any | None) -> None:
        self._lists: dict[str, _List] = {}
        self._counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
        if root is None:
            return
        abstract = {attribute(element, "abstractNumId"): element for element in root.iter("abstractNum")}
        named = {name: key for key, element in abstract.items() if (name := value_of(element, "styleLink"))}
        levels = {key: dict(map(_level, element.iterchildren("lvl"))) for key, element in abstract.items()}
        for element in root.iter("num"):
            family = value_of(element, "abstractNumId")
            if family in abstract:
                family = named.get(value_of(abstract[family], "numStyleLink"), family)
            changed = dict(map(_level, element.iterfind("lvlOverride/lvl")))
            known = levels.get(family, {}) | changed
            self._lists[attribute(element, "numId")] = _List(known, family, _anew(element))

    def level_of(self, number: str, style: str) -> int | None:
        """The level for which a paragraph style stands in the list with this id."""
        levels = self._lists[number].levels if number in self._lists else {}
        return next((depth for depth, level in levels.items() if level.style == style), None)

    def next(self, number: str, depth: int) -> Label:
        """The label of the next item of the list with this id, at a depth from 0; it is counted."""
        listed = self._lists.get(number)
        level = listed.levels.get(depth) if listed else None
        if listed is None or level is None:
            return Label("", depth, clause=False)
        counts = self._counts[listed.family]
        _count(counts, listed, depth)
        shown = _shown(level, listed.levels, counts)
        return Label(shown, depth, clause=bool(shown) and not _ITEM.fullmatch(level.text))


def _level(element: Any) -> tuple[int, _Level]:
    """A level's depth from 0, and what it declares."""
    depth = whole(attribute(element, "ilvl"))
    text = element.find("lvlText")
    return depth, _Level(
        form=value_of(element, "numFmt") or "decimal",
        text=attribute(text, "val")[:_MAX_TEXT].strip() if text is not None else f"%{depth + 1}.",
        start=whole(value_of(element, "start"), 1),
        restart=whole(value_of(element, "lvlRestart"), depth),
        legal=is_on(element, "isLgl"),
        style=value_of(element, "pStyle"),
    )


def _anew(element: Any) -> dict[int, int]:
    return {
        whole(attribute(one, "ilvl")): whole(value_of(one, "startOverride"), 1)
        for one in element.iterchildren("lvlOverride")
        if one.find("startOverride") is not None
    }


def _count(counts: dict[int, int], listed: _List, depth: int) -> None:
    """Counts an item: levels above that have none yet begin, and those below begin anew."""
    levels = listed.levels
    for above in range(depth):
        counts.setdefault(above, levels[above].start if above in levels else 1)
    counts[depth] = listed.anew.pop(depth, counts.get(depth, levels[depth].start - 1) + 1)
    for deeper in [other for other in counts if other > depth]:
        if deeper not in levels or depth < levels[deeper].restart:
            del counts[deeper]


def _shown(level: _Level, levels: Mapping[int, _Level], counts: Mapping[int, int]) -> str:
    if level.form == "bullet":
        return ""

    def number(found: re.Match[str]) -> str:
        depth = int(found.group(1)) - 1
        if depth not in levels or depth not in counts:
            return ""
        return _numeral("decimal" if level.legal else levels[depth].form, counts[depth])

    return _PLACE.sub(number, level.text)


def _numeral(form: str, number: int) -> str:
    """The number in a form of ST_NumberFormat; in decimal where the form is none that is known here."""
    if form in {"none", "bullet"}:
        return ""
    return _FORMS[form](number) if form in _FORMS else str(number)


def _letters(number: int) -> str:
    """A to Z, then AA to ZZ, then AAA."""
    if not 0 < number <= _MAX_LETTERS:
        return str(number)
    return chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)


def _roman(number: int) -> str:
    if not 0 < number <= _MAX_ROMAN:
        return str(number)
    parts = []
    for worth, sign in _ROMAN:
        parts.append(sign * (number // worth))
        number %= worth
    return "".join(parts)


_FORMS: dict[str, Callable[[int], str]] = {
    "lowerLetter": _letters,
    "upperLetter": lambda number: _letters(number).upper(),
    "lowerRoman": _roman,
    "upperRoman": lambda number: _roman(number).upper(),
    "decimalZero": lambda number: f"{number:02}",
}
