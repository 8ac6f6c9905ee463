"""The terms of texts: what is one word to a search, in any script, and how terms are stored."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_api.core.lexemes import FORMAT, RECORD, pack, terms_of, unpack


def shared(one: str, two: str) -> int:
    """How many terms two texts have in common."""
    return len(np.intersect1d(terms_of(one)["term"], terms_of(two)["term"]))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Part OK-6407 fits", "do you have ok6407?"),
        ("Part OK-6407 fits", "OK 6407"),
        ("a lid of 3,5 mm", "3.5"),
        ("costs £1,250", "1250"),
        ("holds 450ml", "450 ml"),
        ("the houses", "house's"),
        ("Lieferungen", "die LIEFERUNG"),
        ("Häuser", "haeuser hauser"),
        ("naïve café", "CAFE"),
        ("Straße", "STRASSE"),
        ("والمدرسة", "المدرسة"),
        ("школами", "школа школы"),
        ("東京タワーは高い", "東京タワー"),
        ("กรุงเทพมหานคร", "กรุงเทพ"),
        ("학교에서", "학교는"),
        ("ＡＢＣ１２３", "abc123"),
        ("user_name", "user name"),
        ("see e-mail", "email"),
    ],
)
def test_the_same_thing_written_otherwise_is_found(one: str, two: str) -> None:
    assert shared(one, two) >= 1


@pytest.mark.parametrize(
    ("one", "two"),
    [("OK-6407", "OX-6408"), ("3.5", "35"), ("hindi हिन्दी", "किताब"), ("cat", "catalogue"), ("", "a"), ("!?", "—")],
)
def test_other_things_have_nothing_in_common(one: str, two: str) -> None:
    assert shared(one, two) == 0


def test_a_words_vowel_signs_do_not_cut_it() -> None:
    assert len(terms_of("हिन्दी")) == len(terms_of("house"))


@given(st.text(max_size=400))
def test_any_text_has_terms_that_are_stored_as_they_are(text: str) -> None:
    records = unpack(pack(text))
    assert (records[0]["term"], records[0]["count"]) == (FORMAT, 0)
    assert records[1:].tolist() == terms_of(text).tolist()
    assert (np.diff(records[1:]["term"].astype(np.int64)) > 0).all(), "in order, each once"
    assert (records[1:]["count"] > 0).all(), "only the first record of a chunk has none"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_case_width_and_composition_do_not_count(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)
    assert terms_of(composed).tolist() == terms_of(unicodedata.normalize("NFD", composed)).tolist()


EDGES = st.text("\"'`*.,:;!?()[]{}<>|/-", max_size=4)


@example("(", "a" * 70, "")
@given(EDGES, st.from_regex(r"[A-Za-z]{1,70}|[0-9]{1,70}", fullmatch=True), EDGES)
def test_what_stands_around_a_word_does_not_count(before: str, word: str, after: str) -> None:
    assert terms_of(before + word + after).tolist() == terms_of(f"¿{word}¿").tolist()


def test_counts_have_an_end() -> None:
    [word] = terms_of("a " * 1000)
    assert word["count"] == 255
    assert RECORD.itemsize == 5
    assert len(pack("x" * 100_000)) <= 3 * RECORD.itemsize, "a word without end is one term"
