"""Owns how a document's pages without text are told of."""

from collections.abc import Sequence

WITHOUT_TEXT = "Pages without text, perhaps scanned: "


def ranges(numbers: Sequence[int]) -> str:
    """`[1, 3, 4, 5]` as `1, 3–5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)
