"""What a made file is known to say, and how much of that a document has kept."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from workers.documents import Document

_WORDS = {
    "Latin": ("filter", "größe", "naïve", "été", "tank & lid", "a < b", "señal", "façade", "coffee", "Ærø"),
    "others": ("Фильтр", "咖啡机", "قهوة", "フィルター", "φίλτρο", "קפה", "필터", "กาแฟ", "ფილტრი", "☕ cup"),
}
_RULE = re.compile(r"\|(?: --- \|)+")
Row = list[tuple[str, str]]
"""A table's row: the cells that have text, each with the head of its column."""


@dataclass(slots=True)
class Truth:
    """A file's known content, written down while it is made."""

    strings: list[str] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    """What no reader sees, or what is no part of the text: it is to be left out."""

    def say(self, text: str) -> str:
        """Notes a string that must be found."""
        self.strings.append(text)
        return text

    def head(self, level: int, text: str) -> str:
        """Notes a heading."""
        self.headings.append((level, text))
        return self.say(text)

    def hide(self, text: str) -> str:
        """Notes a string that must not be found."""
        self.hidden.append(text)
        return text

    def table(self, rows: list[list[str]]) -> list[list[str]]:
        """Notes a table whose first row has the columns' names; an empty cell is not looked for."""
        names, *others = rows
        self.strings += [cell for row in rows for cell in row if cell]
        self.rows += [[(name, cell) for name, cell in zip(names, row, strict=True) if cell] for row in others]
        return rows


class Words:
    """Makes texts that occur once, by a seeded chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._seed, self._count = seed, 0

    def some(self, prefix: str, *, script: str = "") -> str:
        """A text that begins with the prefix and stands nowhere else."""
        self._count += 1
        words = _WORDS[script or self.chance.choice(tuple(_WORDS))]
        return f"{prefix} {self._seed}x{self._count} {' '.join(self.chance.sample(words, 2))}"

    def sentence(self) -> str:
        """A paragraph's worth of them."""
        return f"{self.some('Here')} stands beside {self.some('what')}, and says so."


def shares(truth: Truth, document: Document) -> Counter[str]:
    """How many strings, headings, cells and hidden strings there were, and how many were kept: `strings kept` …"""
    cells = sum(map(len, truth.rows))
    there = Counter(strings=len(truth.strings), headings=len(truth.headings), cells=cells, hidden=len(truth.hidden))
    gone = Counter(kind for kind, _ in lost(truth, document))
    return there + Counter({f"{kind} kept": count - gone[kind] for kind, count in there.items()})


def lost(truth: Truth, document: Document) -> Iterator[tuple[str, str]]:
    """What was not kept: `strings`, `headings`, `cells` or `hidden`, and which."""
    text = _flat("\n".join(block.text for block in document.blocks).replace("\\|", "|"))
    heads = {(block.level, block.text) for block in document.blocks if block.kind == "heading"}
    written = list(_rows(document))
    yield from (("strings", one) for one in truth.strings if _flat(one) not in text)
    yield from (("headings", f"{level}: {one}") for level, one in truth.headings if (level, one) not in heads)
    yield from (("hidden", one) for one in truth.hidden if _flat(one) in text)
    for row in truth.rows:
        key = _flat(row[0][1])
        for name, cell in row:
            if not any(key in one.values() and one.get(_flat(name)) == _flat(cell) for one in written):
                yield "cells", f"{name} = {cell}, in the row of {key}"


def _rows(document: Document) -> Iterator[dict[str, str]]:
    """The rows of all tables and records, by their columns' names."""
    for block in document.blocks:
        lines = block.text.split("\n")
        if block.kind == "table":
            cells = [
                [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                for line in lines
                if not _RULE.fullmatch(line)
            ]
            for row in cells[1:]:
                yield dict(zip(cells[0], row, strict=False))
        elif block.kind == "list":
            for line in lines:
                parts = [part.partition(": ") for part in line.removeprefix("- ").split("; ")]
                yield {name: value for name, _, value in parts}


def _flat(text: str) -> str:
    return " ".join(text.split())
