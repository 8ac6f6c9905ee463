"""Chooses what to quote from passages where no model answers: the few sentences that share most with the question. Pure."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from chat_api.chat.retrieve import Passage

PASSAGES, QUOTES, QUOTE_CHARS = 3, 2, 300
FURTHER_DOWN = 0.15
"""What a sentence loses for each passage that is nearer to the question than its own."""
ENOUGH = 0.4
"""Of the best score: what has less is not quoted beside it."""
HEADING, BEFORE, AFTER = 0.3, 0.35, 0.2
"""What a word of the question is worth in the heading, or in the sentence before or after, and not in the sentence."""
STEM = 6

_RULE = re.compile(r"\|?[\s:-]*-[|\s:-]*")
_MARK = re.compile(r"^\s*(?:[-*+>]|\d+[.)]|#+)\s+")
_SENTENCE = re.compile(r"(?<=[.!?…。！？])[\"”’)]*\s+(?=\S)")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Quote:
    """Words of a passage, and its number."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence, list item or table row of a passage, at its place there."""

    number: int
    place: int
    text: str
    is_row: bool
    stems: frozenset[str]


def choose_quotes(question: str, passages: Sequence[Passage]) -> list[Quote]:
    """The one or two best quotations, best first; passages are numbered from 1 in their order, best first."""
    asked = _stems(question)
    sentences = [_sentences(number, passage) for number, passage in enumerate(passages[:PASSAGES], 1)]
    weights = _weights(asked, [sentence for group in sentences for sentence in group])
    scored = [
        (_score(weights, group, sentence, passages[sentence.number - 1]), sentence)
        for group in sentences
        for sentence in group
    ]
    scored.sort(key=lambda pair: -pair[0])
    quotes: list[Quote] = []
    used: set[tuple[int, int]] = set()
    for score, sentence in scored:
        if len(quotes) == QUOTES or score < ENOUGH * scored[0][0]:
            break
        if (sentence.number, sentence.place) not in used:
            quotes.append(_grown(sentence, sentences[sentence.number - 1], used))
    return quotes


def _sentences(number: int, passage: Passage) -> list[_Sentence]:
    return [
        _Sentence(number, place, text, is_row, _stems(text))
        for place, (text, is_row) in enumerate(_split(passage.text.splitlines()))
    ]


def _split(lines: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The passage's sentences without Markdown's marks, each with whether it is a table's row."""
    head: list[str] = []
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        if _RULE.fullmatch(line.strip()) or line.startswith("```") or not _WORD.search(line):
            continue
        if not line.startswith("|"):
            for sentence in _SENTENCE.split(_MARK.sub("", line).replace("**", "")):
                yield sentence.strip(), False
        elif _RULE.fullmatch(following.strip()):
            head = _cells(line)
        else:
            yield _row(head, _cells(line)), True


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _row(head: list[str], cells: list[str]) -> str:
    """A table's row as a phrase: the first cell, then the others, each under its column's name."""
    if len(head) != len(cells) or len(cells) < 3:
        return ": ".join(cell for cell in cells if cell)
    named = [f"{name} {cell}".strip() for name, cell in zip(head[1:], cells[1:], strict=True) if cell]
    return f"{cells[0]}: {', '.join(named)}"


def _stems(text: str) -> frozenset[str]:
    """The beginnings of the longer words, and whatever has a digit in it."""
    words = _WORD.findall(text.lower())
    return frozenset(word[:STEM] for word in words if len(word) > 3 or any(char.isdigit() for char in word))


def _weights(asked: frozenset[str], sentences: Sequence[_Sentence]) -> dict[str, float]:
    """How much each word of the question counts: the rarer in the passages the more, all together 1."""
    found = Counter(stem for sentence in sentences for stem in sentence.stems & asked)
    rarity = {stem: math.log(1 + len(sentences) / (1 + found[stem])) for stem in asked}
    total = sum(rarity.values()) or 1.0
    return {stem: weight / total for stem, weight in rarity.items()}


def _score(weights: dict[str, float], group: Sequence[_Sentence], sentence: _Sentence, passage: Passage) -> float:
    around = [(HEADING, _stems(f"{passage.title} {passage.heading}"))]
    around += [(BEFORE, other.stems) for other in group if other.place == sentence.place - 1]
    around += [(AFTER, other.stems) for other in group if other.place == sentence.place + 1]
    score = sum(weight for stem, weight in weights.items() if stem in sentence.stems)
    for share, stems in around:
        score += share * sum(weight for stem, weight in weights.items() if stem in stems and stem not in sentence.stems)
    return score - FURTHER_DOWN * (sentence.number - 1)


def _grown(sentence: _Sentence, group: Sequence[_Sentence], used: set[tuple[int, int]]) -> Quote:
    """The sentence with as many of its neighbours as fit, since few sentences are understood alone. Marks them used."""
    first = last = sentence.place
    room = QUOTE_CHARS - len(sentence.text)
    grows = not sentence.is_row
    while grows:
        grows = False
        for place in (last + 1, first - 1):
            if 0 <= place < len(group) and _fits(group[place], room, used):
                first, last, grows = min(first, place), max(last, place), True
                room -= len(group[place].text) + 1
    used.update((sentence.number, place) for place in range(first, last + 1))
    return Quote(sentence.number, _joined([one.text for one in group[first : last + 1]]))


def _fits(sentence: _Sentence, room: int, used: set[tuple[int, int]]) -> bool:
    return not sentence.is_row and len(sentence.text) < room and (sentence.number, sentence.place) not in used


def _joined(texts: Sequence[str]) -> str:
    # List items have no full stop to part them.
    parts = [text if text[-1] in ".!?…:;,。！？" else f"{text} ·" for text in texts[:-1]]
    return " ".join([*parts, texts[-1]])
