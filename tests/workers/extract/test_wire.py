"""What a child answers comes back exactly, or is a crash."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import (
    EncryptedDocument,
    MalformedDocument,
    NeedsRendering,
    NoText,
    ParserCrashed,
    ServiceError,
    TooLarge,
    UnsupportedType,
)
from workers.documents import Block, Document
from workers.extract.wire import dump_document, dump_error, load_answer

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_block = st.builds(
    Block,
    kind=st.sampled_from(["heading", "paragraph", "list", "table", "code"]),
    text=_text,
    level=st.integers(0, 6),
    page=st.none() | st.integers(1, 9000),
)
_document = st.builds(
    Document,
    title=_text,
    blocks=st.lists(_block, max_size=5).map(tuple),
    media_type=_text,
    language=st.none() | _text,
    pages=st.none() | st.integers(0, 9000),
    links=st.lists(_text, max_size=3).map(tuple),
    canonical_url=st.none() | _text,
    warnings=st.lists(_text, max_size=3).map(tuple),
)


@given(_document)
def test_documents_come_back_equal(document: Document) -> None:
    assert load_answer(dump_document(document)) == document


@pytest.mark.parametrize(
    "cls", [NoText, EncryptedDocument, MalformedDocument, NeedsRendering, TooLarge, UnsupportedType]
)
def test_errors_come_back_as_themselves(cls: type[ServiceError]) -> None:
    with pytest.raises(cls) as caught:
        load_answer(dump_error(cls("A sentence of its own – with “quotes”.")))
    assert type(caught.value) is cls
    assert caught.value.message == "A sentence of its own – with “quotes”."


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"D", b"E", b"X", b"D{}", b"D[1]", b"E{}", b'E{"code":"internal","message":"x"}', b"E[]", b"\xff\xfe"),
        b'D{"title":1,"blocks":[],"media_type":"x"}',
        b'D{"title":"a","blocks":[{"kind":"script","text":"x"}],"media_type":"x"}',
    ],
)
def test_anything_else_is_a_crash(data: bytes) -> None:
    with pytest.raises(ParserCrashed):
        load_answer(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_a_typed_error(data: bytes) -> None:
    with suppress(ServiceError):
        assert isinstance(load_answer(data), Document)
