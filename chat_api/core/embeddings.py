"""Embedding spaces, and the seam to whoever embeds: an OpenAI-compatible server, or MiniLM in process."""

import asyncio
import re
import threading
import time
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Protocol

import httpx2
import numpy as np
from numpy.typing import NDArray
from openai import APIStatusError, APITimeoutError, AsyncOpenAI, OpenAI, OpenAIError
from pydantic_core import from_json

from chat_api.core.errors import (
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingThrottled,
    EmbeddingUnavailable,
    LocalModelMissing,
    QuotaExceeded,
    ServiceError,
)
from chat_api.core.settings import KNOWN_DIMENSIONS, LOCAL_DIMENSIONS, LOCAL_MODEL, Settings
from chat_api.core.storable import encodable


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Where vectors can be compared: one model at one number of dimensions."""

    model: str
    dimensions: int


LOCAL_SPACE = EmbeddingSpace(LOCAL_MODEL, LOCAL_DIMENSIONS)


class Embedder(Protocol):
    """Turns texts into unit vectors of one space. Errors: EmbeddingUnavailable, EmbeddingRejected, QuotaExceeded."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space of every vector this gives."""

    @property
    def max_inputs(self) -> int:
        """Most texts in one call of `embed`."""

    @property
    def max_batch_tokens(self) -> int:
        """Most tokens in one call of `embed`."""

    @property
    def max_input_tokens(self) -> int:
        """Most tokens of one text."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimensions), unit length, by one request; safe to call from several threads."""

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of one question, shape (dimensions,), unit length."""

    def count_tokens(self, text: str) -> int:
        """The tokens of a text, or an upper bound of them where the model's tokenizer is not at hand."""


def make_embedder(settings: Settings, space: EmbeddingSpace | None = None) -> Embedder:
    """The embedder of a space, by default of the one that the settings name. Nothing is connected until it is used.

    Raises EmbeddingMisconfigured when another space than the settings' can't be served with what they give, and
    LocalModelMissing when theirs can't.
    """
    own = EmbeddingSpace(*settings.space)
    space = space or own
    if space == LOCAL_SPACE and not (space == own and settings.embedding_provider == "openai"):
        from chat_api.core.minilm import MiniLM  # its runtime is an optional extra

        try:
            return MiniLM()
        except LocalModelMissing as error:
            if space == own:
                raise
            raise _not_served(space, "its packages are not installed") from error
    if not settings.openai_api_key:
        raise _not_served(space, "there is no OPENAI_API_KEY")
    return OpenAIEmbedder(
        space,
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.embedding_server,
        timeout_s=settings.embedding_timeout_s,
        send_dimensions="text-embedding-3" in space.model or KNOWN_DIMENSIONS.get(space.model) != space.dimensions,
    )


def _not_served(space: EmbeddingSpace, reason: str) -> EmbeddingMisconfigured:
    what = f"Vectors of {space.model} ({space.dimensions} dimensions) can't be made here: {reason}."
    return EmbeddingMisconfigured(f"{what} Correct the settings, or change the model: python -m workers.cli reembed")


class Embedders:
    """One embedder for each space that this process meets, made on first use; safe to share between threads."""

    def __init__(self, settings: Settings, given: Embedder | None = None) -> None:
        """`given` serves its own space, which is then the default one; it is left open at the end."""
        self.space = given.space if given else EmbeddingSpace(*settings.space)
        self._settings, self._given = settings, given
        self._made: dict[EmbeddingSpace, Embedder] = {given.space: given} if given else {}
        self._lock = threading.Lock()

    def of(self, space: EmbeddingSpace) -> Embedder:
        """The space's embedder. Raises EmbeddingMisconfigured, LocalModelMissing: see make_embedder."""
        with self._lock:
            if space not in self._made:
                self._made[space] = make_embedder(self._settings, space)
            return self._made[space]

    async def aclose(self) -> None:
        """Close the clients that were made here."""
        for embedder in self._made.values():
            if isinstance(embedder, OpenAIEmbedder) and embedder is not self._given:
                await embedder.aclose()


class OpenAIEmbedder:
    """Embeddings from an OpenAI-compatible server, one request a call; retries are the caller's business."""

    max_inputs = 2048
    max_batch_tokens = 300_000
    max_input_tokens = 8191

    def __init__(
        self,
        space: EmbeddingSpace,
        *,
        api_key: str,
        base_url: str,
        timeout_s: float = 60,
        send_dimensions: bool = True,
        transport: httpx2.BaseTransport | None = None,
        async_transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.space = space
        self._api_key, self._base_url, self._timeout_s = api_key, base_url, timeout_s
        self._send_dimensions = send_dimensions
        self._transport, self._async_transport = transport, async_transport

    # Made on first use: workers never need the async one, the API never the other, and either takes 25 ms of TLS set-up.
    @cached_property
    def _client(self) -> OpenAI:
        http = httpx2.Client(transport=self._transport, timeout=self._timeout_s, follow_redirects=True)
        return OpenAI(api_key=self._api_key, base_url=self._base_url, max_retries=0, http_client=http)

    @cached_property
    def _async_client(self) -> AsyncOpenAI:
        http = httpx2.AsyncClient(transport=self._async_transport, timeout=self._timeout_s, follow_redirects=True)
        return AsyncOpenAI(api_key=self._api_key, base_url=self._base_url, max_retries=0, http_client=http)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimensions), unit length, by one request. Errors: see Embedder."""
        if not texts:
            return np.empty((0, self.space.dimensions), np.float32)
        body = self._body(texts)
        try:
            answer = self._client.post("/embeddings", cast_to=httpx2.Response, body=body)
        except OpenAIError as error:
            if not self._refuses_dimensions(body, error):
                raise self._translated(error) from None  # a server's message may repeat the key
            return self.embed(texts)
        return decode(answer.content, len(texts), self.space)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of one question, shape (dimensions,), unit length. Errors: see Embedder."""
        body = self._body([text])
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._async_client.post("/embeddings", cast_to=httpx2.Response, body=body)
        except TimeoutError:
            raise self._too_late() from None
        except OpenAIError as error:
            if not self._refuses_dimensions(body, error):
                raise self._translated(error) from None
            return await self.embed_query(text)
        vector: NDArray[np.float32] = decode(answer.content, 1, self.space)[0]
        return vector

    def count_tokens(self, text: str) -> int:
        """The text's UTF-8 bytes: byte-level tokenizers never make more tokens of it than that."""
        return len(text.encode("utf-8", "replace"))

    async def aclose(self) -> None:
        """Close whatever connections were opened."""
        if "_client" in vars(self):
            self._client.close()
        if "_async_client" in vars(self):
            await self._async_client.close()

    def _body(self, texts: Sequence[str]) -> dict[str, Any]:
        # By hand: the package's typed method spends 15 µs on each text, and its answer is lists of Python floats.
        body = {"model": self.space.model, "input": [encodable(text) for text in texts], "encoding_format": "base64"}
        return body | {"dimensions": self.space.dimensions} if self._send_dimensions else body

    def _refuses_dimensions(self, body: dict[str, Any], error: OpenAIError) -> bool:
        """Whether the model takes no `dimensions`; then none are sent any more, and the answer's are still checked."""
        if "dimensions" not in body or not isinstance(error, APIStatusError):
            return False
        if error.status_code not in {400, 422} or not re.search("dimension|matryoshka", error.message, re.IGNORECASE):
            return False
        self._send_dimensions = False
        return True

    def _too_late(self) -> EmbeddingUnavailable:
        return EmbeddingUnavailable(f"The embedding provider did not answer within {self._timeout_s:g} s.")

    def _translated(self, error: OpenAIError) -> ServiceError:
        if not isinstance(error, APIStatusError):
            return self._too_late() if isinstance(error, APITimeoutError) else EmbeddingUnavailable()
        status = error.status_code
        if status == 402 or error.code == "insufficient_quota":
            return QuotaExceeded("The embedding provider's account has no credit left.")
        if status == 429:
            return EmbeddingThrottled(retry_after=retry_after(error.response.headers))
        if status in {401, 403}:
            return EmbeddingMisconfigured(f"The embedding provider refused the API key (HTTP {status}).")
        if status in {400, 413, 422}:
            return EmbeddingRejected(f"The embedding provider refused the text: {self._reason(error)}")
        if status >= 500 or status in {408, 409}:
            return EmbeddingUnavailable(retry_after=retry_after(error.response.headers))
        return EmbeddingMisconfigured(f"The embedding provider does not serve {self.space.model} here (HTTP {status}).")

    def _reason(self, error: APIStatusError) -> str:
        """What the server said, in one line of at most 200 characters and without the key."""
        said = error.body.get("message") if isinstance(error.body, dict) else None
        if not isinstance(said, str) or not said.strip():
            return f"HTTP {error.status_code}."
        return " ".join(said.replace(self._api_key, "***").split())[:200]


def decode(body: bytes, count: int, space: EmbeddingSpace) -> NDArray[np.float32]:
    """The vectors in the body of an embeddings response, base64 or lists, in the order of its `index`, unit length.

    Raises EmbeddingUnavailable when the body is not a whole answer for `count` texts, EmbeddingMisconfigured when its
    vectors are not of this space, EmbeddingRejected when a vector has no direction.
    """
    try:
        items: list[dict[str, Any]] = from_json(body)["data"]
        places = [item.get("index", position) for position, item in enumerate(items)]
        complete = sorted(places) == list(range(count))
        vectors = [_floats(item["embedding"]) for item in items]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise EmbeddingUnavailable("The embedding provider's answer could not be read.") from None
    if not complete:
        raise EmbeddingUnavailable(f"The embedding provider answered {len(items)} of {count} texts.")
    for vector in vectors:
        if vector.shape != (space.dimensions,):
            raise EmbeddingMisconfigured(
                f"{space.model} gave vectors of {vector.size} dimensions, but {space.dimensions} are configured."
            )
    found = np.empty((count, space.dimensions), np.float32)
    found[places] = vectors
    return _unit(found)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date), or None when neither says."""
    for name, units in (("retry-after-ms", 1000), ("retry-after", 1)):
        with suppress(KeyError, ValueError):
            return max(0.0, float(headers[name]) / units)
    with suppress(KeyError, ValueError):
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    return None


def _floats(embedding: str | list[float]) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(a2b_base64(embedding), "<f4")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused later
        vector = np.array(embedding, np.float32)
    if vector.ndim != 1:
        raise ValueError("not a list of numbers")
    return vector


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise EmbeddingRejected("The embedding provider gave a vector without a direction.")
    vectors /= lengths[:, None]
    return vectors
