"""Numbers in brackets that are no citations: of years, of orders, and in code. They stay, and no client takes them for some."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.citations import AnswerFilter, without_markers

OFFERED = 3
AS_CITED = re.compile(r"\[(\d+)\]")
"""What a client takes for a citation."""


def shown(pieces: list[str]) -> tuple[str, list[int]]:
    """What the visitor sees of pieces fed one after the other, and what was cited."""
    answer = AnswerFilter(OFFERED)
    return "".join([*(answer.feed(piece) for piece in pieces), answer.finish()]), answer.cited


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1_000])
@pytest.mark.parametrize(
    ("text", "expected", "cited"),
    [
        ("In the [2024] report [2].", "In the (2024) report [2].", [2]),
        ("Reports [2023, 2024], order [4006381333931]", "Reports (2023, 2024), order (4006381333931)", []),
        ("Report[2024], [1][2024], [a][2024]", "Report (2024), [1] (2024), [a] (2024)", [1]),
        ("**[2024]** [1, 2024]", "**(2024)** [1]", [1]),
        (f"See [{'9' * 400}]", f"See ({'9' * 400})", []),
        ("Take `list[1]` or `a[0][7]` [1].", "Take `list[ 1 ]` or `a[ 0 ][ 7 ]` [1].", [1]),
        ("Use ``a`[1] `` [2]", "Use ``a`[ 1 ] `` [2]", [2]),
        ("A `[1, 2]` of `[2024]`", "A `[1, 2]` of `[ 2024 ]`", []),
        ("So:\n```python\nx = a[1] + [2]\n```\nThat is all [3].", "So:\n```python\nx = a[ 1 ] + [ 2 ]\n```\nThat is all [3].", [3]),
        ("~~~\na[1]\n```\nb[1]\n~~~~\nc [1]", "~~~\na[ 1 ]\n```\nb[ 1 ]\n~~~~\nc [1]", [1]),
        ("1. ```sh\n   a[1]\n   ```\n2. [1]", "1. ```sh\n   a[ 1 ]\n   ```\n2. [1]", [1]),
        ("> ```\n> a[1]\n> ```\n> b [1]", "> ```\n> a[ 1 ]\n> ```\n> b [1]", [1]),
        ("```\na[1]", "```\na[ 1 ]", []),
        ("```sh\nmake up\n```[1]\n\nIt prints [2].", "```sh\nmake up\n```[1]\n\nIt prints [2].", [1, 2]),
        ("```\na[1]\n``` [1][3]\nb [2]", "```\na[ 1 ]\n``` [1][3]\nb [2]", [1, 3, 2]),
        ("```sh\r\na[1]\r\n```\r\nb [2]", "```sh\r\na[ 1 ]\r\n```\r\nb [2]", [2]),
        ("The ` key [1].\nAnd `a[1]` [2]", "The ` key [1].\nAnd `a[ 1 ]` [2]", [1, 2]),
        ("The `` key` [1]", "The `` key` [1]", [1]),
        ("Say ```a[1]``` here [1]", "Say ```a[ 1 ]``` here [1]", [1]),
        (f"A ` key {'x' * 600} ` [1]", f"A ` key {'x' * 600} ` [1]", [1]),
    ],
)  # fmt: skip
def test_what_is_no_citation_stays_and_looks_like_none(text: str, expected: str, cited: list[int], size: int) -> None:
    assert shown([text[start : start + size] for start in range(0, len(text), size)]) == (expected, cited)


PARTS = ["`", "``", "```", "~~~", "\n", "[1]", "[2024]", "[9]", "[1, 2]", "[", "]", "(", ")", "1", "a", " ", "> ", "- "]


@given(st.lists(st.sampled_from(PARTS), max_size=30), st.sets(st.integers(0, 90)))
def test_whatever_is_code_each_number_in_brackets_was_offered_and_is_cited(parts: list[str], cuts: set[int]) -> None:
    text = "".join(parts)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    answer, cited = shown([text[start:end] for start, end in pairwise(bounds)])
    assert {int(number) for number in AS_CITED.findall(answer)} == set(cited) <= set(range(1, OFFERED + 1))


@given(st.lists(st.sampled_from(PARTS), max_size=30))
def test_an_owners_text_looks_like_it_cites_nothing(parts: list[str]) -> None:
    assert not AS_CITED.search(without_markers("".join(parts)))


@pytest.mark.parametrize("size", [1, 2, 5, 1_000])
def test_what_is_left_of_numbers_in_each_other_is_no_citation(size: int) -> None:
    text = f"{'[' * 30}{'9]' * 30} and [[[3]"
    answer, cited = shown([text[start : start + size] for start in range(0, len(text), size)])
    assert [int(number) for number in AS_CITED.findall(answer)] == cited
    assert set(cited) <= {3}


def test_an_owners_code_and_years_stay() -> None:
    text = "Since [2024][1] it is `arr[0]`:\n\n```\narr[1]\n```"
    assert without_markers(text) == "Since (2024) it is `arr[ 0 ]`:\n\n```\narr[ 1 ]\n```"


@pytest.mark.parametrize("mark", ["`", "```", "~~~", "> ```", "1. "])
def test_an_answer_is_not_kept_back_for_what_may_be_code(mark: str) -> None:
    answer = AnswerFilter(OFFERED)
    sent = "".join(answer.feed(f"{mark if not number else ''}{'word ' * 10}") for number in range(20))
    assert len(sent) > 400


def test_a_block_of_code_comes_as_it_is_made() -> None:
    answer = AnswerFilter(OFFERED)
    assert answer.feed("So:\n```py\n") + answer.feed("first()") == "So:\n```py\nfirst()"
    assert answer.feed("[1]\nsecond") == "[ 1 ]\nsecond"
