"""Decompression: whole whatever the pieces, and never more than allowed."""

import gzip
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import BadResponse, FetchFailed, TooLarge
from workers.fetch.decoding import decode

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


def pieces(data: bytes, size: int) -> list[bytes]:
    """`data` in pieces of `size` bytes."""
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.binary(max_size=2_000), st.sampled_from(sorted(ENCODERS)), st.integers(1, 300))
def test_a_body_in_any_pieces_decodes_to_itself(body: bytes, coding: str, size: int) -> None:
    encoded = ENCODERS[coding](body)
    assert decode(pieces(encoded, size), coding, 4_000) == body


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(1, 300))
def test_gzip_members_follow_each_other(members: list[bytes], size: int) -> None:
    encoded = b"".join(gzip.compress(member) for member in members)
    assert decode(pieces(encoded, size), "gzip", 10_000) == b"".join(members)


def test_what_follows_gzip_and_is_not_gzip_is_ignored() -> None:
    assert decode(pieces(gzip.compress(b"page") + b"\0" * 50, 7), "gzip", 1_000) == b"page"


@given(st.integers(0, 3_000), st.integers(0, 3_000), st.sampled_from(sorted(ENCODERS)))
def test_the_limit_is_exact(size: int, limit: int, coding: str) -> None:
    encoded = ENCODERS[coding](b"\0" * size)
    if size > limit or len(encoded) > limit:
        with pytest.raises(TooLarge):
            decode([encoded], coding, limit)
    else:
        assert len(decode([encoded], coding, limit)) == size


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]), st.integers(1, 50))
def test_any_bytes_decode_or_are_one_typed_error(data: bytes, coding: str, size: int) -> None:
    with suppress(BadResponse, FetchFailed, TooLarge):
        assert len(decode(pieces(data, size), coding, 10_000)) <= 10_000


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip,deflate", "identity, identity", "x"])
def test_other_codings_are_refused(coding: str) -> None:
    with pytest.raises(BadResponse):
        decode([b"x"], coding, 100)


def test_an_empty_body_needs_no_coding() -> None:
    assert decode([], "gzip", 100) == b""
