"""What `chunk` promises, for made-up documents of every shape."""

import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.chunk import chunk
from workers.documents import Block, Chunk, Document
from workers.pieces import Count


def words(text: str) -> int:
    """A counter that takes a word for a token."""
    return len(text.split())


def quarters(text: str) -> int:
    """A counter like a byte pair encoder's: four characters to a token, two marks around."""
    return len(text) // 4 + 2


def document(*blocks: Block, title: str = "Manual") -> Document:
    """A document of these blocks."""
    return Document(title=title, blocks=blocks, media_type="text/html")


def paragraph(text: str, page: int | None = None) -> Block:
    """A paragraph."""
    return Block("paragraph", text, page=page)


def heading(text: str, level: int) -> Block:
    """A heading."""
    return Block("heading", text, level)


def prose(start: int, length: int) -> str:
    """Sentences of seven numbered words each."""
    numbered = [f"word{number}" for number in range(start, start + length)]
    return " ".join(" ".join(numbered[at : at + 7]).capitalize() + "." for at in range(0, length, 7))


def texts(chunks: list[Chunk]) -> list[str]:
    """The chunks' texts."""
    return [made.text for made in chunks]


# --- properties -------------------------------------------------------------------------------------------------------

_word = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12)
_line = st.lists(_word, min_size=1, max_size=30).map(" ".join)
_text = st.lists(_line, min_size=1, max_size=5).map(". ".join)
_block = st.one_of(
    st.builds(lambda text, level: Block("heading", text, level), _line, st.integers(1, 6)),
    st.builds(lambda text: Block("paragraph", text), _text),
    st.builds(
        lambda lines: Block("list", "\n".join(f"- {line}" for line in lines)), st.lists(_line, min_size=1, max_size=6)
    ),
    st.builds(
        lambda rows: Block("table", "\n".join(["| a | b |", "| --- | --- |", *(f"| {row} | x |" for row in rows)])),
        st.lists(_line, min_size=1, max_size=6),
    ),
    st.builds(lambda lines: Block("code", "\n".join(lines)), st.lists(_line, min_size=1, max_size=6)),
)
_document = st.builds(
    lambda title, blocks: Document(title, tuple(blocks), "text/plain"), _line, st.lists(_block, min_size=1, max_size=12)
)


@settings(max_examples=120)
@given(_document, st.sampled_from([words, quarters, len]), st.sampled_from([(25, 25), (40, 60), (60, 60), (300, 400)]))
def test_nothing_is_lost_and_nothing_too_large(made: Document, count: Count, sizes: tuple[int, int]) -> None:
    target, maximum = sizes
    chunks = chunk(made, count=count, target=target, maximum=maximum)
    for index, part in enumerate(chunks):
        assert part.ordinal == index
        assert part.text.strip()
        assert part.text in part.embedded_text
        assert part.tokens == count(part.embedded_text) <= maximum
    found = "".join(part.heading + part.embedded_text + made.title for part in chunks)
    for block in made.blocks:
        for word in block.text.split():
            if count(word) <= maximum // 4:
                assert word in found


@settings(max_examples=60)
@given(_document)
def test_equal_documents_give_equal_chunks(made: Document) -> None:
    assert chunk(made, count=words) == chunk(made, count=words)


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=3000))
def test_a_monstrous_word_is_cut_without_loss(word: str) -> None:
    chunks = chunk(document(paragraph(word), title=""), count=len, target=60, maximum=80)
    assert "".join(texts(chunks)).replace(" ", "").replace("\n", "") == word


# --- structure --------------------------------------------------------------------------------------------------------


def test_heading_path_and_title_are_embedded_with_the_text() -> None:
    made = document(heading("Returns", 1), heading("Costs", 2), paragraph(prose(0, 60)))
    (only,) = chunk(made, count=words)
    assert only.heading == "Returns › Costs"
    assert only.embedded_text == f"Manual\nReturns › Costs\n\n{prose(0, 60)}"
    assert only.tokens == words(only.embedded_text)


def test_a_heading_that_repeats_the_title_is_not_said_twice() -> None:
    (only,) = chunk(document(heading("Manual", 1), heading("Costs", 2), paragraph(prose(0, 60))), count=words)
    assert only.heading == "Costs"
    assert only.embedded_text.startswith("Manual\nCosts\n\nWord0")


def test_sections_are_not_mixed() -> None:
    made = document(heading("One", 2), paragraph(prose(0, 80)), heading("Two", 2), paragraph(prose(100, 80)))
    assert [part.heading for part in chunk(made, count=words)] == ["One", "Two"]


def test_tiny_sections_join_their_neighbour_under_the_common_parent() -> None:
    made = document(
        heading("Hours", 2),
        heading("Showroom", 3),
        paragraph("Nine to five."),
        heading("Phone", 3),
        paragraph("Ten to four."),
    )
    (only,) = chunk(made, count=words)
    assert only.heading == "Hours"
    assert only.text == "Showroom\n\nNine to five.\n\nPhone\n\nTen to four."


def test_tiny_sections_of_different_parents_stay_apart() -> None:
    made = document(
        *(heading("A", 1), heading("Aa", 2), paragraph("One two.")),
        *(heading("B", 1), heading("Bb", 2), paragraph("Three four.")),
    )
    assert [part.heading for part in chunk(made, count=words)] == ["A › Aa", "B › Bb"]


def test_a_heading_with_nothing_under_it_is_text() -> None:
    (only,) = chunk(document(heading("Part", 1), paragraph("Some text."), heading("The end", 2)), count=words)
    assert only.text == "Some text.\n\nThe end"
    assert only.heading == "Part"


def test_long_table_repeats_its_head_and_keeps_rows_whole() -> None:
    rows = [f"| part {number} | {number} pounds |" for number in range(120)]
    head = "| Part | Price |\n| --- | --- |"
    made = document(Block("table", "\n".join([head, *rows])))
    chunks = chunk(made, count=words, target=100, maximum=150)
    assert len(chunks) > 5
    assert all(part.text.startswith(head) for part in chunks)
    assert [row for part in chunks for row in part.text.split("\n")[2:]] == rows


def test_list_items_stay_whole_with_what_is_nested_in_them() -> None:
    items = [f"- item {number} {prose(number, 14)}\n  - nested {number}" for number in range(20)]
    chunks = chunk(document(Block("list", "\n".join(items))), count=words, target=80, maximum=100)
    assert len(chunks) > 3
    assert [item for part in chunks for item in re.split(r"\n(?=- )", part.text)] == items


def test_code_is_verbatim_between_fences() -> None:
    code = "def f():\n    return '''\n```\n'''"
    (only,) = chunk(document(paragraph("See:"), Block("code", code)), count=words)
    assert only.text == f"See:\n\n````\n{code}\n````"


def test_a_fence_says_what_the_code_is_written_in() -> None:
    lines = "\n".join(f"x = {number} plus some words here" for number in range(40))
    chunks = chunk(document(Block("code", lines, language="python")), count=words, target=100, maximum=150)
    assert len(chunks) > 1
    for made in chunks:
        assert made.text.startswith("```python\nx = ")
        assert made.text.endswith("\n```")
    assert "".join(made.text[10:-3] for made in chunks).split() == lines.split()


def test_long_code_is_cut_between_lines_each_part_fenced() -> None:
    lines = [f"    call_{number}(a, b, c)" for number in range(200)]
    chunks = chunk(document(Block("code", "\n".join(lines))), count=words, target=100, maximum=150)
    assert all(part.text.startswith("```\n") and part.text.endswith("\n```") for part in chunks)
    assert [line for part in chunks for line in part.text.split("\n")[1:-1]] == lines


def test_long_paragraph_is_cut_between_sentences_with_one_repeated() -> None:
    chunks = chunk(document(paragraph(prose(0, 700))), count=words, target=100, maximum=130)
    assert len(chunks) > 5
    assert all(part.text.startswith("Word") and part.text.endswith(".") for part in chunks)
    for before, after in pairwise(chunks):
        last = before.text.rsplit(". ", 1)[-1]
        assert after.text.startswith(last)


def test_the_repeated_sentence_gives_way_to_the_limit() -> None:
    lengths = [12, 9, 3] * 30
    text = " ".join(" ".join(f"w{at}x{word}" for word in range(length)) + "." for at, length in enumerate(lengths))
    chunks = chunk(document(paragraph(text), title=""), count=words, target=25, maximum=25)
    assert max(part.tokens for part in chunks) <= 25
    assert sum(part.tokens for part in chunks) > sum(lengths)


def test_no_overlap_between_sections() -> None:
    made = document(heading("One", 2), paragraph(prose(0, 80)), heading("Two", 2), paragraph(prose(100, 80)))
    counts = Counter(word for part in chunk(made, count=words) for word in part.text.split())
    assert set(counts.values()) == {1}


def test_an_announcement_stays_with_what_it_announces() -> None:
    made = document(paragraph(prose(0, 60)), paragraph("You need the following:"), Block("list", f"- {prose(100, 60)}"))
    for target in range(66, 130, 4):
        chunks = chunk(made, count=words, target=target, maximum=max(140, target))
        assert not any(part.text.endswith("following:") for part in chunks)


def test_page_is_where_the_chunk_begins() -> None:
    made = document(
        paragraph(prose(0, 70), page=3), paragraph(prose(100, 70), page=4), paragraph(prose(200, 70), page=5)
    )
    assert [part.page for part in chunk(made, count=words, target=80, maximum=120)] == [3, 4, 5]


def test_sentences_of_scripts_without_spaces() -> None:
    text = "今日は天気がいいです。明日は雨が降るでしょう。" * 40
    chunks = chunk(document(paragraph(text), title=""), count=len, target=100, maximum=140)
    assert all(part.text.endswith("。") for part in chunks)
    assert all(" " not in part.text for part in chunks)


# --- stability and cost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 30, 59])
def test_an_inserted_paragraph_leaves_the_other_chunks_alone(where: int) -> None:
    blocks = [paragraph(prose(number * 1000, 20 + number * 37 % 50)) for number in range(120)]
    before = {part.embedded_text for part in chunk(document(*blocks), count=words)}
    inserted = [*blocks[:where], paragraph(prose(500_000, 60)), *blocks[where:]]
    after = {part.embedded_text for part in chunk(document(*inserted), count=words)}
    assert len(before) > 15
    assert len(after - before) <= 4


def test_counts_each_text_a_few_times_only() -> None:
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return words(text)

    blocks = [paragraph(prose(number * 1000, 300)) for number in range(100)]
    chunk(document(*blocks), count=count)
    assert counted < 8 * sum(len(block.text) for block in blocks)
