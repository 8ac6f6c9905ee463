"""Who answers: a model behind an OpenAI-compatible server, streamed, or the best passages' own sentences, quoted."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import structlog
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, OpenAIError

from chat_api.chat.bot import Bot, model_for
from chat_api.chat.citations import without_markers
from chat_api.chat.prompt import Message, PastTurn, build_messages
from chat_api.chat.quotes import choose_quotes
from chat_api.chat.retrieve import Passage
from chat_api.chat.retry import persist
from chat_api.chat.rewrite import Completion, Rewriting, standalone
from chat_api.core.embeddings import retry_after
from chat_api.core.errors import ProviderRejected, ProviderUnavailable, ServiceError
from chat_api.core.settings import Settings
from chat_api.core.storable import joined
from chat_api.core.words import about_tokens

REASONING_MODEL = re.compile(r"(^|/)(o\d|gpt-5)")
"""These take no temperature, and count their thoughts among the tokens they may use."""
PER_MESSAGE = 8
"""Tokens that a message takes beside its text, at most."""
MAX_CODE_CHARS = 64
NOT_REACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Ending:
    """How an answer ended: filled in while it streams."""

    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lost_tokens: int = 0
    """Those of calls before this one that gave no answer and may have to be paid."""


@dataclass(frozen=True, slots=True)
class Question:
    """What an answerer needs to know."""

    bot: Bot
    history: Sequence[PastTurn]
    passages: Sequence[Passage]
    text: str
    cheaper: bool = False
    """Whether the cheaper model is to answer, where there is one."""


class Answerer(Protocol):
    """Turns a question and its passages into an answer, in pieces as they are made."""

    def model_of(self, bot: Bot, *, cheaper: bool = False) -> str:
        """The name of the model that answers for the bot."""

    def most_tokens(self, question: Question) -> int:
        """More tokens than the answer will take, the prompt included; 0 where answers cost nothing."""

    async def standalone(self, bot: Bot, question: str, history: Sequence[PastTurn]) -> Rewriting:
        """The question as it can be searched for, understandable without the history."""

    def stream(self, question: Question, ending: Ending) -> AsyncGenerator[str]:
        """The answer's pieces; `ending` is complete after the last. Raises ProviderUnavailable, ProviderRejected."""


class ModelAnswerer:
    """Answers from an OpenAI-compatible server. Closing the stream closes the server's."""

    def __init__(self, settings: Settings, *, client: AsyncOpenAI | None = None) -> None:
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
        self._client = client or AsyncOpenAI(
            api_key=key, base_url=settings.openai_base_url, max_retries=0, timeout=settings.llm_timeout_s
        )
        self._model, self._silence_s = settings.openai_model, settings.llm_timeout_s
        self._cheaper = settings.openai_cheaper_model

    async def aclose(self) -> None:
        """Ends the connections."""
        await self._client.close()

    def model_of(self, bot: Bot, *, cheaper: bool = False) -> str:
        """The bot's own model, or the usual one; the cheaper one where it is set and the org allows it."""
        allowed = bot.limits.allowed_models
        if cheaper and self._cheaper and (not allowed or self._cheaper in allowed):
            return self._cheaper
        return model_for(bot, self._model)

    def most_tokens(self, question: Question) -> int:
        """The prompt's tokens, on the safe side, and the most that the bot's answers may have."""
        messages = build_messages(question.bot, question.history, question.passages, question.text)
        prompt = sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
        return prompt // 3 + PER_MESSAGE * len(messages) + question.bot.config.max_tokens

    async def standalone(self, bot: Bot, question: str, history: Sequence[PastTurn]) -> Rewriting:
        """By the bot's model; by rule where that one thinks first, which takes longer than this may."""
        model = self.model_of(bot, cheaper=True)
        if REASONING_MODEL.search(model):
            return await standalone(question, history, None)

        async def complete(messages: Sequence[Message], max_tokens: int) -> Completion:
            return await self._complete(model, messages, max_tokens)

        return await standalone(question, history, complete, model)

    async def _complete(self, model: str, messages: Sequence[Message], max_tokens: int) -> Completion:
        request: dict[str, Any] = {
            "model": model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        try:
            answer = await self._client.chat.completions.create(**request)
            text, used = joined(answer.choices[0].message.content or ""), answer.usage
        except (OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise _translated(error, model) from None
        prompt = used.prompt_tokens if used else sum(about_tokens(message["content"]) for message in messages)
        return Completion(text, model, prompt, used.completion_tokens if used else about_tokens(text))

    async def stream(self, question: Question, ending: Ending) -> AsyncGenerator[str]:
        """The answer's pieces. What fails before the first is tried again, at most twice and within seconds."""
        ending.model = self.model_of(question.bot, cheaper=question.cheaper)
        request = _request(question, ending.model)
        chunks, piece = await persist(lambda: self._begin(request, ending), self._silence_s)
        joined = _Joined()
        async with chunks:
            while piece is not None:
                if text := joined.feed(piece):
                    yield text
                piece = await self._next(chunks, ending)
        if rest := joined.finish():
            yield rest
        if ending.finish_reason is None:
            raise ProviderUnavailable("The language model broke off in the middle of the answer. Please ask again.")

    async def _begin(self, request: dict[str, Any], ending: Ending) -> tuple[Any, str | None]:
        """The open stream and its first piece. Raises ProviderUnavailable also for an answer without any.

        The prompt counts as used unless the provider refuses it: whoever hears nothing does not know.
        """
        ending.lost_tokens += ending.prompt_tokens + ending.completion_tokens
        ending.finish_reason, ending.completion_tokens = None, 0
        ending.prompt_tokens = sum(about_tokens(message["content"]) for message in request["messages"])
        async with contextlib.AsyncExitStack() as opened:
            try:
                chunks = await opened.enter_async_context(await self._send(request))
            except OpenAIError as error:
                if isinstance(error, APIStatusError) or isinstance(error.__cause__, NOT_REACHED):
                    ending.prompt_tokens = 0
                raise _translated(error, ending.model) from None
            piece = await self._next(chunks, ending)
            if piece is None and ending.finish_reason != "length":  # which a model's thoughts may have used up
                raise ProviderUnavailable
            opened.pop_all()
        return chunks, piece

    async def _send(self, request: dict[str, Any]) -> AsyncStream[Any]:
        # By hand: the package's typed method takes a millisecond for its request, and makes a model of each chunk.
        return await self._client.post(
            "/chat/completions", cast_to=object, body=request, stream=True, stream_cls=AsyncStream[Any]
        )

    async def _next(self, chunks: Any, ending: Ending) -> str | None:
        """The next piece of text, or None at the end."""
        try:
            async with asyncio.timeout(self._silence_s):
                while (chunk := await anext(chunks, None)) is not None:
                    if piece := _read(chunk, ending):
                        return piece
        except TimeoutError:
            raise ProviderUnavailable("The language model fell silent. Please ask again in a moment.") from None
        except (OpenAIError, httpx2.HTTPError) as error:
            raise _translated(error, ending.model) from None
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            # A body that is no chat completion, which is read unchecked.
            raise _translated(error, ending.model) from None
        return None


def _request(question: Question, model: str) -> dict[str, Any]:
    config = question.bot.config
    request = {
        "model": model,
        "messages": build_messages(question.bot, question.history, question.passages, question.text),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if REASONING_MODEL.search(model):
        return request | {"max_completion_tokens": config.max_tokens}
    return request | {"max_tokens": config.max_tokens, "temperature": config.temperature}


def _read(chunk: dict[str, Any], ending: Ending) -> str | None:
    """The chunk's text; what else it says goes into `ending`."""
    if used := chunk.get("usage"):
        ending.prompt_tokens, ending.completion_tokens = int(used["prompt_tokens"]), int(used["completion_tokens"])
    if not (choices := chunk.get("choices")):
        return None
    choice = choices[0]
    if choice.get("finish_reason"):
        ending.finish_reason = "length" if choice["finish_reason"] == "length" else "stop"
    piece = (choice.get("delta") or {}).get("content")
    if piece is not None and not isinstance(piece, str):
        raise TypeError("a piece that is no text")
    if piece:
        ending.completion_tokens += about_tokens(piece)
    return piece


class _Joined:
    """Pieces of a text as they can be sent: some servers cut between the halves of a UTF-16 pair."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """What can be sent now."""
        text = self._half + piece
        self._half = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return joined(text.removesuffix(self._half))

    def finish(self) -> str:
        """What is left at the end."""
        return joined(self._half)


def _translated(error: Exception, model: str | None) -> ServiceError:
    """The error as ours; the log has what an operator can do something about, and never what the provider said."""
    if isinstance(error, APIStatusError):
        status = error.status_code
        said = {"status": status, "code": error.code and str(error.code)[:MAX_CODE_CHARS], "model": model}
        if status == 429 or status >= 500 or status in {408, 409}:
            log.warning("model_unavailable", **said)
            return ProviderUnavailable(retry_after=retry_after(error.response.headers))
        log.error("model_rejected", **said)
        return ProviderRejected()
    if isinstance(error, APIConnectionError | httpx2.HTTPError):
        log.warning("model_not_reached", error=type(error).__name__, model=model)
    else:
        log.error("model_answer_unreadable", error=type(error).__name__, model=model)
    return ProviderUnavailable()


class ExtractiveAnswerer:
    """Answers without a model: quotes the best passages, and says that it does."""

    def model_of(self, bot: Bot, *, cheaper: bool = False) -> str:  # noqa: ARG002  # there is one for all
        """`extractive`."""
        return "extractive"

    def most_tokens(self, question: Question) -> int:  # noqa: ARG002  # quoting is free
        """None at all."""
        return 0

    async def standalone(self, bot: Bot, question: str, history: Sequence[PastTurn]) -> Rewriting:  # noqa: ARG002
        """By rule: with the telling words of the question before it."""
        return await standalone(question, history, None)

    async def stream(self, question: Question, ending: Ending) -> AsyncGenerator[str]:
        """A line that says what follows, then the quotations, each with its citation."""
        ending.model, ending.finish_reason = "extractive", "stop"
        yield "Quoted from the sources:"
        for quote in choose_quotes(question.text, question.passages):
            if said := without_markers(quote.text).strip():
                yield f"\n\n“{said}” [{quote.number}]"
