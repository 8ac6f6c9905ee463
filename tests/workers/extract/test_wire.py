"""What a child answers comes back exactly, or is a crash."""

import os
from contextlib import suppress
from tempfile import TemporaryFile

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
    TrainingError,
    UnsupportedType,
)
from workers.documents import Block, Document, Fetched
from workers.extract.wire import (
    Frames,
    dump_document,
    dump_error,
    load_answer,
    read_fetched,
    write_fetched,
    write_frame,
)

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_block = st.builds(
    Block,
    kind=st.sampled_from(["heading", "paragraph", "list", "table", "code"]),
    text=_text,
    level=st.integers(0, 6),
    page=st.none() | st.integers(1, 9000),
    language=_text,
)
_document = st.builds(
    Document,
    title=_text,
    blocks=st.lists(_block, max_size=5).map(tuple),
    media_type=_text,
    language=st.none() | _text,
    pages=st.none() | st.integers(0, 9000),
    published_on=st.none() | st.dates(),
    modified_on=st.none() | st.dates(),
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
    error = load_answer(dump_error(cls("A sentence of its own – with “quotes”.")))
    assert type(error) is cls
    assert error.message == "A sentence of its own – with “quotes”."


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
        assert isinstance(load_answer(data), Document | TrainingError)


# --- frames -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_payloads_come_out_whole_however_they_are_cut(payloads: list[bytes], size: int) -> None:
    written = _written(*payloads)
    frames, found = Frames(40), []
    for start in range(0, len(written), size):
        frames.feed(written[start : start + size])
        while (payload := frames.take()) is not None:
            found.append(payload)
    assert found == payloads


def test_a_payload_too_large_is_refused_before_it_comes() -> None:
    written = _written(b"x" * 41)
    frames = Frames(40)
    frames.feed(written[:7])
    assert frames.take() is None
    frames.feed(written[7:8])
    with pytest.raises(TooLarge):
        frames.take()


_fetched = st.builds(
    Fetched,
    url=st.text(max_size=40),
    status=st.integers(100, 599),
    body=st.binary(max_size=99),
    media_type=_text,
    canonical_url=st.none() | _text,
)


@given(st.lists(st.tuples(_fetched, st.none() | st.text(max_size=300))))
def test_documents_go_to_the_child_as_they_were_fetched(items: list[tuple[Fetched, str | None]]) -> None:
    with TemporaryFile() as file:
        for fetched, filename in items:
            write_fetched(file.fileno(), fetched, filename)
        found = list(read_fetched(file.fileno()))
    assert found == [(fetched, filename and filename[-255:]) for fetched, filename in items]


def _written(*payloads: bytes) -> bytes:
    with TemporaryFile() as file:
        for payload in payloads:
            write_frame(file.fileno(), payload)
        return os.pread(file.fileno(), 1 << 20, 0)
