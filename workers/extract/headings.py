"""Owns which bold lines are headings, in documents that mark none."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from workers.documents import Block

_LENGTH = 100


def may_head(text: str) -> bool:
    """Whether a line that stands out could be a heading: short, with a letter, and no sentence."""
    return len(text) <= _LENGTH and "\n" not in text and text[-1:] not in ".,;!" and any(map(str.isalpha, text))


def with_headings(blocks: Sequence[Block], bold: Collection[int]) -> list[Block]:
    """The blocks; where none is a heading, the bold ones at these places are, if text follows them."""
    if any(block.kind == "heading" for block in blocks):
        return list(blocks)
    standing = {place for place in bold if place + 1 < len(blocks) and blocks[place].kind == "paragraph"}
    return [
        replace(block, kind="heading", level=2) if place in standing else block for place, block in enumerate(blocks)
    ]
