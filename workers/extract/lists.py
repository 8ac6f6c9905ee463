"""Owns how list items that follow each other become one list."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from textwrap import dedent

from workers.documents import Block


def joined_lists(blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks, with neighbouring lists of a page made one: readers that meet items one by one give each as a list.

    A list that begins at a deeper level begins at the margin.
    """
    for (kind, page), run in groupby(blocks, key=lambda block: (block.kind, block.page)):
        if kind == "list":
            yield Block("list", dedent("\n".join(block.text for block in run)), page=page)
        else:
            yield from run
