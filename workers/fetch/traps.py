"""Addresses without end: those that give themselves away, and those whose pages bring nothing new."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from workers.fetch.urls import Url

READ_FIRST: Final = 150
"""So many pages of a shape are read before it is judged."""
FRUITLESS_SHARE: Final = 0.9

_DEEPEST, _MOST_PARAMETERS, _SAME_PARAMETER = 30, 12, 4
_SAME_SEGMENT: Final = 4
_TEXTS_KEPT, _SHAPES_KEPT = 48, 300
_FEW_WORDS: Final = 8
_CIRCLE = re.compile(r"((?:/[^/]+){1,4}?)\1\1(?:/|\Z)")
_DIGITS = re.compile(r"[0-9]+")
_WORD = re.compile(r"[^\W\d_]+")


def runs_in_circles(url: Url) -> bool:
    """Whether the address alone shows that it has no end: segments that come again and again, heaps of parameters."""
    segments = [segment for segment in url.path.split("/") if segment]
    names = Counter(pair.partition("=")[0] for pair in url.query.split("&") if pair)
    repeated = Counter(segment for segment in segments if not segment.isdecimal())
    return (
        len(segments) > _DEEPEST
        or names.total() > _MOST_PARAMETERS
        or max(names.values(), default=0) >= _SAME_PARAMETER
        or max(repeated.values(), default=0) >= _SAME_SEGMENT
        or bool(_CIRCLE.search(url.path))
    )


def shape_of(url: Url) -> str | None:
    """What addresses that a program counts out have in common; None where nothing is counted."""
    shape = _DIGITS.sub("#", url.path)
    names = sorted({pair.partition("=")[0] for pair in url.query.split("&") if pair})
    if names:
        return f"{shape}?{'&'.join(names)}"
    return shape if shape != url.path else None


def sketch_of(texts: Iterable[str], url: Url) -> str:
    """A page's text without figures and without what repeats its address, as 8 characters; "" for next to no text."""
    echoed = set(_WORD.findall(url.target.casefold()))
    words = [word for text in texts for word in _WORD.findall(text.casefold()) if word not in echoed]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:8] if len(words) >= _FEW_WORDS else ""


class Shapes:
    """How many pages of each shape were read, how many of them for nothing, and what the others' texts were."""

    def __init__(self, stored: Mapping[str, tuple[int, int, list[str]]] | None = None) -> None:
        self._seen = {
            shape: (read, fruitless, list(texts)) for shape, (read, fruitless, texts) in (stored or {}).items()
        }

    @property
    def stored(self) -> dict[str, tuple[int, int, list[str]]]:
        """As JSON has it, for `Shapes` to go on with."""
        return self._seen

    def note(self, url: Url, sketch: str) -> None:
        """Counts a page that was read."""
        shape = shape_of(url)
        if shape is None or (shape not in self._seen and len(self._seen) >= _SHAPES_KEPT):
            return
        read, fruitless, texts = self._seen.get(shape, (0, 0, []))
        new = bool(sketch) and sketch not in texts
        if new and len(texts) < _TEXTS_KEPT:
            texts.append(sketch)
        self._seen[shape] = (read + 1, fruitless + (not new), texts)

    def exhausted(self, url: Url) -> bool:
        """Whether so many pages of this shape brought nothing new that the others are left out."""
        read, fruitless, _ = self._seen.get(shape_of(url) or "", (0, 0, []))
        return read >= READ_FIRST and fruitless >= FRUITLESS_SHARE * read
