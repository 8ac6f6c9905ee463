"""Checks each cited sentence of an answer against the passages it cites: its numbers, names and words must be there. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chat_api.chat.retrieve import Passage
from chat_api.core.words import commonest_language, differ_in_language, numbers_in, stems_of

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
_ABBREVIATION = re.compile(
    r"\b(?:[A-Za-z]|Mr|Mrs|Dr|St|No|Nr|ca|approx|bzw|vgl|etc|vs|^\s*\d{1,3}|(?i:am|bis|dem|den|der|im|vom|zum) \d\d?)\.\Z",
    re.MULTILINE,
)
_LIST_MARK = re.compile(r"^\s*(?:[-*+>•]|\d{1,3}[.)]|#+)\s+")
_CAPITALISED = re.compile(r"(?<![\w.!?:\-*“\"„«])(?<![.!?:…\n] )(?<!^)\b[^\W\d_a-z][\w’'-]*")
_DATE = re.compile(r"(?<![\d.])(?:(\d{1,2})\.(\d{1,2})\.(\d{4})|(\d{4})-(\d\d)-(\d\d))(?!\d)")
_PHONE = re.compile(r"(?<![\w.,])\(?[+0](?:[ ()/-]{0,3}\d){5,20}(?!\d|[.,]\d)")


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of an answer."""

    start: int
    end: int


def unsupported(answer: str, passages: Sequence[Passage], known: str = "") -> list[Span]:
    """The sentences that cite passages (numbered from 1) which do not say so.

    `known` is what a sentence may name without a passage: the bot's name. A sentence that cites nothing is not judged.
    """
    texts, language = [_evidence(passage) for passage in passages], commonest_language(answer)
    found = []
    for span in sentences(answer):
        sentence = answer[span.start : span.end]
        cited = [int(number) for number in _CITED.findall(sentence)]
        evidence = "\n".join(texts[number - 1] for number in dict.fromkeys(cited) if 1 <= number <= len(texts))
        said = _LIST_MARK.sub("", _CITATIONS.sub("", sentence))
        if cited and not _supports(evidence, said, known, commonest_language(said) or language):
            found.append(_trimmed(answer, span))
    return found


def _evidence(passage: Passage) -> str:
    """All that is known of a passage: its text, where it stands, and its day as it may be written."""
    lines = [passage.title, passage.heading, passage.url or "", passage.text]
    if day := passage.dated:
        lines.append(f"{day:%Y-%m-%d}, {day.day} {day:%B} {day.year}, {day.month}")
    return "\n".join(lines)


def _supports(evidence: str, sentence: str, known: str, language: str | None) -> bool:
    """Whether the evidence has the sentence's numbers and, where it is in the same language, its names and words."""
    if not evidence or not _has_numbers(evidence, sentence):
        return False
    written_in = commonest_language(evidence)
    if differ_in_language(sentence, evidence) or (language and written_in and language != written_in):
        return True
    stems = stems_of(evidence)
    # Another language has capitals elsewhere, and its own names for places.
    names = "" if written_in and not language else _names(sentence, evidence)
    return stems_of(names) <= stems | stems_of(known) and _has_words(stems, sentence)


def _has_words(stems: frozenset[str], sentence: str) -> bool:
    telling = stems_of(sentence)
    return len(telling) < 2 or len(telling & stems) >= ENOUGH * len(telling)


def _has_numbers(evidence: str, sentence: str) -> bool:
    there = {reading for _, readings in numbers_in(evidence) for reading in readings}
    for day, month, year, *iso in _DATE.findall(evidence):
        parts = [str(int(part)) for part in ((day, month, year) if day else reversed(iso))]
        # A part of a day is said by the whole day, and the whole by no part.
        there.update(parts, [".".join(parts)])
        there.update(*(readings for _, readings in numbers_in(f"{parts[0]}.{parts[1]} {parts[0]}.{parts[1]:0>2}")))
    phones = {_digits(phone) for phone in _PHONE.findall(evidence)}
    said = _PHONE.sub(lambda found: " " if _digits(found[0]) in phones else found[0], sentence)
    return all(readings & there for _, readings in numbers_in(said))


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


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
