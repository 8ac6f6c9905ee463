"""A loopback OpenAI-compatible server: deterministic embeddings and answers, faults on demand, everything counted.

In a test: `with Provider() as provider: OpenAI(base_url=provider.base_url, …)`; for other processes:
`python -m tests.provider --port 0 --latency-ms 100` (first line: its base URL), `POST /control`, `GET /counts`.
"""

import argparse
import asyncio
import base64
import json
import re
import signal
import socket
import threading
import time
from typing import Any, Self

import numpy as np
import uvicorn
from numpy.typing import NDArray
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from tests.provider_model import USUAL_MODEL, HashedEmbeddings, count_tokens, derive_answer
from tests.provider_state import Act, BadControl, Controls, Counts, Fault, Kind
from tests.provider_wire import ClientGone, Exchange, Refusal

KINDS: dict[tuple[str, str], Kind] = {
    ("POST", "/v1/embeddings"): "embeddings",
    ("POST", "/v1/chat/completions"): "chat",
    ("GET", "/v1/models"): "models",
}
MODELS = [USUAL_MODEL, "gpt-4o-mini"]
"""What GET /v1/models lists; any other name is served as well."""
DEFAULT_DIMENSIONS = 1536
EVENT_STREAM = "text/event-stream; charset=utf-8"
SLICE = 32
"""Inputs embedded before other requests get a turn; it is also the fastest size."""
_pieces = re.compile(r"\s*\S+(?:\s+$)?").findall


class Provider:
    """The server, in a thread of its own; `controls` and `counts` may be used from any thread."""

    def __init__(self, *, port: int = 0, latency_ms: float = 0) -> None:
        self._latency_ms = latency_ms
        self._embeddings = HashedEmbeddings()
        self.reset()
        self._socket = _listen(port)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.base_url = f"{self.address}/v1"
        config = uvicorn.Config(self, lifespan="off", log_config=None, log_level="critical", timeout_keep_alive=75)
        self._server = uvicorn.Server(config)
        serve = self._server.serve
        self._thread = threading.Thread(
            target=lambda: asyncio.run(serve(sockets=[self._socket])), name="provider", daemon=True
        )

    def reset(self) -> None:
        """Forget faults, controls and counts."""
        self.controls, self.counts = Controls(latency_ms=self._latency_ms), Counts()

    def fail(
        self,
        act: Act,
        kind: Kind = "embeddings",
        *,
        times: int = 1,
        retry_after: float | str | None = None,
        code: str | None = None,
        after: int = 0,
    ) -> None:
        """Let the next `times` requests of a kind fail; see Fault."""
        self.controls.faults.extend([Fault(act, kind, retry_after, code, after)] * times)

    def start(self) -> Self:
        """Serve; returns once requests are answered."""
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > deadline:
                raise TimeoutError("the provider did not start")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Close every connection, answered or not, and end the thread."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """The ASGI application."""
        exchange, counts = Exchange(scope, receive, send), self.counts
        try:
            await self._route(exchange, counts)
        except Refusal as refusal:
            counts.refused[str(refusal.status)] += 1
            await exchange.answer(refusal.status, json.dumps(refusal.body).encode(), refusal.headers)
        except ClientGone:
            counts.client_closed += 1
        finally:
            exchange.close()

    async def _route(self, exchange: Exchange, counts: Counts) -> None:
        body = await exchange.read()
        if exchange.route == ("GET", "/counts"):
            await exchange.answer(200, json.dumps(counts.report()).encode())
        elif exchange.route == ("POST", "/control"):
            await exchange.answer(200, json.dumps(self._control(body)).encode())
        elif kind := KINDS.get(exchange.route):
            counts.requests[kind] += 1
            with counts.one_more_running():
                await self._serve(exchange, kind, body)
        else:
            raise Refusal(404, f"there is no {' '.join(exchange.route)}", "unknown_url")

    def _control(self, orders: dict[str, Any]) -> dict[str, str]:
        if orders.pop("reset", False):
            self.reset()
        try:
            self.controls.apply(orders)
        except (BadControl, TypeError) as error:
            raise Refusal(400, str(error)) from error
        return {"status": "ok"}

    async def _serve(self, exchange: Exchange, kind: Kind, body: dict[str, Any]) -> None:
        if not re.fullmatch(r"Bearer \S+", exchange.headers.get("authorization", "")):
            raise Refusal(401, "You didn't provide an API key.", "invalid_api_key")
        await exchange.pause(self.controls.latency_ms / 1000)
        fault = self.controls.next_fault(kind)
        if fault and fault.act == "cut":
            exchange.cut_after = fault.after
        elif fault:
            return await _befall(exchange, fault, stream=body.get("stream") is True)
        if kind == "embeddings":
            return await self._embed(exchange, body)
        if kind == "chat":
            return await self._chat(exchange, body)
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "loopback"} for name in MODELS]
        return await exchange.answer(200, json.dumps({"object": "list", "data": models}).encode())

    async def _embed(self, exchange: Exchange, body: dict[str, Any]) -> None:
        texts, counts = _texts(body), self.counts
        tokens = self._check(texts)
        dimensions = self.controls.dimensions or body.get("dimensions") or DEFAULT_DIMENSIONS
        as_base64 = body.get("encoding_format") == "base64" and not self.controls.float_only
        encode = _base64_item if as_base64 else _float_item
        items: list[bytes] = []
        for start in range(0, len(texts), SLICE):
            vectors = self._embeddings.embed(texts[start : start + SLICE], dimensions, body["model"])
            items += [encode(start + row, vector) for row, vector in enumerate(vectors)]
            await exchange.pause(0)
        counts.inputs += len(texts)
        counts.models[body["model"]] += len(texts)
        counts.tokens["embeddings"] += tokens
        counts.seen.update(map(hash, texts))
        end = json.dumps({"model": body["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
        await exchange.answer(200, b'{"object":"list","data":[%b],%b' % (b",".join(items), end[1:].encode()))

    def _check(self, texts: list[str]) -> int:
        """The tokens of an embedding request that is not to be refused."""
        sizes, limits = [count_tokens(text) for text in texts], self.controls
        if len(texts) > limits.max_inputs:
            raise Refusal(400, f"at most {limits.max_inputs} inputs, got {len(texts)}")
        if max(sizes) > limits.max_input_tokens:
            raise Refusal(400, f"maximum context length is {limits.max_input_tokens} tokens, got {max(sizes)}")
        if sum(sizes) > limits.max_tokens:
            raise Refusal(400, f"at most {limits.max_tokens} tokens, got {sum(sizes)}", "max_tokens_per_request")
        if limits.poison and any(limits.poison in text for text in texts):
            raise Refusal(400, "an input is not acceptable")
        return sum(sizes)

    async def _chat(self, exchange: Exchange, body: dict[str, Any]) -> None:
        prompt = [_content(message) for message in body.get("messages") or []]
        if not prompt:
            raise Refusal(400, "'messages' is empty")
        text = self.controls.answers.popleft() if self.controls.answers else derive_answer(prompt)
        pieces: list[str] = _pieces(text)
        thoughts = self.controls.thought_tokens
        most = body.get("max_completion_tokens") or body.get("max_tokens") or thoughts + len(pieces)
        limit = max(0, most - thoughts)
        finish = "stop" if len(pieces) <= limit else "length"
        before, after = sum(map(count_tokens, prompt)), min(most, thoughts + len(pieces))
        usage = {"prompt_tokens": before, "completion_tokens": after, "total_tokens": before + after}
        self.counts.tokens.update(prompt=before, completion=after)
        head = {"id": "chatcmpl-loopback", "created": int(time.time()), "model": body["model"]}
        if body.get("stream"):
            return await self._stream(exchange, body, head, pieces[:limit], finish, usage)
        message = {"role": "assistant", "content": "".join(pieces[:limit]), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        answer = head | {"object": "chat.completion", "choices": [choice], "usage": usage}
        return await exchange.answer(200, json.dumps(answer).encode())

    async def _stream(
        self,
        exchange: Exchange,
        body: dict[str, Any],
        head: dict[str, Any],
        pieces: list[str],
        finish: str,
        usage: dict[str, int],
    ) -> None:
        """Role, one delta per piece, finish reason, usage when asked for, [DONE]; a cut stream just ends."""
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        head = head | {"object": "chat.completion.chunk"} | ({"usage": None} if with_usage else {})

        async def send(delta: dict[str, str], finish_reason: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
            await exchange.write(_event(head | {"choices": [choice]}), more=True)

        await exchange.start(200, EVENT_STREAM, {"cache-control": "no-cache"})
        await send({"role": "assistant", "content": ""})
        for sent, piece in enumerate(pieces):
            if sent == exchange.cut_after:
                return
            await exchange.pause(self.controls.token_delay_ms / 1000)
            await send({"content": piece})
        if exchange.cut_after is not None:
            return
        await send({}, finish)
        if with_usage:
            await exchange.write(_event(head | {"choices": [], "usage": usage}), more=True)
        await exchange.write(b"data: [DONE]\n\n")


async def _befall(exchange: Exchange, fault: Fault, *, stream: bool) -> None:
    if fault.act == "hang":
        await exchange.pause(None)
    elif fault.act == "malformed":
        await exchange.start(200, EVENT_STREAM if stream else "application/json", {})
        await exchange.write(b'data: {"choices": [{\n\n' if stream else b'{"object": "list", "data": [{')
    elif isinstance(fault.act, int):
        raise Refusal(fault.act, f"told to fail with {fault.act}", fault.code, fault.retry_after)


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _texts(body: dict[str, Any]) -> list[str]:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refusal(400, "'input' must be a text or a list of texts, none of them empty")
    if not isinstance(body.get("model"), str):
        raise Refusal(400, "you must provide a model parameter")
    return texts


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _base64_item(index: int, vector: NDArray[np.float32]) -> bytes:
    return b'{"object":"embedding","index":%d,"embedding":"%b"}' % (index, base64.b64encode(vector.tobytes()))


def _float_item(index: int, vector: NDArray[np.float32]) -> bytes:
    return json.dumps({"object": "embedding", "index": index, "embedding": vector.tolist()}).encode()


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk).encode()


def main() -> None:
    """Serve until SIGTERM or SIGINT; the first line printed is the base URL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    given = parser.parse_args()
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    with Provider(port=given.port, latency_ms=given.latency_ms) as provider:
        print(provider.base_url, flush=True)
        signal.sigwait(endings)


if __name__ == "__main__":
    main()
