"""Owns the vote on a page's text: trafilatura's choice of it, asked whether it holds a block's words."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import trafilatura
from lxml import etree

from workers.extract.html_prune import words

_WORD = re.compile(r"\w+")
_PROBE, _SHARE = 6, 0.6
_CROWD, _MOST_ELEMENTS = 4000, 60_000
_MANY_CHILDREN = etree.XPath(f"descendant-or-self::*[count(*) > {_CROWD}]")
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "cite",
        "code",
        "em",
        "font",
        "i",
        "kbd",
        "label",
        "mark",
        "q",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "time",
        "u",
        "var",
    ]
)
_BROKEN = (etree.LxmlError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
_TAGS = {"item": "li", "row": "tr", "cell": "td", "lb": "br", "quote": "blockquote", "code": "pre", "ref": "span"}


def votable(tree: Any) -> bool:
    """Whether trafilatura, whose time grows with the square of what it is given, can be asked about the tree."""
    elements: float = tree.xpath("count(descendant::*)")
    return elements <= _MOST_ELEMENTS and not any(map(_crowded, _MANY_CHILDREN(tree)))


def vote_on(tree: Any) -> "Vote | None":
    """trafilatura's choice of the tree's text, or None where it finds nothing or breaks. The tree changes."""
    for cell in tree.iter("td", "th"):  # it would pad tables to their spans, and only their words count here
        cell.attrib.pop("rowspan", None)
        cell.attrib.pop("colspan", None)
    try:
        result = trafilatura.bare_extraction(tree, fast=True, include_comments=False)
    except _BROKEN:
        return None
    body = getattr(result, "body", None)
    return None if body is None else Vote(body)


def _crowded(element: Any) -> bool:
    """Whether so many inline elements stand side by side that trafilatura, quadratic in them, would take seconds."""
    return sum(child.tag in _INLINE for child in element) > _CROWD


class Vote:
    """What was chosen, as an element tree of trafilatura's; without one, nothing."""

    def __init__(self, chosen: Any | None = None) -> None:
        self._chosen = etree.Element("body") if chosen is None else chosen
        self._words = _WORD.findall(" ".join(self._chosen.itertext()).casefold())
        self.total = len(self._words)
        self._places = defaultdict[str, list[int]](list)
        for place, word in enumerate(self._words):
            self._places[word].append(place)
        self._held: dict[str, bool] = {}

    def holds(self, text: str) -> bool:
        """Whether at least half of three samples of the text (its start, middle and end) were chosen."""
        if text not in self._held:
            self._held[text] = self.total > 0 and self._holds(text)
        return self._held[text]

    def _holds(self, text: str) -> bool:
        found = _WORD.findall(text.casefold())
        middle = max(0, len(found) // 2 - _PROBE // 2)
        samples = [found[:_PROBE], found[middle : middle + _PROBE], found[-_PROBE:]]
        return bool(found) and sum(map(self._has, samples)) >= 2

    def _has(self, sample: list[str]) -> bool:
        """Whether these words stand side by side; looked for where the rarest of them is."""
        places, at = min(
            ((self._places.get(word, []), at) for at, word in enumerate(sample)), key=lambda one: len(one[0])
        )
        return any(self._words[max(0, place - at) : place - at + len(sample)] == sample for place in places)

    def is_from(self, texts: Sequence[str]) -> bool:
        """Whether these texts, of all the page's elements, have most of the words that were chosen."""
        least = _SHARE * self.total
        if sum(words(text) for text in texts if self.holds(text)) >= least:
            return True
        met = Counter(_WORD.findall(" ".join(texts).casefold()))
        return sum(min(count, len(self._places.get(word, ()))) for word, count in met.items()) >= least

    def as_html(self) -> Any:
        """The choice with the tags of HTML."""
        for element in self._chosen.iter():
            if element.tag == "head":
                element.tag = element.get("rend") if re.fullmatch("h[1-6]", element.get("rend") or "") else "h2"
            elif element.tag == "list":
                element.tag = "ol" if element.get("rend") == "ol" else "ul"
            elif element.tag == "cell" and element.get("role") == "head":
                element.tag = "th"
            else:
                element.tag = _TAGS.get(element.tag, element.tag)
        return self._chosen
