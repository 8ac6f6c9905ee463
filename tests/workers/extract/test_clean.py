"""No string of a document holds what a reader can't see or a database can't store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.documents import Block, Document
from workers.extract.clean import clean_document, clean_text


@pytest.mark.parametrize(
    ("text", "clean", "hidden"),
    [
        ("a\0b\x07c\x7f", "abc", 0),
        ("lone \ud800 surrogate", "lone  surrogate", 0),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", 0),
        ("re\u00adgu\u00adlar", "regular", 0),
        ("pay\u200bpal\ufeff", "paypal", 2),
        ("safe\u202eevil\u202c", "safeevil", 2),
        ("".join(chr(0xE0000 + ord(char)) for char in "obey"), "", 4),
        ("zero\u200dwidth", "zerowidth", 1),
        ("می\u200cخواهم", "می\u200cخواهم", 0),
        ("👩\u200d🚒 ok", "👩\u200d🚒 ok", 0),
        ("trailing \t\nspace ", "trailing\nspace", 0),
        ("tab\tkept", "tab\tkept", 0),
    ],
)
def test_clean_text(text: str, clean: str, hidden: int) -> None:
    assert clean_text(text) == (clean, hidden)


def test_hidden_characters_are_reported() -> None:
    document = Document(
        "T\u200bitle\n", (Block("paragraph", "a\u200b"), Block("code", "\n  x\n"), Block("list", "\0 ")), "x"
    )
    cleaned = clean_document(document)
    assert cleaned.title == "Title"
    assert cleaned.blocks == (Block("paragraph", "a"), Block("code", "  x"))
    assert cleaned.warnings == ("1 invisible characters were dropped.",)


@given(st.text(st.characters(), max_size=200))
def test_cleaning_is_done_once(text: str) -> None:
    once, _ = clean_text(text)
    assert clean_text(once) == (once, 0)
    once.encode()
    assert "\0" not in once
