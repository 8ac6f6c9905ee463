"""Citations: offered numbers alone are shown and counted, however the text is cut into pieces."""

import asyncio
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.answer import Ending, ExtractiveAnswerer, Question
from chat_api.chat.citations import AnswerFilter, without_markers
from tests.chat_api.chat.passages import bot, passage


def shown(pieces: list[str], offered: int) -> tuple[str, list[int]]:
    """What comes of pieces fed one after the other, and what was cited."""
    citations = AnswerFilter(offered)
    return "".join([*(citations.feed(piece) for piece in pieces), citations.finish()]), citations.cited


@pytest.mark.parametrize(
    ("text", "expected", "cited"),
    [
        ("It is [1].", "It is [1].", [1]),
        ("It is [4].", "It is.", []),
        ("Both [2][1], and again [2].", "Both [2][1], and again [2].", [2, 1]),
        ("Both [1, 3; 9].", "Both [1][3].", [1, 3]),
        ("[ 2 ] and [02]", "[2] and [2]", [2]),
        ("So [99] [099] [999]", "So", []),
        ("So [[9]1] [[9]7]", "So [1]", [1]),
        ("So [\u0663]", "So [3]", [3]),
        ("[1] [2]", "", []),
        ("[1] ... So", "[1] ... So", [1]),
        ("a[i] = b[] [x] [1", "a[i] = b[] [x] [1", []),
        ("[0][-1]", "[-1]", []),
    ],
)
def test_only_offered_numbers_are_shown(text: str, expected: str, cited: list[int]) -> None:
    assert shown([text], 3) == (expected, cited)


@pytest.mark.parametrize("text", ["See [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13].", "See{}.".format(" [2]" * 900)])
@pytest.mark.parametrize("size", [1, 5, 5_000])
def test_many_markers_in_a_row_are_all_kept(text: str, size: int) -> None:
    answer, cited = shown([text[start : start + size] for start in range(0, len(text), size)], 20)
    assert answer == text.replace(", ", "][")
    assert cited == ([2] if "[2] " in text else list(range(1, 14)))


def test_a_link_behind_markers_is_none() -> None:
    text = "See [1][2](javascript:x) and [1] [2](/x) and [1][2][9](/x)."
    assert shown(list(text), 3)[0] == "See [1][2] and [1] [2] and [1][2]."
    assert shown(["[1]", "[2]", "(javascript:x) So"], 3)[0] == "[1][2] So"


@given(st.text(alphabet="[]0123456789,; a.\n", max_size=60))
def test_a_text_without_markers_cites_nothing(text: str) -> None:
    assert shown([without_markers(text)], 9)[1] == []


@given(
    text=st.text(alphabet="[]0123456789,; a.\n", max_size=60),
    cuts=st.sets(st.integers(0, 60)),
    offered=st.integers(0, 12),
)
def test_a_marker_in_pieces_is_the_same_marker(text: str, cuts: set[int], offered: int) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    answer, cited = shown([text[start:end] for start, end in pairwise(bounds)], offered)
    assert (answer, cited) == shown([text], offered)
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", answer)]
    assert set(numbers) == set(cited) <= set(range(1, offered + 1))


@given(st.lists(st.text(alphabet="[1 ,", min_size=1, max_size=40), max_size=20))
def test_no_more_than_a_markers_length_is_held_back(pieces: list[str]) -> None:
    citations = AnswerFilter(3)
    sent = sum(len(citations.feed(piece)) for piece in pieces)
    assert sent + 64 + sum(piece.count("[") for piece in pieces) >= sum(map(len, pieces)) - 64


def test_the_footnotes_of_what_is_quoted_are_no_citations() -> None:
    async def answered() -> str:
        found = [passage("The kiln reaches 1250 degrees.[3] It weighs 45 kg [2]."), passage("[1]"), passage("Other.")]
        question = Question(bot(), [], found, "What does the kiln weigh?")
        return "".join([piece async for piece in ExtractiveAnswerer().stream(question, Ending())])

    text, cited = shown([asyncio.run(answered())], 3)
    assert text == "Quoted from the sources:\n\n“The kiln reaches 1250 degrees. It weighs 45 kg.” [1]"
    assert cited == [1]
