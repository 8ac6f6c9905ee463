"""The model's answerer on a transport of the test's own: what it asks for, and streams that no server should send."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from structlog.testing import capture_logs

from chat_api.chat.answer import Ending, ModelAnswerer, Question
from chat_api.chat.bot import Bot
from chat_api.chat.prompt import PastTurn
from chat_api.core.bot_config import parse_config
from chat_api.core.errors import ProviderRejected, ProviderUnavailable
from chat_api.core.settings import Settings
from tests.chat_api.chat.passages import NOBODY, passage

Handler = Callable[[httpx2.Request], httpx2.Response]
DONE = "data: [DONE]\n\n"


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    """One event of a streamed completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'model': 'm', 'created': 1, 'choices': [choice], **more})}\n\n"


def events(*lines: str) -> Handler:
    """Answers every request with these events."""
    return lambda _: httpx2.Response(200, text="".join(lines), headers={"content-type": "text/event-stream"})


def answerer_of(handler: Handler, settings: Settings) -> ModelAnswerer:
    """An answerer whose requests this answers."""
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    client = AsyncOpenAI(api_key="sk", base_url="http://127.0.0.1:1/v1", max_retries=0, http_client=http)
    return ModelAnswerer(settings, client=client)


def bot_with(**config: Any) -> Bot:
    """A bot."""
    return Bot(NOBODY, UUID(int=1), "Robin", parse_config(config)[0])


def answered(handler: Handler, settings: Settings, **config: Any) -> tuple[list[str], Ending]:
    """The pieces of an answer, and its ending."""

    async def run() -> tuple[list[str], Ending]:
        answerer, ending = answerer_of(handler, settings), Ending()
        asked = Question(bot_with(**config), [], [passage("text")], "Why?")
        pieces = [piece async for piece in answerer.stream(asked, ending)]
        await answerer.aclose()
        return pieces, ending

    return asyncio.run(run())


@pytest.fixture
def unused(offline: Callable[..., Settings]) -> Settings:
    """Settings whose addresses nobody calls."""
    return offline(llm_timeout_s=2)


def test_pieces_usage_and_ending(unused: Settings) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    last = f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
    pieces, ending = answered(events(chunk(""), chunk("a"), chunk("b"), chunk(finish="length"), last, DONE), unused)
    assert pieces == ["a", "b"]
    assert ending == Ending("gpt-4o-mini", "length", 7, 2)


def test_tokens_are_estimated_where_the_server_does_not_count_them(unused: Settings) -> None:
    _, ending = answered(events(chunk("four" * 5), chunk(finish="stop"), DONE), unused)
    assert ending.completion_tokens == 5
    assert ending.prompt_tokens > 100


@pytest.mark.parametrize(
    ("status", "code", "event"),
    [
        (404, "model_not_found", "model_rejected"),
        (400, None, "model_rejected"),
        (429, "insufficient_quota", "model_unavailable"),
        (503, "overloaded", "model_unavailable"),
    ],
)
def test_the_operator_learns_which_model_was_refused_and_why(
    unused: Settings, status: int, code: str | None, event: str
) -> None:
    def refused(_: httpx2.Request) -> httpx2.Response:
        error = {"message": "Why? was what they asked", "code": code}
        return httpx2.Response(status, json={"error": error}, headers={"Retry-After": "60"})

    with capture_logs() as lines, pytest.raises((ProviderRejected, ProviderUnavailable)):
        answered(refused, unused, model="gpt-retired")
    [told] = lines
    assert {name: told[name] for name in ("event", "status", "code", "model")} == {
        **{"event": event, "status": status},
        **{"code": code, "model": "gpt-retired"},
    }
    assert "Why?" not in str(lines)


@settings(max_examples=40)
@given(text=st.text(st.characters() | st.sampled_from("\0\ud83d\ude00\udfff")), data=st.data())
def test_pieces_can_be_sent_and_kept_however_characters_were_cut(
    text: str, data: st.DataObject, offline: Callable[..., Settings]
) -> None:
    halves = f"a{text}".encode("utf-16-le", "surrogatepass")
    units = [halves[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(halves), 2)]
    bounds = sorted({0, len(units), *data.draw(st.sets(st.integers(0, len(units))))})
    cut = ["".join(units[start:end]) for start, end in pairwise(bounds)]
    pieces, ending = answered(events(*map(chunk, cut), chunk(finish="stop"), DONE), offline())
    assert "".join(pieces) == halves.decode("utf-16-le", "replace").replace("\0", "\ufffd")
    assert all(pieces)
    assert ending.finish_reason == "stop"


def test_a_rewriting_can_be_sent_and_kept_too(unused: Settings) -> None:
    message = {"role": "assistant", "content": "When do \ud83d\ude00 parcels \ud83dleave\0?"}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message}],
    }

    async def run() -> str:
        answerer = answerer_of(lambda _: httpx2.Response(200, content=json.dumps(body)), unused)
        rewriting = await answerer.standalone(bot_with(), "And when?", [PastTurn("What?", "Parcels.")])
        await answerer.aclose()
        return rewriting.text

    assert asyncio.run(run()) == "When do \U0001f600 parcels \ufffdleave\ufffd?"


def test_a_stream_that_ends_politely_without_a_reason_is_broken_off(unused: Settings) -> None:
    with pytest.raises(ProviderUnavailable):
        answered(events(chunk("a"), DONE), unused)


@pytest.mark.parametrize(
    "body",
    [
        "data: 5\n\n",
        'data: {"choices": 5}\n\n',
        'data: {"choices": [5]}\n\n',
        'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        'data: {"choices": [{"delta": "text"}]}\n\n',
        'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n',
        "<html>",
        "",
        chunk(finish="stop") + DONE,
    ],
)
def test_what_is_no_answer_is_typed(body: str, unused: Settings) -> None:
    with pytest.raises(ProviderUnavailable):
        answered(events(body), unused)


def test_an_error_in_the_stream_is_typed(unused: Settings) -> None:
    broken = 'data: {"error": {"message": "the key is sk", "code": 500}}\n\n'
    with pytest.raises(ProviderUnavailable) as raised:
        answered(events(chunk("a"), broken), unused)
    assert "sk" not in raised.value.message.split()


def test_a_refusal_is_typed(unused: Settings) -> None:
    with pytest.raises(ProviderRejected):
        answered(lambda _: httpx2.Response(422, json={"error": {"message": "no"}}), unused)


@pytest.mark.parametrize(
    ("model", "sent", "absent"),
    [
        ("gpt-4o-mini", {"max_tokens": 9, "temperature": 0.5}, {"max_completion_tokens"}),
        ("o3-mini", {"max_completion_tokens": 9}, {"max_tokens", "temperature"}),
        ("openai/gpt-5", {"max_completion_tokens": 9}, {"max_tokens", "temperature"}),
    ],
)
def test_reasoning_models_are_asked_in_their_own_words(
    model: str, sent: dict[str, Any], absent: set[str], unused: Settings
) -> None:
    seen: list[dict[str, Any]] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        return events(chunk("a", finish="stop"), DONE)(request)

    answered(handler, unused, model=model, max_tokens=9, temperature=0.5)
    assert {"model": model, "stream": True, **sent}.items() <= seen[0].items()
    assert not absent & seen[0].keys()
