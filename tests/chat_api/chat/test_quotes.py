"""Quotations: what an answer without a model says."""

from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.quotes import choose_quotes
from tests.chat_api.chat.passages import passage


def test_the_sentence_that_shares_most_is_quoted_with_its_neighbours() -> None:
    long = "Nothing of note is said here at all, whatever anybody asks. " * 6
    answers = "Parcels leave at noon. They are packed in straw."
    (quote, *_) = choose_quotes("When do parcels leave?", [passage(long), passage(f"{long}\n{answers}\n{long}")])
    assert quote.number == 2
    assert "Parcels leave at noon. They are packed in straw." in quote.text
    assert len(quote.text) <= 300


def test_a_row_is_quoted_with_its_columns_names() -> None:
    table = "| Where to | Parcel | Pallet |\n| --- | --- | --- |\n| England | £6 | £74 |\n| Highlands | £13 | £129 |"
    (quote, *_) = choose_quotes("What does a pallet to the Highlands cost?", [passage(table)])
    assert quote.text == "Highlands: Parcel £13, Pallet £129"


@given(st.text(max_size=300), st.lists(st.text(max_size=300), min_size=1, max_size=4))
def test_quotations_of_anything(question: str, texts: list[str]) -> None:
    quotes = choose_quotes(question, [passage(text) for text in texts])
    assert len(quotes) <= 2
    assert all(1 <= quote.number <= len(texts) and quote.text.strip() for quote in quotes)
