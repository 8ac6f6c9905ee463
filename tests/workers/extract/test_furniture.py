"""What a site's pages have in common is dropped from each, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from workers.documents import Block, Document
from workers.extract.furniture import furniture_of, without_furniture

FOOT = Block("paragraph", "Order before noon and we pack today.")
CALL = Block("heading", "Talk to us", level=2)


def paged(number: int, *, head: tuple[Block, ...] = (), foot: tuple[Block, ...] = ()) -> Document:
    """A page of its own words between what may be furniture."""
    own = tuple(Block("paragraph", f"Paragraph {part} of product {number} is its own.") for part in range(3))
    return Document(f"Product {number}", (*head, *own, *foot), "text/html")


def test_what_most_pages_end_with_is_dropped() -> None:
    site = [paged(number, foot=(CALL, FOOT)) for number in range(5)]
    marks = furniture_of(site)
    cleaned = without_furniture(site[3], marks)
    assert cleaned.blocks == paged(3).blocks
    assert without_furniture(paged(9, foot=(FOOT,)), marks).blocks == paged(9).blocks


def test_three_pages_say_nothing_of_a_site() -> None:
    assert furniture_of([paged(number, foot=(FOOT,)) for number in range(3)]) == []


def test_what_not_most_pages_have_stays() -> None:
    some = [paged(number, foot=(FOOT,)) for number in range(4)] + [paged(number) for number in range(4, 8)]
    assert furniture_of(some) == []


def test_the_same_words_elsewhere_on_a_page_stay() -> None:
    marks = furniture_of([paged(number, foot=(FOOT,)) for number in range(5)])
    long = tuple(Block("paragraph", f"Line {line}.") for line in range(20))
    page = Document("Terms", (*long, FOOT, *long), "text/html")
    assert without_furniture(page, marks) == page


def test_a_page_with_nothing_of_its_own_stays_whole() -> None:
    marks = furniture_of([paged(number, foot=(CALL, FOOT)) for number in range(5)])
    bare = Document("Contact", (CALL, FOOT), "text/html")
    assert without_furniture(bare, marks) == bare


def test_spacing_and_case_make_no_difference() -> None:
    marks = furniture_of([paged(number, foot=(FOOT,)) for number in range(5)])
    shouted = Block("paragraph", "ORDER  before noon\nand we pack today.")
    assert without_furniture(paged(1, foot=(shouted,)), marks).blocks == paged(1).blocks


_blocks = st.lists(
    st.builds(
        Block, st.sampled_from(["heading", "paragraph", "list", "table", "code"]), st.text(min_size=1, max_size=6)
    ),
    max_size=30,
).map(tuple)
_documents = st.lists(_blocks.map(lambda blocks: Document("", blocks, "text/html")), max_size=10)


@given(_documents)
def test_only_repeated_blocks_go_and_no_text_is_emptied(site: list[Document]) -> None:
    marks = furniture_of(site)
    assert marks == furniture_of(site[::-1])
    for document in site:
        cleaned = without_furniture(document, marks)
        assert [block for block in document.blocks if block in cleaned.blocks] == [
            block for block in cleaned.blocks if block in document.blocks
        ] or len(cleaned.blocks) < len(document.blocks)
        assert bool(cleaned.blocks) == bool(document.blocks)
        assert without_furniture(cleaned, []) is cleaned
