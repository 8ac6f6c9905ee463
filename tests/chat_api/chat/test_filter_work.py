"""What an answer's filter does for a piece grows with its length alone, whatever a model puts into one."""

import pytest

from chat_api.chat.citations import MOST_AT_ONCE, AnswerFilter, without_markers
from chat_api.chat.links import hosts_of
from tests.chat_api.chat.calls import Calls

LENGTH = 64 << 10
CALLS_A_SLICE = 6_000
"""Of functions, Python's own included, for as many characters as are read at once, and twelve brackets held back."""
TERMS = ("secret sauce", "a b c d e f g", "foo")
NESTED = LENGTH // 4
PIECES = {
    "nested numbers": "[" * NESTED + "99]" * NESTED,
    "nested links": "[a" * (NESTED // 2) + "](x)" * (NESTED // 2),
    "nested images": "![" * (NESTED // 2) + "](x)" * (NESTED // 2),
    "nested tags": "<i" * (NESTED // 2) + "mg>" * (NESTED // 2),
    "the model's no": "<no_" * (NESTED // 4) + "answer>" * (NESTED // 4),
    "ever deeper": "".join(f"{'[' * 8}{'99]' * 8}" for _ in range(LENGTH // 32)),
    "numbers": "[99]" * NESTED,
    "tags": "<a " * NESTED,
    "spaces": f"<{' ' * LENGTH}",
    "words": "secret " * (LENGTH // 7),
    "letters": "a b c d e f " * (LENGTH // 12),
    "addresses": "https://evil.example/" * (LENGTH // 21),
    "definitions": "\n[a]: " * (LENGTH // 6),
    "quotes": '<b a="' * (LENGTH // 6),
}


@pytest.mark.parametrize("what", PIECES)
def test_a_large_piece_takes_no_more_than_as_much_in_small_ones(what: str) -> None:
    text = PIECES[what]
    answer = AnswerFilter(3, hosts=hosts_of(["https://shop.example"]), blocked_terms=TERMS)
    with Calls(CALLS_A_SLICE * (len(text) // MOST_AT_ONCE + 1)):
        at_once = answer.feed(text) + answer.finish()
    sliced = AnswerFilter(3, hosts=hosts_of(["https://shop.example"]), blocked_terms=TERMS)
    slices = [text[start : start + MOST_AT_ONCE] for start in range(0, len(text), MOST_AT_ONCE)]
    assert "".join([*map(sliced.feed, slices), sliced.finish()]) == at_once
    assert "[99]" not in at_once


@pytest.mark.parametrize("what", ["nested numbers", "ever deeper", "numbers"])
def test_nor_does_a_page(what: str) -> None:
    with Calls(40 * len(PIECES[what])):
        shown = without_markers(PIECES[what])
    assert "[99]" not in shown
