"""Embeddings over an OpenAI-compatible server: vectors, requests as sent, and each failure as its own error."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chat_api.core.embeddings import EmbeddingSpace, OpenAIEmbedder, decode, make_embedder, retry_after
from chat_api.core.errors import (
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingThrottled,
    EmbeddingUnavailable,
    QuotaExceeded,
    ServiceError,
)
from chat_api.core.settings import Settings
from tests.provider import Provider

SPACE = EmbeddingSpace("text-embedding-3-small", 64)
KEY = "sk-canary-0123456789"
TEXTS = ["Shoes go back within 30 days", "Die Garantie gilt zwei Jahre", "漢字 and 😀"]


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as started:
        yield started


@pytest.fixture
def provider(server: Provider) -> Provider:
    server.reset()
    return server


def make(provider: Provider, space: EmbeddingSpace = SPACE, timeout_s: float = 10) -> OpenAIEmbedder:
    return OpenAIEmbedder(space, api_key=KEY, base_url=provider.base_url, timeout_s=timeout_s)


def query(embedder: OpenAIEmbedder, text: str) -> NDArray[np.float32]:
    async def go() -> NDArray[np.float32]:
        try:
            return await embedder.embed_query(text)
        finally:
            await embedder.aclose()

    return asyncio.run(go())


def body(*vectors: list[float], start: int = 0) -> bytes:
    items = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors, start)]
    return json.dumps({"data": items}).encode()


def answering(answer: Callable[[dict[str, Any]], httpx2.Response], **options: Any) -> OpenAIEmbedder:
    """An embedder whose server is a function of the request's body."""
    transport = httpx2.MockTransport(lambda request: answer(json.loads(request.content)))
    space = options.pop("space", EmbeddingSpace("m", 2))
    return OpenAIEmbedder(
        space, api_key=KEY, base_url="http://127.0.0.1:1/v1", transport=transport, async_transport=transport, **options
    )


def test_texts_become_unit_vectors_in_their_order(provider: Provider) -> None:
    vectors = make(provider).embed(TEXTS)
    assert vectors.shape == (3, 64)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.allclose(make(provider).embed([text])[0], vector, atol=1e-6)


def test_a_question_has_the_vector_its_text_has_in_training(provider: Provider) -> None:
    vector = query(make(provider), TEXTS[0])
    assert vector.shape == (64,)
    assert np.array_equal(vector, make(provider).embed(TEXTS)[0])


def test_a_server_that_sends_lists_gives_the_same_vectors(provider: Provider) -> None:
    by_base64 = make(provider).embed(TEXTS)
    provider.controls.float_only = True
    assert np.array_equal(make(provider).embed(TEXTS), by_base64)


def test_no_texts_cost_no_request(provider: Provider) -> None:
    assert make(provider).embed([]).shape == (0, 64)
    assert provider.counts.requests.total() == 0


def test_one_call_is_one_request_and_a_failed_one_is_not_repeated(provider: Provider) -> None:
    embedder = make(provider)
    embedder.embed(TEXTS * 500)
    assert provider.counts.requests["embeddings"] == 1
    provider.fail(500)
    with pytest.raises(EmbeddingUnavailable):
        embedder.embed(TEXTS)
    assert provider.counts.requests["embeddings"] == 2


def test_lone_surrogates_are_sent_as_question_marks(provider: Provider) -> None:
    embedder = make(provider)
    assert np.array_equal(embedder.embed(["bad \ud800 half"]), embedder.embed(["bad ? half"]))
    assert embedder.count_tokens("\ud800") == 1


def test_several_threads_share_an_embedder(provider: Provider) -> None:
    provider.controls.latency_ms = 100
    embedder = make(provider)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: embedder.embed([text]), TEXTS * 4))
    assert all(np.array_equal(vectors, found[index % 3]) for index, vectors in enumerate(found))
    assert provider.counts.peak > 1


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, None, EmbeddingRejected),
        (413, None, EmbeddingRejected),
        (422, None, EmbeddingRejected),
        (401, "invalid_api_key", EmbeddingMisconfigured),
        (403, None, EmbeddingMisconfigured),
        (404, "model_not_found", EmbeddingMisconfigured),
        (429, None, EmbeddingThrottled),
        (429, "insufficient_quota", QuotaExceeded),
        (402, None, QuotaExceeded),
        (408, None, EmbeddingUnavailable),
        (500, None, EmbeddingUnavailable),
        (503, None, EmbeddingUnavailable),
        ("malformed", None, EmbeddingUnavailable),
        ("cut", None, EmbeddingUnavailable),
    ],
)
def test_each_failure_has_its_error_for_texts_and_for_questions(
    provider: Provider, status: Any, code: str | None, error: type[ServiceError]
) -> None:
    provider.fail(status, code=code, times=2)
    with pytest.raises(ServiceError) as caught:
        make(provider).embed(TEXTS)
    assert type(caught.value) is error
    with pytest.raises(ServiceError) as caught:
        query(make(provider), TEXTS[0])
    assert type(caught.value) is error


def test_a_429_carries_the_wait(provider: Provider) -> None:
    provider.fail(429, retry_after=7)
    with pytest.raises(EmbeddingThrottled) as caught:
        make(provider).embed(TEXTS)
    assert caught.value.retry_after == 7


def test_a_refused_key_is_said_and_not_shown() -> None:
    said = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
    with pytest.raises(EmbeddingRejected, match="refused the API key") as caught:
        answering(lambda _: httpx2.Response(401, json=said)).embed(["x"])
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_refusals_reason_is_told_in_one_short_line_without_the_key() -> None:
    said = {"error": {"message": f"too\nlong for {KEY}: " + "x" * 500}}
    with pytest.raises(EmbeddingRejected, match=r"too long for \*\*\*: x") as caught:
        answering(lambda _: httpx2.Response(400, json=said)).embed(["x"])
    assert len(caught.value.message) < 260


def test_a_server_that_hangs_is_given_up(provider: Provider) -> None:
    provider.fail("hang", times=2)
    embedder = make(provider, timeout_s=0.2)
    with pytest.raises(EmbeddingUnavailable, match=r"within 0\.2 s"):
        embedder.embed(TEXTS)
    with pytest.raises(EmbeddingUnavailable, match=r"within 0\.2 s"):
        query(embedder, TEXTS[0])


def test_a_question_is_given_up_however_its_answer_drips() -> None:
    async def never(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(60)
        raise AssertionError

    transport = httpx2.MockTransport(never)  # which knows no time limit of its own
    url = "http://127.0.0.1:1/v1"
    embedder = OpenAIEmbedder(SPACE, api_key=KEY, base_url=url, timeout_s=0.1, async_transport=transport)
    with pytest.raises(EmbeddingUnavailable, match=r"within 0\.1 s"):
        query(embedder, TEXTS[0])


def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    embedder = OpenAIEmbedder(SPACE, api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1")
    with pytest.raises(EmbeddingUnavailable):
        embedder.embed(TEXTS)


def test_vectors_of_another_length_are_refused_naming_both_numbers(provider: Provider) -> None:
    provider.controls.dimensions = 32
    with pytest.raises(EmbeddingRejected, match="32 dimensions, but 64 are configured"):
        make(provider).embed(TEXTS)


def test_a_model_that_takes_no_dimensions_is_asked_again_without_and_from_then_on() -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> httpx2.Response:
        asked.append(request)
        if "dimensions" in request:
            return httpx2.Response(
                400, json={"error": {"message": "This model does not support specifying dimensions."}}
            )
        return httpx2.Response(200, content=body([3, 4]))

    embedder = answering(answer)
    assert np.allclose(embedder.embed(["x"]), [[0.6, 0.8]])
    embedder.embed(["y"])
    assert np.allclose(query(embedder, "z"), [0.6, 0.8])
    assert [request.get("dimensions") for request in asked] == [2, None, None, None]


def test_dimensions_are_not_sent_when_not_wanted() -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, content=body([3, 4]))

    answering(answer, send_dimensions=False).embed(["x"])
    assert asked == [{"model": "m", "input": ["x"], "encoding_format": "base64"}]


def test_vectors_are_placed_by_their_index() -> None:
    answer = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [5, 0]}]}
    assert decode(json.dumps(answer).encode(), 2, EmbeddingSpace("m", 2)).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"<html>",
        b'{"data": null}',
        b'{"data": [1]}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"index": 0, "embedding": "AAA"}]}',
        b'{"data": [{"index": "0", "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": ["a", "b"]}]}',
        b'{"data": [{"index": 0, "embedding": null}]}',
        b'{"data": [{"index": 0, "embedding": [[1, 2]]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}, {"index": "1", "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": [1%b, 2]}]}' % (b"0" * 400),
        b'{"data": []}',
        body([1, 2], [1, 2]),
        body([1, 2], start=1),
        body([1, 2], start=-1),
    ],
)
def test_an_answer_that_is_none_is_unavailable(answer: bytes) -> None:
    with pytest.raises(EmbeddingUnavailable):
        decode(answer, 1, EmbeddingSpace("m", 2))


@pytest.mark.parametrize("vector", ["[0, 0]", "[1e39, 1]", "[1e30, 1]", "[NaN, 1]"])
def test_a_vector_without_direction_is_refused(vector: str) -> None:
    with pytest.raises(EmbeddingRejected, match="without a direction"):
        decode(b'{"data": [{"index": 0, "embedding": %b}]}' % vector.encode(), 1, EmbeddingSpace("m", 2))


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists).map(
        lambda thing: json.dumps({"data": [{"index": 0, "embedding": thing}]}).encode()
    )
)
def test_whatever_a_server_answers_is_vectors_or_a_typed_error(answer: bytes) -> None:
    with suppress(EmbeddingUnavailable, EmbeddingRejected):
        assert decode(answer, 1, EmbeddingSpace("m", 2)).shape == (1, 2)


@given(st.text())
def test_the_token_bound_is_never_below_the_texts_bytes(text: str) -> None:
    embedder = OpenAIEmbedder(SPACE, api_key=KEY, base_url="http://127.0.0.1:1/v1")
    assert embedder.count_tokens(text) == len(text.encode())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "-4"}, 0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_of_retry_after_is_a_wait_until_then() -> None:
    wait = retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"})
    assert wait is not None
    assert wait > 1e6


def settings(**changes: Any) -> Settings:
    names = ["dashboard_db_host", "dashboard_db_username", "dashboard_db_name"]
    names += ["python_chat_db_host", "python_chat_db_username", "python_chat_db_name", "r2_account_id"]
    fixed: dict[str, Any] = dict.fromkeys(names, "x")
    return Settings.model_validate(fixed | {"openai_api_key": KEY, "llm_provider": "extractive"} | changes)


def test_the_settings_give_model_dimensions_and_address(provider: Provider) -> None:
    given = settings(embedding_base_url=provider.base_url, openai_base_url="http://127.0.0.1:1/v1")
    embedder = make_embedder(given)
    assert embedder.space == EmbeddingSpace("text-embedding-3-small", 1536)
    assert embedder.embed(["x"]).shape == (1, 1536)
    other = make_embedder(
        settings(embedding_model="other", embedding_dimensions=100, openai_base_url=provider.base_url)
    )
    assert other.embed(["x"]).shape == (1, 100)
