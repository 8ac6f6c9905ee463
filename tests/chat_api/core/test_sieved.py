"""An index of some words alone finds for them what the whole index would, with the same scores."""

from uuid import uuid4

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.lexemes import pack, terms_of
from chat_api.core.postings import Place, Postings, Segment, sieved

PLACES = [Place(uuid4(), 1), Place(uuid4(), 2)]
words = st.sampled_from(["kettle", "lid", "rose", "delivery", "AB-1234", "4.90", "the", "ünder"])
texts = st.lists(st.lists(words, max_size=12).map(" ".join) | words.map(lambda word: f"{word} " * 700), max_size=6)


def segment(place: Place, chunks: list[str]) -> Segment:
    """Chunks of a place."""
    ids = b"".join(bytes([place.generation, number]) * 8 for number in range(len(chunks)))
    return Segment(place, ids, b"".join(map(pack, chunks)))


@given(texts, texts, st.lists(words, min_size=1, max_size=4).map(" ".join))
def test_what_is_sieved_scores_as_before(one: list[str], two: list[str], question: str) -> None:
    whole = [segment(place, chunks) for place, chunks in zip(PLACES, (one, two), strict=True)]
    terms = terms_of(question)["term"]
    wanted = np.unique(np.concatenate([terms, terms_of("roses and lids")["term"]]))
    found = Postings.of([sieved(part, wanted) for part in whole]).find(terms, 50)
    assert found == Postings.of(whole).find(terms, 50)


def test_what_is_sieved_is_small() -> None:
    whole = segment(PLACES[0], [" ".join(f"word{number}" for number in range(400)), "kettle"])
    assert len(sieved(whole, terms_of("kettle")["term"]).packed) < len(whole.packed) / 20


def test_chunks_without_words_are_not_found() -> None:
    assert Postings.of([segment(PLACES[0], ["", "…"])]).find(terms_of("kettle")["term"], 5) == []
