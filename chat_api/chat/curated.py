"""Finds the owner's own answer to a question: asked in the same words, or in nearly the same. Pure."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from chat_api.core.bot_config import CuratedAnswer
from chat_api.core.words import normalised, words_of

_FILLERS = """
    a an the your our is are do does can could would please there any hello hi
    der die das den dem des ein eine einen einem einer euer eure eurem euren ihr ihre ihren ihrem ist sind gibt es bitte
    le la les un une des votre vos est sont il y a vous bonjour
    el los las una su sus es por favor hola
    lo gli uno vostro vostra è sono ciao
    de het een uw jullie zijn er
    o os as um uma seu sua são há olá
"""
FILLERS = frozenset(_FILLERS.split())
"""Words of which one may stand for another, or be left out, in the same question. None of them says no, where or whose."""
LONG = 6
"""Letters from which on a word may have a slip of the pen: shorter ones are too near to others."""
ENDINGS = frozenset({"s", "es", "e", "n", "en"})
"""What may end one of two words and not the other: these rarely make another thing of it, as "or" and "er" do."""

_DOUBLED = re.compile(r"(.)\1+")


def find_curated(question: str, answers: Sequence[CuratedAnswer]) -> CuratedAnswer | None:
    """The owner's answer: to the same words first, else to words that differ in fillers and spelling alone."""
    asked = normalised(question)
    if not asked:
        return None
    exact = next((answer for answer in answers if _known(answer.question).normalised == asked), None)
    if exact:
        return exact
    telling = _telling(asked)
    return next((answer for answer in answers if _near(telling, _known(answer.question))), None)


class _Known(NamedTuple):
    """What a curated question is compared by."""

    normalised: str
    telling: tuple[str, ...]
    names: frozenset[str]


@lru_cache(maxsize=10_000)
def _known(question: str) -> _Known:
    return _Known(normalised(question), _telling(question), _names(question))


def _near(telling: tuple[str, ...], known: _Known) -> bool:
    """Whether both have the same words in the same order, apart from fillers and slips of the pen; one of them at least."""
    other = known.telling
    if not telling or len(telling) != len(other):
        return False
    if sorted(telling) == sorted(other):
        # A change of order may turn a question round ("from a to b"); two or three words have room for none.
        return telling == other or len(telling) <= 3
    return all(_alike(one, two, two in known.names) for one, two in zip(telling, other, strict=True))


def _telling(question: str) -> tuple[str, ...]:
    return tuple(word for word in words_of(question) if word not in FILLERS)


def _names(question: str) -> frozenset[str]:
    """The words with a capital behind the first, in lower case: an ending may make another name of a name."""
    return frozenset(words_of(" ".join(word for word in question.split()[1:] if word != word.lower())))


def _alike(one: str, two: str, is_name: bool) -> bool:
    """Whether the words are the same but for doubled letters, for two letters changed about, or for the ending."""
    if one == two:
        return True
    if min(len(one), len(two)) < LONG or one[0] != two[0] or not (one + two).isalpha():
        return False
    return (
        _DOUBLED.sub(r"\1", one) == _DOUBLED.sub(r"\1", two)
        or _swapped(one, two)
        or (not is_name and _ending(one, two) in ENDINGS)
    )


def _swapped(one: str, two: str) -> bool:
    """Whether two neighbouring letters stand the other way round, and nothing else differs."""
    places = [place for place, (left, right) in enumerate(zip(one, two, strict=False)) if left != right]
    return (
        len(one) == len(two)
        and len(places) == 2
        and places[1] == places[0] + 1
        and one[places[0]] == two[places[1]]
        and one[places[1]] == two[places[0]]
    )


def _ending(one: str, two: str) -> str:
    """What the longer word has behind the shorter; nothing where they differ before."""
    short, long = sorted((one, two), key=len)
    return long[len(short) :] if long.startswith(short) else ""
