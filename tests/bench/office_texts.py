"""Texts of known content as Word, LibreOffice, RTF and EPUB files: one script, written by four programs."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.office_truth import Truth, Words


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text: what it is, its words, and what hangs on it."""

    kind: str
    """`heading`, `plain`, `runs`, `break`, `list`, `table`, `note`, `box`, `hidden`, `comment` or `deleted`."""
    text: str = ""
    more: str = ""
    """The note's, the comment's or the link's words; a heading's level; a list's kind."""
    items: tuple[tuple[int, str], ...] = ()
    """A list's items with their depth from 0."""
    rows: tuple[tuple[str, ...], ...] = ()
    """A table's cells; `<` goes on with the cell to the left, `^` with the one above."""


_MIDDLE = (
    "plain",
    "runs",
    "break",
    "list",
    "numbers",
    "table",
    "merged",
    "note",
    "box",
    "hidden",
    "comment",
    "deleted",
)


def script(seed: int, truth: Truth) -> Iterator[Part]:
    """The text with this number: headings that go up and down, and between them some of everything."""
    words = Words(seed)
    level = 1
    for number in range(4 + seed % 4):
        level = 1 if not number else words.chance.randint(1, min(level + 1, 4))
        yield Part("heading", truth.head(level, words.some("Part")), str(level))
        yield Part("plain", truth.say(words.sentence()))
        kinds = words.chance.sample(_MIDDLE, 4) if number else words.chance.sample(_MIDDLE, 8)
        yield from (_part(kind, words, truth) for kind in kinds)


def _part(kind: str, words: Words, truth: Truth) -> Part:
    if kind in {"list", "numbers"}:
        depths = [0, *(words.chance.randint(0, 2) for _ in range(4))]
        items = tuple((depth, truth.say(words.some("Item"))) for depth in _stepped(depths))
        return Part("list", more=kind, items=items)
    if kind in {"table", "merged"}:
        return _table(kind, words, truth)
    if kind in {"hidden", "deleted"}:
        return Part(kind, truth.say(words.sentence()), truth.hide(words.some("Secret")))
    if kind == "comment":
        return Part(kind, truth.say(words.sentence()), truth.hide(words.some("Remark")))
    if kind in {"note", "box"}:
        return Part(kind, truth.say(words.some("Before")), truth.say(words.sentence()))
    if kind == "runs":
        first, second = words.some("We"), words.some("link")
        truth.say(f"{first} have {second} at last")
        return Part(kind, first, second)
    return Part(kind, truth.say(words.sentence()), truth.say(words.some("then")) if kind == "break" else "")


def _stepped(depths: list[int]) -> Iterator[int]:
    """The depths, none of them more than one deeper than the one before."""
    before = 0
    for depth in depths:
        before = min(depth, before + 1)
        yield before


def _table(kind: str, words: Words, truth: Truth) -> Part:
    head = [words.some(name, script="Latin") for name in ("Name", "Price", "Note")]
    rows = [
        [words.some("Thing"), f"{words.chance.randint(100, 99_999) / 100:.2f}", words.some("note")] for _ in range(4)
    ]
    truth.table([head, *rows])
    if kind == "table":
        return Part("table", rows=(tuple(head), *map(tuple, rows)))
    # The note of the second row goes for the third one too; the fourth is as wide as the table but for its name.
    rows[2][2] = "^"
    truth.strings.remove(truth.rows[-2][2][1])
    truth.rows[-2][2] = (head[2], rows[1][2])
    rows[3][2] = "<"
    truth.strings.remove(truth.rows[-1].pop()[1])
    return Part("table", rows=(tuple(head), *map(tuple, rows)))
