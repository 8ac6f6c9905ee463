"""The loopback provider, driven by the `openai` package: its protocol, its determinism, each fault and each count."""

import asyncio
import base64
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.provider import Provider
from tests.provider_model import NOTHING_QUOTED

PASSAGES = (
    'Passages:\n<passage n="1" title="Returns">\nShoes go back within 30 days. Keep the box.\n</passage>\nAnswer.'
)


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as started:
        yield started


@pytest.fixture
def provider(server: Provider) -> Provider:
    server.reset()
    return server


@pytest.fixture
def client(provider: Provider) -> Iterator[OpenAI]:
    with OpenAI(api_key="any", base_url=provider.base_url, max_retries=0, timeout=10) as made:
        yield made


def embed(client: OpenAI, *texts: str, **options: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    answer = client.embeddings.create(model="any-model", input=list(texts), dimensions=options.get("dimensions", 256))
    return np.array([item.embedding for item in answer.data], np.float32)


def ask(client: OpenAI, text: str = PASSAGES) -> list[ChatCompletionChunk]:
    return list(
        client.chat.completions.create(
            model="any-model",
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


def test_base64_and_float_are_the_same_vectors(client: OpenAI) -> None:
    texts = ["Shoes go back within 30 days", "Ünïcode 漢字", "!"]
    by_float = client.embeddings.create(model="m", input=texts, encoding_format="float")
    raw = client.embeddings.with_raw_response.create(model="m", input=texts, encoding_format="base64")
    by_base64 = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in raw.http_response.json()["data"]]
    assert np.array_equal(np.array([item.embedding for item in by_float.data], np.float32), by_base64)
    assert [item.index for item in by_float.data] == [0, 1, 2]
    assert np.allclose(np.linalg.norm(by_base64, axis=1), 1, atol=1e-6)


def test_a_single_text_has_the_vector_it_has_in_a_list_and_default_dimensions(client: OpenAI) -> None:
    alone = client.embeddings.create(model="m", input="two words")
    listed = client.embeddings.create(model="m", input=["other", "two words"])
    assert alone.data[0].embedding == listed.data[1].embedding
    assert len(alone.data[0].embedding) == 1536
    assert alone.usage.prompt_tokens == alone.usage.total_tokens == 3


def test_texts_that_share_words_are_near_and_others_are_not(client: OpenAI) -> None:
    question, answer, other = embed(
        client, "How do I return shoes?", "Shoes can be returned in 30 days", "A warranty covers defects"
    )
    assert question @ answer > 0.4
    assert abs(question @ other) < 0.2


def test_another_process_gives_the_same_vectors(client: OpenAI) -> None:
    command = [sys.executable, "-m", "tests.provider", "--port", "0", "--latency-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        with OpenAI(api_key="k", base_url=process.stdout.readline().strip(), max_retries=0, timeout=10) as other:
            assert np.array_equal(embed(other, "the very same"), embed(client, "the very same"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_streamed_answer_has_role_deltas_finish_and_usage_in_this_order(client: OpenAI) -> None:
    first, *deltas, finish, usage = ask(client)
    assert first.choices[0].delta.role == "assistant"
    assert len(deltas) > 3
    assert text_of(deltas) == "Shoes go back within 30 days. [1]"
    assert finish.choices[0].finish_reason == "stop"
    assert not usage.choices
    assert usage.usage
    assert usage.usage.completion_tokens == len(deltas)


def test_a_plain_answer_is_the_streamed_one(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": PASSAGES}])
    assert answer.choices[0].message.content == text_of(ask(client))
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("no passage here", NOTHING_QUOTED),
        ("<passage></passage>", NOTHING_QUOTED),
        ("````text\nOne line only\nand another\n````", "One line only [1]"),
        ("<source id=3>Costs 3.50 today! Yes.</source>", "Costs 3.50 today! [1]"),
    ],
)
def test_an_answer_quotes_the_first_sentence_of_the_first_passage(client: OpenAI, prompt: str, answer: str) -> None:
    assert text_of(ask(client, prompt)) == answer


def test_scripted_answers_come_once_each_in_order(provider: Provider, client: OpenAI) -> None:
    provider.controls.answers.extend(["first one", " with\n\nlines "])
    assert [text_of(ask(client, "q")) for _ in range(3)] == ["first one", " with\n\nlines ", NOTHING_QUOTED]


def test_max_tokens_ends_an_answer_early(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}], max_tokens=2)
    assert answer.choices[0].message.content == "I can"
    assert answer.choices[0].finish_reason == "length"


def test_models_are_listed(client: OpenAI) -> None:
    assert "gpt-4o-mini" in [model.id for model in client.models.list()]


def test_a_request_without_a_key_is_refused(provider: Provider) -> None:
    answer = httpx2.post(f"{provider.base_url}/embeddings", json={"model": "m", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert provider.counts.inputs == 0


@pytest.mark.parametrize("given", [[], "", ["ok", ""], [1, 2], None])
def test_inputs_that_the_real_server_refuses_are_refused(provider: Provider, given: object) -> None:
    headers = {"Authorization": "Bearer k"}
    answer = httpx2.post(f"{provider.base_url}/embeddings", json={"model": "m", "input": given}, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, openai.BadRequestError), (500, openai.InternalServerError), (503, openai.InternalServerError)],
)
def test_the_next_requests_of_a_kind_fail_and_no_others(
    provider: Provider, client: OpenAI, status: int, error: type[Exception]
) -> None:
    provider.fail(status, times=2)
    assert text_of(ask(client))
    for _ in range(2):
        with pytest.raises(error):
            embed(client, "x")
    assert embed(client, "x").shape == (1, 256)
    assert provider.counts.refused == {str(status): 2}


def test_a_429_says_when_to_come_back(provider: Provider, client: OpenAI) -> None:
    provider.fail(429, "chat", retry_after=7, code="rate_limit_exceeded")
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "rate_limit_exceeded"


def test_a_hung_request_ends_with_its_client(provider: Provider, client: OpenAI) -> None:
    provider.fail("hang")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.1).embeddings.create(model="m", input="x")
    wait_until(lambda: provider.counts.client_closed == 1)


def test_a_malformed_body_is_not_json(provider: Provider, client: OpenAI) -> None:
    provider.fail("malformed")
    with pytest.raises(json.JSONDecodeError):
        client.embeddings.with_raw_response.create(model="m", input="x").http_response.json()
    provider.fail("malformed", "chat")
    with pytest.raises(json.JSONDecodeError):
        ask(client)


def test_a_cut_stream_gives_its_deltas_and_then_breaks(provider: Provider, client: OpenAI) -> None:
    provider.fail("cut", "chat", after=2)
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": PASSAGES}], stream=True)
    assert [chunk.choices[0].delta.content for chunk in itertools.islice(stream, 3)] == ["", "Shoes", " go"]
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        next(stream)


def test_a_cut_embedding_is_a_broken_connection(provider: Provider, client: OpenAI) -> None:
    provider.fail("cut")
    with pytest.raises(openai.APIConnectionError):
        embed(client, "x")


def test_poison_and_batches_above_the_limits_are_refused_and_embed_nothing(provider: Provider, client: OpenAI) -> None:
    provider.controls.poison, provider.controls.max_inputs, provider.controls.max_tokens = "XYZZY", 3, 20
    for bad in (["fine", "an XYZZY here"], ["a"] * 4, ["b" * 44, "c" * 44]):
        with pytest.raises(openai.BadRequestError):
            embed(client, *bad)
    assert embed(client, "a", "b", "c").shape == (3, 256)
    assert provider.counts.report()["inputs"] == 3


def test_dimensions_and_format_can_be_forced(provider: Provider, client: OpenAI) -> None:
    provider.controls.dimensions, provider.controls.float_only = 8, True
    raw = client.embeddings.with_raw_response.create(model="m", input="x", dimensions=64, encoding_format="base64")
    vector = raw.http_response.json()["data"][0]["embedding"]
    assert isinstance(vector, list)
    assert len(vector) == 8


def test_inputs_tokens_and_distinct_texts_are_counted(provider: Provider, client: OpenAI) -> None:
    embed(client, "12345678", "abcd")
    embed(client, "abcd")
    ask(client, "abcd")
    counts = httpx2.get(f"{provider.address}/counts").json()
    assert counts["requests"] == {"embeddings": 2, "chat": 1}
    assert (counts["inputs"], counts["distinct_inputs"]) == (3, 2)
    assert counts["tokens"] == {"embeddings": 4, "prompt": 4, "completion": 11}
    assert (counts["running"], counts["peak"], counts["client_closed"]) == (0, 1, 0)


def test_a_control_request_sets_appends_resets_and_refuses_what_it_does_not_know(
    provider: Provider, client: OpenAI
) -> None:
    control = f"{provider.address}/control"
    orders = {
        "poison": "bad",
        "answers": ["scripted"],
        "faults": [{"act": 500, "times": 2}, {"act": 503, "kind": "chat"}],
    }
    assert httpx2.post(control, json=orders).status_code == 200
    assert [fault.act for fault in provider.controls.faults] == [500, 500, 503]
    assert (provider.controls.poison, list(provider.controls.answers)) == ("bad", ["scripted"])
    assert httpx2.post(control, json={"reset": True}).status_code == 200
    assert embed(client, "bad").shape == (1, 256)
    for wrong in ({"latency": 5}, {"faults": [{"what": 500}]}):
        assert httpx2.post(control, json=wrong).status_code == 400


def test_a_client_that_goes_away_stops_the_stream_and_is_counted(provider: Provider, client: OpenAI) -> None:
    provider.controls.token_delay_ms = 20
    provider.controls.answers.append("word " * 10_000)
    with client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}], stream=True) as stream:
        assert len(list(itertools.islice(stream, 3))) == 3
    wait_until(lambda: provider.counts.client_closed == 1)
    assert provider.counts.running == 0


def test_deltas_arrive_before_the_answer_is_finished(provider: Provider, client: OpenAI) -> None:
    provider.controls.token_delay_ms = 60_000
    with client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}], stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.role == "assistant"
        assert provider.counts.running == 1


def test_async_requests_overlap_during_their_latency(provider: Provider) -> None:
    provider.controls.latency_ms = 300

    async def go() -> list[str | None]:
        async with AsyncOpenAI(api_key="k", base_url=provider.base_url, max_retries=0, timeout=10) as client:
            asked = [
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": PASSAGES}])
                for _ in range(8)
            ]
            embedded = asyncio.ensure_future(client.embeddings.create(model="m", input="x"))
            answers = await asyncio.gather(*asked)
            assert len((await embedded).data) == 1
            return [answer.choices[0].message.content for answer in answers]

    assert asyncio.run(go()) == ["Shoes go back within 30 days. [1]"] * 8
    assert provider.counts.peak == 9


def test_async_streaming(provider: Provider) -> None:
    async def go() -> str:
        async with AsyncOpenAI(api_key="k", base_url=provider.base_url, max_retries=0, timeout=10) as client:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": PASSAGES}], stream=True
            )
            return text_of([chunk async for chunk in stream])

    assert asyncio.run(go()) == "Shoes go back within 30 days. [1]"


def test_stopping_ends_the_thread_and_the_requests_that_hang() -> None:
    with Provider() as provider:
        provider.fail("hang")
        client = OpenAI(api_key="k", base_url=provider.base_url, max_retries=0, timeout=30)
        failures: list[openai.APIError] = []

        def hang() -> None:
            try:
                client.embeddings.create(model="m", input="x")
            except openai.APIError as error:
                failures.append(error)

        hanging = threading.Thread(target=hang)
        hanging.start()
        wait_until(lambda: provider.counts.running == 1)
    hanging.join(10)
    assert len(failures) == 1
