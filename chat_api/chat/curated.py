"""Finds the owner's own answer to a question: asked in the same words, or in nearly the same. Pure."""

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

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
LIKE, LONG = 0.85, 6
"""From which likeness on two words of so many letters are one with a slip of the pen."""


def find_curated(question: str, answers: Sequence[CuratedAnswer]) -> CuratedAnswer | None:
    """The owner's answer: to the same words first, else to words that differ in fillers and spelling alone."""
    asked = normalised(question)
    if not asked:
        return None
    exact = next((answer for answer in answers if normalised(answer.question) == asked), None)
    return exact or next((answer for answer in answers if _near(words_of(asked), words_of(answer.question))), None)


def _near(asked: Sequence[str], known: Sequence[str]) -> bool:
    """Whether both have the same words in the same order, apart from fillers and slips of the pen; one of them at least."""
    telling, other = _telling(asked), _telling(known)
    if not telling or len(telling) != len(other):
        return False
    if Counter(telling) == Counter(other):
        # A change of order may turn a question round ("from a to b"); two or three words have room for none.
        return telling == other or len(telling) <= 3
    return all(_alike(one, two) for one, two in zip(telling, other, strict=True))


def _telling(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in FILLERS]


def _alike(one: str, two: str) -> bool:
    if one == two:
        return True
    if min(len(one), len(two)) < LONG or one[0] != two[0] or any(char.isdigit() for char in one + two):
        return False
    return SequenceMatcher(None, one, two, autojunk=False).ratio() >= LIKE
