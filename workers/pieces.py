"""Owns the pieces that chunks are made of: blocks taken apart at their natural joints until each part fits."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from workers.documents import Block

Count = Callable[[str], int]

_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？]+[」』”]?\s*|\n+")
_JOINTS = (re.compile(r"\n+"), _SENTENCE_END, re.compile(r"[,;:]\s+|[、，；：]"), re.compile(r"\s+"))
_TABLE_RULE = re.compile(r"\|(?:\s*:?-{3,}:?\s*\|)+")
_ITEM = re.compile(r"(?:-|\d+[.)])\s")
_ANNOUNCEMENT = 300
_PREFIX_SHARE = 3


@dataclass(frozen=True, slots=True)
class Budget:
    """How texts are counted, and how much a chunk may hold: `target` if possible, `maximum` at most."""

    count: Count
    target: int
    maximum: int
    marks: int
    """What the counter adds to any text, such as marks of its begin and end."""

    def size(self, text: str) -> int:
        """What the text adds to a chunk, 1 at least."""
        return max(1, self.count(text) - self.marks)

    @property
    def prefix(self) -> int:
        """The most that title and heading path may take of a chunk."""
        return self.maximum // _PREFIX_SHARE

    @property
    def room(self) -> int:
        """The most that one piece may take, so that it fits into a chunk beside the prefix."""
        return max(1, self.maximum - self.prefix - 2)


@dataclass(frozen=True, slots=True)
class Piece:
    """What is not cut again: a paragraph or sentence, a table's row, a list's item, lines of code."""

    text: str
    tokens: int
    block: int
    """Pieces of one block are joined by `glue`, others by a blank line."""
    glue: str = "\n"
    opening: str = ""
    """Stands before the first piece of a run of the block's pieces: a table's head, a code fence."""
    closing: str = ""
    opening_tokens: int = 0
    """The size of opening and closing together."""
    prose: bool = False
    page: int | None = None
    leads: bool = False
    """Whether it announces what follows, so that no cut belongs after it."""


def pieces_of(block: Block, index: int, budget: Budget) -> Iterator[Piece]:
    """The block, the `index`-th of its document, in pieces that each fit into the budget's room."""
    texts, shape = _shape(block, Piece("", 0, index, page=block.page), budget)
    for text in texts:
        for part, glue in fitting(text, shape.glue, budget.room - shape.opening_tokens, budget.count):
            leads = len(part) < _ANNOUNCEMENT and part.endswith((":", "："))
            yield replace(shape, text=part, glue=glue, tokens=budget.size(part), leads=leads)


def cost(pieces: Sequence[Piece]) -> int:
    """An estimate of the pieces' size together, in tokens: a little more than they take."""
    return sum(run[0].opening_tokens for run in runs(pieces)) + sum(piece.tokens + 1 for piece in pieces)


def runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The pieces in runs of one block."""
    return (list(run) for _, run in groupby(pieces, key=lambda piece: piece.block))


def written(pieces: Sequence[Piece]) -> str:
    """The pieces as text: those of a block with its opening and closing, blocks parted by a blank line."""
    blocks = []
    for run in runs(pieces):
        joined = "".join(piece.text + piece.glue for piece in run[:-1]) + run[-1].text
        blocks.append(run[0].opening + joined + run[0].closing)
    return "\n\n".join(blocks)


def last_sentence(text: str) -> str:
    """The text's last sentence, or all of it."""
    *_, (sentence, _) = sentences(text, "")
    return sentence


def sentences(text: str, glue: str) -> Iterator[tuple[str, str]]:
    """The text's sentences or lines, each with what joins it to the next; `glue` stands after the last."""
    start = 0
    for found in _SENTENCE_END.finditer(text):
        part = text[start : found.end()]
        if part.strip():
            yield part.strip(), _joint(part)
            start = found.end()
    if text[start:].strip():
        yield text[start:].strip(), glue


def fitting(text: str, glue: str, room: int, count: Count) -> Iterator[tuple[str, str]]:
    """The text whole, or in sentences, or in ever smaller parts until each fits; with what joins each to the next."""
    if not text.strip():
        return
    if _fits(text, room, count):
        yield text, glue
        return
    for part, joint in sentences(text, glue):
        yield from halved(part, joint, room, count)


def halved(text: str, glue: str, room: int, count: Count) -> Iterator[tuple[str, str]]:
    """The text in parts that fit, each cut near its middle at the best place there is; with what joins each to the next."""
    if _fits(text, room, count):
        yield text, glue
        return
    place = _middle(text)
    first, second = text[:place], text[place:]
    yield from halved(first.rstrip() or first, _joint(first), room, count)
    yield from halved(second.lstrip() or second, glue, room, count)


def _fits(text: str, room: int, count: Count) -> bool:
    return len(text) == 1 or count(text) <= room


def _middle(text: str) -> int:
    """Where to cut: the place nearest to the middle, at a line end, sentence, clause, space, or anywhere."""
    half = len(text) // 2
    for pattern in _JOINTS:
        places = [end for found in pattern.finditer(text) if abs((end := found.end()) - half) <= 0.4 * len(text)]
        if places:
            return min(places, key=lambda place: abs(place - half))
    return half


def _joint(part: str) -> str:
    """What stood between a part and the next: a line end, a space, or nothing."""
    space = part[len(part.rstrip()) :]
    return "\n" if "\n" in space else " " if space else ""


def _shape(block: Block, bare: Piece, budget: Budget) -> tuple[list[str], Piece]:
    """The block's natural parts, and what is common to their pieces."""
    if block.kind == "table":
        return _table(block.text, bare, budget)
    if block.kind == "list":
        return _items(block.text), bare
    if block.kind == "code":
        return _code(block, bare, budget)
    return [block.text], replace(bare, glue=" ", prose=True)


def _table(text: str, bare: Piece, budget: Budget) -> tuple[list[str], Piece]:
    """A table's rows, its head to be repeated in each chunk that has some of them."""
    lines = text.split("\n")
    if len(lines) > 2 and _TABLE_RULE.fullmatch(lines[1].strip()):
        head = "\n".join(lines[:2]) + "\n"
        tokens = budget.size(head)
        if tokens * 2 < budget.room:
            return lines[2:], replace(bare, opening=head, opening_tokens=tokens)
    return lines, bare


def _items(text: str) -> list[str]:
    """A list's outermost items, each with what is nested in it."""
    items: list[str] = []
    for line in text.split("\n"):
        if items and not _ITEM.match(line):
            items[-1] += f"\n{line}"
        else:
            items.append(line)
    return items


def _code(block: Block, bare: Piece, budget: Budget) -> tuple[list[str], Piece]:
    """Code whole or line by line, between fences that do not occur in it, the first with the code's language."""
    text = block.text
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    opening = f"{fence}{block.language}\n"
    tokens = budget.size(opening) + budget.size(f"{fence}\n")
    if tokens * 2 < budget.room:
        bare = replace(bare, opening=opening, closing=f"\n{fence}", opening_tokens=tokens)
    whole = budget.count(text) <= budget.room - bare.opening_tokens
    return [text] if whole else text.split("\n"), bare
