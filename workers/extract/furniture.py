"""Owns which blocks of a website's pages are its furniture: what stands alike in the same place of most of them."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from workers.documents import Block, Document

LEAST_PAGES = 4
_SHARE = 0.6
_EDGE = 12
"""So many blocks from a page's start or end are looked at: what repeats amid a text belongs to it."""


def furniture_of(documents: Sequence[Document]) -> list[str]:
    """The marks of the blocks that stand on most of these pages of one site; none of fewer than four pages."""
    if len(documents) < LEAST_PAGES:
        return []
    met = Counter(mark for document in documents for mark in {mark for _, mark in _marks(document.blocks)})
    return sorted(mark for mark, pages in met.items() if pages >= LEAST_PAGES and pages > _SHARE * len(documents))


def without_furniture(document: Document, marks: Collection[str]) -> Document:
    """The document without the blocks that have these marks, and headings left bare; whole if it has nothing else."""
    if not marks:
        return document
    dropped = {place for place, mark in _marks(document.blocks) if mark in marks}
    kept = [block for place, block in enumerate(document.blocks) if place not in dropped]
    while kept and kept[-1].kind == "heading" and len(kept) < len(document.blocks):
        kept.pop()
    return replace(document, blocks=tuple(kept)) if any(block.kind != "heading" for block in kept) else document


def with_contact(document: Document) -> Document:
    """The document with what its footer says of how to reach its owner, as far as its text does not."""
    if not document.contact:
        return document
    text = _letters(" ".join(block.text for block in document.blocks))
    missing = [
        block for block in document.contact if not all(map(text.__contains__, map(_letters, block.text.split("\n"))))
    ]
    kept = [block for block in document.contact if block in missing or block.kind == "heading"]
    if all(block.kind == "heading" for block in kept):
        return document
    return replace(document, blocks=(*document.blocks, *_headed(kept)))


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def _headed(blocks: Sequence[Block]) -> Iterator[Block]:
    """The blocks without inner headings that have nothing under them."""
    for block, below in zip(blocks, [*blocks[1:], None], strict=True):
        if block.kind != "heading" or block.level == 1 or (below and below.kind != "heading"):
            yield block


def _marks(blocks: Sequence[Block]) -> Iterator[tuple[int, str]]:
    """The places near the start and the end, each with its block's mark there."""
    for place, block in enumerate(blocks):
        text = f"{block.kind} {' '.join(block.text.split()).casefold()}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if place < _EDGE:
            yield place, f"start {digest}"
        if len(blocks) - place <= _EDGE:
            yield place, f"end {digest}"
