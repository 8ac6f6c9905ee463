"""Owns how a document is cut into chunks: by its structure, within a budget of tokens, at places that stay put."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from zlib import crc32

from workers.documents import Block, Chunk, Document
from workers.pieces import Budget, Count, Piece, cost, fitting, halved, last_sentence, pieces_of, written

_SEPARATOR = " › "
_TINY = 8
_OVERLAP = 8


@dataclass(frozen=True, slots=True)
class _Section:
    """The pieces under one heading path."""

    path: tuple[str, ...]
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> int:
        return cost(self.pieces)


def chunk(document: Document, *, count: Count, target: int = 300, maximum: int = 400) -> list[Chunk]:
    """The document's chunks, in order; every word of its blocks stands in one of them.

    `count` gives a text's size in tokens. Chunks aim at `target` and keep their `embedded_text` within `maximum`, unless
    a single character is larger. Equal documents give equal chunks, and a change in one place leaves the cuts elsewhere.
    """
    budget = Budget(count, min(target, maximum), maximum, count(""))
    chunks: list[Chunk] = []
    for section in _merged(_sections(document, budget), budget):
        prefix = _prefix(document.title, section.path, budget)
        used = count(prefix) if prefix else 0
        groups = [group for part in _segments(section, budget) for group in _groups(part, budget, used)]
        for index, group in enumerate(groups):
            overlap = _overlap(groups[index - 1], group, budget) if index else ""
            chunks.extend(_chunks(group, _SEPARATOR.join(section.path), prefix, overlap, budget))
    return numbered(chunks)


def numbered(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks as a document's: each with its place, and with how often its text was there before."""
    met: Counter[str] = Counter()
    found = []
    for ordinal, one in enumerate(chunks):
        found.append(replace(one, ordinal=ordinal, repeat=met[one.embedded_text]))
        met[one.embedded_text] += 1
    return found


def embedded_text(title: str, heading: str, text: str, sha256: bytes) -> str:
    """The `embedded_text` of a chunk that is stored: the one with this checksum, or the fullest where none has it."""
    # Which of them is the path's last is not said: a heading may have the separator in itself.
    starts = [at + len(_SEPARATOR) for at in range(len(heading)) if heading.startswith(_SEPARATOR, at)]
    for start in [*reversed(starts), 0]:
        for prefix in _prefixes(title, heading, heading[start:]):
            if hashlib.sha256((prefix + text).encode()).digest() == sha256:
                return prefix + text
    return next(_prefixes(title, heading, heading)) + text


# --- sections ---------------------------------------------------------------------------------------------------------


def _sections(document: Document, budget: Budget) -> Iterator[_Section]:
    """The document's sections; a heading with nothing under it is text of the section above."""
    path: list[Block] = []
    pieces: list[Piece] = []
    for index, block in enumerate(document.blocks):
        bare = block.kind == "heading" and _is_bare(document.blocks, index)
        under = _path_at(path, block, bare)
        if pieces and under != path:
            yield _Section(_titles(path, document.title), tuple(pieces))
            pieces = []
        path = under
        if block.kind != "heading" or bare:
            pieces.extend(pieces_of(block, index, budget))
    if pieces:
        yield _Section(_titles(path, document.title), tuple(pieces))


def _path_at(path: list[Block], block: Block, bare: bool) -> list[Block]:
    """The heading path from this block on."""
    if block.kind != "heading":
        return path
    above = [heading for heading in path if heading.level < block.level]
    return above if bare else [*above, block]


def _is_bare(blocks: Sequence[Block], index: int) -> bool:
    """Whether there is nothing under this heading."""
    following = blocks[index + 1] if index + 1 < len(blocks) else None
    return following is None or (following.kind == "heading" and following.level <= blocks[index].level)


def _titles(path: Sequence[Block], title: str) -> tuple[str, ...]:
    titles = [" ".join(block.text.split()) for block in path]
    return tuple(titles[1:] if titles and titles[0].casefold() == title.casefold() else titles)


# --- merging small sections -------------------------------------------------------------------------------------------


def _merged(sections: Iterator[_Section], budget: Budget) -> Iterator[_Section]:
    """Joins a tiny section with the neighbour before or after it that shares its parent, if both fit into one chunk."""
    waiting: _Section | None = None
    for section in sections:
        joined = waiting and _joined(waiting, section, budget)
        if waiting and not joined:
            yield waiting
        waiting = joined or section
    if waiting:
        yield waiting


def _joined(first: _Section, second: _Section, budget: Budget) -> _Section | None:
    tiny = budget.target // _TINY
    if min(first.tokens, second.tokens) > tiny or first.tokens + second.tokens > budget.target // 2:
        return None
    common = 0
    while common < min(len(first.path), len(second.path)) and first.path[common] == second.path[common]:
        common += 1
    if common < max(len(first.path), len(second.path)) - 1:
        return None
    pieces = [*_titled(first, common, budget), *_titled(second, common, budget)]
    return _Section(first.path[:common], tuple(pieces))


def _titled(section: _Section, common: int, budget: Budget) -> Iterator[Piece]:
    """The section's pieces under its own heading as a line of text, where the common path does not have it."""
    own = _SEPARATOR.join(section.path[common:])
    if own:
        first = section.pieces[0]
        for part, glue in fitting(own, " ", budget.room, budget.count):
            yield Piece(part, budget.size(part), -1 - first.block, glue=glue, page=first.page, leads=True)
    yield from section.pieces


# --- packing ----------------------------------------------------------------------------------------------------------


def _segments(section: _Section, budget: Budget) -> Iterator[Sequence[Piece]]:
    """The pieces cut where a place outranks all others within two chunks' size on both sides, away from the ends.

    Such places depend on the text around them alone: what is inserted or changed elsewhere does not move them.
    """
    pieces, target = section.pieces, budget.target
    if section.tokens <= target:
        yield pieces
        return
    ranks = [_rank(pieces, place) for place in range(len(pieces))]
    ends = list(accumulate(piece.tokens + 1 for piece in pieces))
    start = 0
    for place in range(1, len(pieces)):
        before = ends[place - 1]
        central = 2 * min(before, ends[-1] - before) >= target
        if central and not pieces[place - 1].leads and _outranks(ranks, ends, place, 2 * target):
            yield pieces[start:place]
            start = place
    yield pieces[start:]


def _rank(pieces: Sequence[Piece], place: int) -> tuple[bool, int]:
    """How good a place before a piece is for a cut, the least the best: between blocks, then by the text's checksum."""
    inside = place > 0 and pieces[place].block == pieces[place - 1].block
    return inside, crc32(pieces[place].text.encode("utf-8", "surrogatepass"))


def _outranks(ranks: Sequence[tuple[bool, int]], ends: Sequence[int], place: int, reach: int) -> bool:
    """Whether no place within `reach` tokens is better, or as good and earlier; `ends` are the tokens up to each piece's end."""
    here = ends[place - 1]
    for step in (-1, 1):
        other = place + step
        while 0 < other < len(ranks) and abs(ends[other - 1] - here) <= reach:
            if ranks[other] < ranks[place] or (step < 0 and ranks[other] == ranks[place]):
                return False
            other += step
    return True


def _groups(pieces: Sequence[Piece], budget: Budget, prefix: int) -> Iterator[list[Piece]]:
    """The pieces chunk by chunk, each about `target` together with the prefix."""
    target, maximum = budget.target - prefix, budget.maximum - prefix
    start = 0
    while start < len(pieces):
        end = _reach(pieces, start, target)
        if end < len(pieces):
            tail = pieces[end : end + max(1, target) // _TINY + 1]  # a piece costs two tokens at least
            tiny = len(tail) == len(pieces) - end and cost(tail) <= target // _TINY
            fits = tiny and cost(pieces[start:end]) + cost(tail) <= maximum
            end = len(pieces) if fits else _best_cut(pieces, start, end, target)
        while end < len(pieces) and pieces[end - 1].leads and cost(pieces[start : end + 1]) <= maximum:
            end += 1
        yield list(pieces[start:end])
        start = end


def _reach(pieces: Sequence[Piece], start: int, room: int) -> int:
    """The end of the longest run of pieces that fits, of one at least."""
    used, end = 0, start
    while end < len(pieces):
        piece = pieces[end]
        fresh = end == start or pieces[end - 1].block != piece.block
        used += piece.tokens + 1 + (piece.opening_tokens if fresh else 0)
        if used > room and end > start:
            break
        end += 1
    return end


def _best_cut(pieces: Sequence[Piece], start: int, end: int, target: int) -> int:
    """Where to end the chunk: at the place that ranks best in its last third, but not behind an announcement."""
    used, places = 0, []
    for index in range(start, end):
        used += pieces[index].tokens + 1
        if used * 3 >= target * 2 and not pieces[index].leads:
            places.append(index + 1)
    return min(places, key=lambda place: _rank(pieces, place), default=end)


# --- writing ----------------------------------------------------------------------------------------------------------


def _prefixes(title: str, heading: str, last: str) -> Iterator[str]:
    """What may stand before a text when it is embedded: title and heading path, then less, such as the path's `last`."""
    for lines in ((title, heading), (title, last), ("", heading), ("", last), (title, "")):
        prefix = "".join(f"{line}\n" for line in lines if line)
        if prefix:
            yield prefix + "\n"
    yield ""


def _prefix(title: str, path: Sequence[str], budget: Budget) -> str:
    """Title and heading path as they are embedded, shortened where they would take more than their share."""
    possible = _prefixes(title, _SEPARATOR.join(path), path[-1] if path else "")
    return next(prefix for prefix in possible if not prefix or budget.count(prefix[:-1]) <= budget.prefix)


def _overlap(before: Sequence[Piece], group: Sequence[Piece], budget: Budget) -> str:
    """The last sentence of the chunk before, if both are prose and it is short."""
    last = before[-1]
    if not (last.prose and group[0].prose):
        return ""
    sentence = last_sentence(last.text)
    short = budget.count(sentence) <= budget.target // _OVERLAP
    return sentence + (last.glue if last.block == group[0].block else "\n\n") if short else ""


def _chunks(group: Sequence[Piece], heading: str, prefix: str, overlap: str, budget: Budget) -> Iterator[Chunk]:
    """The group as one chunk, without the overlap or in halves where its true size is more than the estimate."""
    text = written(group)
    for whole in dict.fromkeys((overlap + text, text)):
        embedded = prefix + whole
        tokens = budget.count(embedded)
        if tokens <= budget.maximum:
            yield Chunk(0, whole, heading, group[0].page, embedded, tokens)
            return
    if len(group) > 1:
        middle = len(group) // 2
        yield from _chunks(group[:middle], heading, prefix, overlap, budget)
        yield from _chunks(group[middle:], heading, prefix, "", budget)
    elif prefix:
        yield from _chunks(group, heading, "", "", budget)
    elif len(text) > 1:
        parts = halved(text, "", budget.maximum, budget.count)
        halves = [replace(group[0], text=part, opening="", closing="") for part, _ in parts]
        for half in halves:
            yield from _chunks([half], heading, "", "", budget)
    else:
        yield Chunk(0, text, heading, group[0].page, text, budget.count(text))
