"""Strangers' text: what becomes of NULs and of halves of characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.storable import encodable, is_storable, joined, storable

HALVES = "\ud83d\ude00"


@given(st.text(st.characters() | st.sampled_from(f"\0{HALVES}")))
def test_what_was_made_storable_is_and_good_text_stays(text: str) -> None:
    assert is_storable(storable(text))
    assert is_storable(joined(text))
    assert len(encodable(text).encode().decode()) == len(text)
    if is_storable(text):
        assert storable(text) == encodable(text) == joined(text) == text


@pytest.mark.parametrize(
    ("text", "stored", "encoded", "whole"),
    [
        ("a\0b", "ab", "a\0b", "a\ufffdb"),
        ("a\ud83db", "a?b", "a?b", "a\ufffdb"),
        (HALVES, "??", "??", "\U0001f600"),
    ],
)
def test_each_has_its_way_with_bad_text(text: str, stored: str, encoded: str, whole: str) -> None:
    assert not is_storable(text)
    assert (storable(text), encodable(text), joined(text)) == (stored, encoded, whole)
