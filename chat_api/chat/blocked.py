"""The owner's blocked terms: seen in a question, masked in an answer, also where a term comes in pieces. Pure."""

import re
from collections.abc import Sequence
from functools import lru_cache

MASK = "•••"
_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"(?<!\w)\S")
"""The beginning of a word, of which a text has as many when its spaces are one each."""


def mentions(text: str, terms: Sequence[str]) -> bool:
    """Whether the text has one of the terms, as words of its own and in whatever case."""
    return bool(terms and _pattern(tuple(terms)).search(text))


def masked(text: str, terms: Sequence[str], *, whole: bool = True) -> str:
    """The text with each term masked. Without `whole` more may follow, so that its end is not judged yet."""
    if not terms:
        return text
    return _pattern(tuple(terms)).sub(lambda found: found[0] if not whole and found.end() == len(text) else MASK, text)


def open_from(text: str, terms: Sequence[str]) -> int:
    """Where the text's end may be the beginning of a term; the text's length when it is not."""
    if not terms:
        return len(text)
    beginnings = _beginnings(tuple(terms))
    longest = max(map(len, beginnings))
    spaced = _SPACES.sub(" ", text)
    for word, read in zip(_WORD.finditer(text), _WORD.finditer(spaced), strict=True):
        if len(spaced) - read.start() <= longest and spaced[read.start() :].lower() in beginnings:
            return word.start()
    return len(text)


@lru_cache(maxsize=64)
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(terms, key=len, reverse=True)
    written = (r"\s+".join(map(re.escape, term.split())) for term in longest_first)
    return re.compile(rf"(?<!\w)(?:{'|'.join(written)})(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=64)
def _beginnings(terms: tuple[str, ...]) -> frozenset[str]:
    """Every beginning of every term, and the whole one with the space that may follow it."""
    written = [_SPACES.sub(" ", term.strip()).lower() for term in terms]
    return frozenset(term[:length] for term in written for length in range(1, len(term) + 1))
