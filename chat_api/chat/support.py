"""Checks each cited sentence of an answer against the passages it cites: its numbers, names and words must be there. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chat_api.chat.retrieve import Passage
from chat_api.core.words import differ_in_language, numbers_in, stems_of

ENOUGH = 0.5
"""Of a sentence's telling words: so many must be in the passages, when both are in the same language."""
NOUNS_CAPITALISED = 0.25
"""Of a passage's words: when so many have a capital, a capital does not tell a name."""
ABBREVIATION_CHARS = 12

_CITED = re.compile(r"\[(\d{1,9})\]")
_CITATIONS = re.compile(r"[ \t]*(?:\[\d{1,9}\])+")
_END = re.compile(
    r"(?:[.!?…](?=[\s\"”’)*\]\[]|\Z)|[。！？])[\"”’)*_]*(?:[ \t]{0,3}\[\d{1,9}\]){0,8}|(?:[ \t]{0,3}\[\d{1,9}\]){1,8}(?=[ \t]{0,3}[A-Z])|\n+"
)
_ABBREVIATION = re.compile(r"\b(?:[A-Za-z]|Mr|Mrs|Dr|St|No|Nr|ca|approx|bzw|vgl|etc|vs|^\s*\d{1,3})\.\Z", re.MULTILINE)
_LIST_MARK = re.compile(r"^\s*(?:[-*+>•]|\d{1,3}[.)]|#+)\s+")
_CAPITALISED = re.compile(r"(?<![\w.!?:\-*“\"„«])(?<![.!?:…\n] )(?<!^)\b[^\W\d_a-z][\w’'-]*")


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of an answer."""

    start: int
    end: int


def unsupported(answer: str, passages: Sequence[Passage], known: str = "") -> list[Span]:
    """The sentences that cite passages (numbered from 1) which do not say so.

    `known` is what a sentence may name without a passage: the bot's name. A sentence that cites nothing is not judged.
    """
    texts = [_evidence(passage) for passage in passages]
    found = []
    for span in sentences(answer):
        sentence = answer[span.start : span.end]
        cited = [int(number) for number in _CITED.findall(sentence)]
        evidence = "\n".join(texts[number - 1] for number in dict.fromkeys(cited) if 1 <= number <= len(texts))
        said = _LIST_MARK.sub("", _CITATIONS.sub("", sentence))
        if cited and not supports(evidence, said, known):
            found.append(_trimmed(answer, span))
    return found


def _evidence(passage: Passage) -> str:
    """All that is known of a passage: its text, where it stands, and its day as it may be written."""
    lines = [passage.title, passage.heading, passage.url or "", passage.text]
    if day := passage.dated:
        lines.append(f"{day:%Y-%m-%d}, {day.day} {day:%B} {day.year}, {day.month}")
    return "\n".join(lines)


def supports(evidence: str, sentence: str, known: str = "") -> bool:
    """Whether the evidence has the sentence's numbers and names, and, in the same language, enough of its words."""
    if not evidence:
        return False
    there = frozenset(reading for _, readings in numbers_in(evidence) for reading in readings)
    if any(not readings & there for _, readings in numbers_in(sentence)):
        return False
    stems = stems_of(evidence)
    if not stems_of(_names(sentence, evidence)) <= stems | stems_of(known):
        return False
    telling = stems_of(sentence)
    if len(telling) < 2 or differ_in_language(sentence, evidence):
        return True
    return len(telling & stems) >= ENOUGH * len(telling)


def sentences(answer: str) -> Iterator[Span]:
    """The answer's sentences, list items and table rows, each with the citations that follow it."""
    start = 0
    for end in _END.finditer(answer):
        if _ABBREVIATION.search(answer, max(start, end.end() - ABBREVIATION_CHARS), end.end()) and end.end() < len(
            answer
        ):
            continue
        if answer[start : end.end()].strip():
            yield Span(start, end.end())
        start = end.end()
    if answer[start:].strip():
        yield Span(start, len(answer))


def _names(sentence: str, evidence: str) -> str:
    """The words in the middle of the sentence that have a capital; none where the language writes its nouns with one."""
    words = re.findall(r"[^\W\d_]+", evidence)
    capitalised = sum(word[0].isupper() for word in words)
    if capitalised > NOUNS_CAPITALISED * len(words):
        return ""
    return " ".join(found for found in _CAPITALISED.findall(sentence) if found[0].isupper())


def _trimmed(answer: str, span: Span) -> Span:
    said = answer[span.start : span.end]
    return Span(span.end - len(said.lstrip()), span.start + len(said.rstrip()))
