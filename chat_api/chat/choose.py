"""Chooses, of the passages that were found, those an answer is made from; and says of each other one why not. Pure."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from chat_api.chat.retrieve import Found, Passage
from chat_api.core.words import normalised

Reason = Literal["taken", "below_threshold", "duplicate", "beyond_k", "over_token_budget"]
SEPARATOR = " › "
PAGE_BONUS = 0.05
"""For passages of the page that the visitor is on, of those that are worth offering."""
SHINGLE = 3
SAME = 0.9
"""Two passages that share so many of their runs of three words say the same."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the passages are for, and how much an answer may be made from. `threshold` is on the scale of scores."""

    question: str
    k: int
    threshold: float
    tokens: int
    page_url: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A passage that was found, with its final score, and what became of it."""

    found: Found
    reason: Reason

    @property
    def taken(self) -> bool:
        """Whether the answer is made from it."""
        return self.reason == "taken"


def choose(found: Sequence[Found], wish: Wish) -> list[Choice]:
    """What becomes of each passage, best first. The best one is taken whatever its size, if it is above the threshold."""
    asked = normalised(wish.question)
    ordered = sorted((_weighed(one, asked, wish) for one in found), key=lambda one: (-one.score, one.passage.chunk_id))
    basket = _Basket(wish, frozenset(asked.split()))
    return [Choice(one, basket.judge(one)) for one in ordered]


class _Basket:
    """What is taken so far."""

    def __init__(self, wish: Wish, asked: Set[str]) -> None:
        self._wish, self._asked = wish, asked
        self._taken: list[_Words] = []
        self._tokens = 0

    def judge(self, one: Found) -> Reason:
        """Takes the passage, or says why not."""
        if one.score < self._wish.threshold:
            return "below_threshold"
        if len(self._taken) >= self._wish.k:
            return "beyond_k"
        words = _words(one.passage)
        if any(_same(words, other, self._asked) for other in self._taken):
            return "duplicate"
        if self._taken and self._tokens + one.tokens > self._wish.tokens:
            return "over_token_budget"
        self._taken.append(words)
        self._tokens += one.tokens
        return "taken"


def _weighed(one: Found, asked: str, wish: Wish) -> Found:
    """The passage with its final score: that of the owner's answer to this very question is 1."""
    passage = one.passage
    if asked and asked in {normalised(passage.heading), normalised(passage.heading.rpartition(SEPARATOR)[2])}:
        return replace(one, passage=replace(passage, score=1.0))
    if passage.score >= wish.threshold and wish.page_url and _same_page(passage.url, wish.page_url):
        return replace(one, passage=replace(passage, score=min(1.0, passage.score + PAGE_BONUS)))
    return one


def _same_page(url: str | None, page_url: str) -> bool:
    """Whether both are one page; what a visitor's address has behind `?` counts only where the page's own has it too."""
    if url is None:
        return False
    try:
        one, other = urlsplit(url), urlsplit(page_url)
    except ValueError:
        return False
    here = (one.netloc.lower(), one.path.rstrip("/")) == (other.netloc.lower(), other.path.rstrip("/"))
    return here and (not one.query or one.query == other.query)


@dataclass(frozen=True, slots=True)
class _Words:
    """A passage's words, those of its title and heading too, and the text's runs of three."""

    all: Set[str]
    runs: Set[tuple[str, ...]]


def _words(passage: Passage) -> _Words:
    words = passage.text.split()
    runs = frozenset(zip(*(words[start:] for start in range(SHINGLE)), strict=False)) or frozenset([tuple(words)])
    return _Words(frozenset(f"{passage.title} {passage.heading} {passage.text}".casefold().split()), runs)


def _same(one: _Words, other: _Words, asked: Set[str]) -> bool:
    """Whether two passages say the same: where they differ there is no number, and nothing that was asked for."""
    shared = len(one.runs & other.runs)
    if shared < SAME * (len(one.runs) + len(other.runs) - shared):
        return False
    differing = one.all ^ other.all
    return not (differing & asked or any(char.isdigit() for word in differing for char in word))
