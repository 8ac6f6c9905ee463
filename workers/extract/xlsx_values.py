"""Owns how a workbook's numbers look: as dates, times, percentages, or with the decimals that their format asks for."""

import math
import operator
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from workers.extract.xml_tree import attribute, whole

# The formats that are known by number alone: ECMA-376 part 1, 18.8.30
_BUILT_IN = {
    **{1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%"},
    **{
        14: "yyyy-mm-dd",
        15: "d-mmm-yy",
        16: "d-mmm",
        17: "mmm-yy",
        18: "h:mm",
        19: "h:mm:ss",
        20: "h:mm",
        21: "h:mm:ss",
    },
    **{22: "yyyy-mm-dd h:mm", 37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00", 45: "mm:ss", 46: "[h]:mm:ss"},
    **{47: "mm:ss.0"},
    # Those of Chinese, Japanese and Korean: where one's time is another's date, what is less than a day is a time.
    **dict.fromkeys((*range(27, 32), 36, 50, 51, 54, 57, 58), "yyyy-mm-dd"),
    **{32: "h:mm", 33: "h:mm:ss"},
    **dict.fromkeys((34, 35, 52, 53, 55, 56), "[<1]h:mm:ss;yyyy-mm-dd"),
}
_EPOCH, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)  # noqa: DTZ001  # a sheet's dates have no zone
_LAST_DAY = 2_958_465
_LITERAL = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[(?:\$([^\]\-]*))?[^\]]*\]')
"""What is no placeholder: texts in quotes or after a backslash, the widths of characters, currencies and colours."""
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
_DIGITS = re.compile(r"[#0?][#0?,]*(?:\.[#0?,]*)?|\.[#0?][#0?,]*")
_MORE_DIGITS = re.compile(r"[#0?]|/ *\d")
_PARTED = re.compile(r"[^.,%/eE]*")
"""Digits that only literals stand between, as in `000-00-0000`."""
_INSTEAD = {"#": "", "?": " ", "0": "0"}
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(-?\d{1,15}(?:\.\d{1,15})?)\]")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    **{"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq, "<>": operator.ne},
}
_MAX_DECIMALS, _MAX_SECTIONS = 15, 3

Formatter = Callable[[float], str]


def formatter(code: str, epoch: datetime) -> Formatter:
    """What shows numbers in this format: for dates ISO 8601, since a reader can't know which of 3/4 is the month."""
    sections = [section[:200] for section in code.split(";")[:_MAX_SECTIONS]]
    conditions = [_CONDITION.search(section) for section in sections]
    if not conditions[0]:
        return _section_formatter(sections[0], epoch)
    shows = [_section_formatter(section, epoch) for section in sections]

    def show(value: float) -> str:
        for condition, chosen in zip(conditions, shows, strict=True):
            if condition is None or _COMPARE[condition.group(1)](value, float(condition.group(2))):
                return chosen(value)
        return plain(value)

    return show


def _section_formatter(section: str, epoch: datetime) -> Formatter:
    elapsed = bool(_ELAPSED.search(section))
    bare = _LITERAL.sub("", section).casefold()
    if elapsed:
        return _duration
    if re.search(r"[ydhs]", bare) and "general" not in bare:
        return lambda value: _moment(value, epoch, bare)
    if "m" in bare and not _DIGITS.search(bare):
        return lambda value: _moment(value, epoch, bare)
    return _number_formatter(section)


def _number_formatter(section: str) -> Formatter:
    shown = _LITERAL.sub(_literal, section)
    code = _LITERAL.sub(lambda found: "\0" * len(_literal(found)), section)
    found = _DIGITS.search(code)
    if not found:
        return plain
    if _MORE_DIGITS.search(code[: found.start()] + code[found.end() :]):
        return _parted_formatter(shown, code) if _PARTED.fullmatch(code) else plain
    return _whole_formatter(shown, code, found)


def _whole_formatter(shown: str, code: str, found: re.Match[str]) -> Formatter:
    """For digits that stand together, where they were found."""
    before, after = shown[: found.start()], shown[found.end() :]
    digits, _, decimals = found.group().partition(".")
    thousands = len(digits) - len(digits.rstrip(",")) + decimals.count(",")
    least, most = (min(many, _MAX_DECIMALS) for many in (decimals.count("0"), len(decimals.replace(",", ""))))
    scale = (100 if "%" in code else 1) / 1000**thousands
    commas = "," if "," in digits.rstrip(",") else ""
    zeros = digits.count("0")
    width = zeros + (max(zeros - 1, 0) // 3 if commas else 0) + (most + 1 if most else 0)

    def show(value: float) -> str:
        number = f"{abs(value) * scale:0{width}{commas}.{most}f}"
        if most > least:
            number = number[: len(number) - (most - least)] + number[len(number) - (most - least) :].rstrip("0")
        sign = "-" if value < 0 else ""
        return f"{sign}{before}{number.removesuffix('.')}{after}".strip()

    return show


def _parted_formatter(shown: str, code: str) -> Formatter:
    """For digits parted by literals: they are filled from the last, what is left over stands before the first."""
    places = [place for place, sign in enumerate(code) if sign in _INSTEAD]

    def show(value: float) -> str:
        digits = f"{abs(value):.0f}".removeprefix("0")
        signs = list(shown)
        for place in reversed(places):
            signs[place] = digits[-1:] or _INSTEAD[code[place]]
            digits = digits[:-1]
        signs[places[0]] = digits + signs[places[0]]
        return f"{'-' if value < 0 else ''}{''.join(signs)}".strip()

    return show


def _literal(found: re.Match[str]) -> str:
    return found.group(1) or found.group(2) or found.group(3) or ""


def plain(value: float) -> str:
    """A number as a sheet shows it by default: no exponent where it can be read without, at most 15 digits."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.15g}"


def _moment(value: float, epoch: datetime, bare: str) -> str:
    if not 0 <= value <= _LAST_DAY:
        return plain(value)
    moment = epoch + timedelta(days=int(value), seconds=round((value - int(value)) * 86_400))
    clock = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
    if not re.search(r"[yd]", bare) and re.search(r"[hs]", bare):
        return clock
    timed = re.search(r"[hs]", bare) and value != int(value)
    return f"{moment:%Y-%m-%d} {clock}" if timed else f"{moment:%Y-%m-%d}"


def _duration(value: float) -> str:
    seconds = round(abs(value) * 86_400)
    return f"{'-' if value < 0 else ''}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class Formats:
    """The number formats of a workbook's cells, by the cells' style."""

    def __init__(self, styles: Any | None, *, since_1904: bool) -> None:
        self._epoch = _EPOCH_1904 if since_1904 else _EPOCH
        self._codes = dict(_BUILT_IN)
        self._styles: list[int] = []
        self._formatters: dict[int, Formatter] = {}
        if styles is not None:
            for element in styles.iter("numFmt"):
                self._codes[whole(attribute(element, "numFmtId"))] = attribute(element, "formatCode")
            for cells in styles.iterchildren("cellXfs"):
                self._styles = [whole(attribute(one, "numFmtId")) for one in cells.iterchildren("xf")]

    def show(self, number: str, style: int) -> str:
        """A cell's number, as its style shows it."""
        try:
            value = float(number)
        except ValueError:
            return number
        if not math.isfinite(value) or abs(value) > 1e300:
            return number
        form = self._styles[style] if 0 <= style < len(self._styles) else 0
        if form not in self._formatters:
            self._formatters[form] = formatter(self._codes.get(form, "General"), self._epoch)
        return self._formatters[form](value)
