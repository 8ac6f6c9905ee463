"""Owns the dates that documents give themselves: days that machines can read, never guessed from prose."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import TypedDict

_ISO = re.compile(r"\s*(\d{4})([-/]?)(\d{2})\2(\d{2})(?:[T ]\d{2}(?::?\d{2}.{0,40})?)?\s*", re.ASCII | re.DOTALL)
_PDF = re.compile(r"\s*(?:D:)?(\d{4})()(\d{2})(\d{2})(?:\d{2,6}.{0,20})?\s*", re.ASCII | re.DOTALL)
_FIRST = date(1990, 1, 1)
"""Days before it are programs' zeros: 1601, 1899, 1970, 1980."""
_ONE_DAY = timedelta(days=1)
_LONGEST = 80
_TEMPLATES = frozenset({"2013-12-23T23:15:00Z", "2013-01-27T09:14:16Z", "2013-01-27T09:15:58Z"})
"""What python-docx and python-pptx write into every file whose author sets no date."""


class Dates(TypedDict):
    """A document's dates, as its `Document` has them."""

    published_on: date | None
    modified_on: date | None


def dates_of(published: Iterable[str | None], modified: Iterable[str | None]) -> Dates:
    """The dates that these texts name, the first readable one of each; None where there is none."""
    return {"published_on": first_day(published), "modified_on": first_day(modified)}


def first_day(texts: Iterable[str | None]) -> date | None:
    """The first of the texts that is a day, as that day."""
    return next((day for text in texts if (day := day_of(text))), None)


def day_of(text: str | None) -> date | None:
    """The day that an ISO 8601 or PDF date names where it was written, from 1990 to tomorrow; None for all else."""
    if text is None or len(text) > _LONGEST or text.strip() in _TEMPLATES:
        return None
    found = _ISO.fullmatch(text) or _PDF.fullmatch(text)
    if found is None:
        return None
    year, _, month, day = found.groups()
    try:
        named = date(int(year), int(month), int(day))
    except ValueError:
        return None
    return named if _FIRST <= named <= datetime.now(UTC).date() + _ONE_DAY else None
