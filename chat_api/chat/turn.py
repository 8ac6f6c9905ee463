"""One turn of chat: retrieve → answer → stream → record."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from chat_api.chat.answer import Answerer, Ending, Question
from chat_api.chat.bot import Bot, Bots
from chat_api.chat.citations import CitationFilter
from chat_api.chat.messages import Ask
from chat_api.chat.record import Conversation, TurnRecord, keep_turn, load_conversation
from chat_api.chat.retrieve import Passage, search
from chat_api.chat.retry import persist
from chat_api.chat.stream import AnswerStream
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import Embedder
from chat_api.metrics import FIRST_DELTA_SECONDS, TURN_SECONDS, TURNS

RECORD_WITHIN_S = 10.0
DISCONNECTED = "disconnected"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChatServices:
    """What turns stand on, one for the whole process."""

    engines: AsyncEngines
    embedder: Embedder
    answerer: Answerer
    bots: Bots
    patience_s: float = 60
    """How long the embedding of a question is waited for."""

    @property
    def reading(self) -> AsyncEngine:
        """The chat database for single statements, without the two trips of a transaction around each."""
        return self.engines.chat.execution_options(isolation_level="AUTOCOMMIT")


class Turn:
    """A question on its way to its answer. `run` may be cancelled at any point; `stopped` then ends it properly."""

    def __init__(
        self,
        services: ChatServices,
        bot: Bot,
        visitor: str,
        ask: Ask,
        conversation_id: UUID,
        *,
        maybe_answered: bool = False,
    ) -> None:
        """`maybe_answered`: the question may have been sent before, so that its record is looked for first."""
        self._services, self._bot, self._visitor = services, bot, visitor
        self._maybe_answered = maybe_answered
        self._began = time.perf_counter()
        self._citations = CitationFilter(0)
        self._recorded = False
        self.record = TurnRecord(conversation_id, ask.id, ask.text, ask.page_url)

    async def run(self, stream: AnswerStream) -> None:
        """Answers the question over `stream` and records the turn. Raises ServiceError, SQLAlchemyError, SlowReaderError."""
        conversation, passages = await self._prepare()
        if conversation.answered:
            self.record = conversation.answered
            await self._replay(stream)
            return
        self.record.sources = [passage.as_source(number) for number, passage in enumerate(passages, 1)]
        await stream.send("sources", sources=self.record.sources)
        if passages:
            await self._answer(stream, conversation, passages)
        else:
            await self._decline(stream)
        await self._end(stream)

    async def stopped(self, stream: AnswerStream | None) -> None:
        """Ends a turn that was cancelled: the answer is what was streamed. Without `stream` nobody is told."""
        if self._recorded:
            if stream:
                await self._done(stream)
            return
        self.record.finish_reason = "stopped"
        if stream is None:
            # Nobody has this answer: the same question again gets a whole one.
            self.record.error_code = DISCONNECTED
        await self._end(stream)

    async def failed(self, error_code: str) -> None:
        """Records a turn that ended with an error."""
        self.record.finish_reason, self.record.error_code = "error", error_code
        await self._end(None)

    async def _prepare(self) -> tuple[Conversation, list[Passage]]:
        """The conversation so far, and the passages to answer from; none where there is an answer on record."""
        conversation = await self._load() if self._maybe_answered else None
        if conversation and conversation.answered:
            return conversation, []
        embedding = asyncio.create_task(self._embed())
        try:
            conversation = conversation or await self._load()
            if conversation.answered:
                return conversation, []
            return conversation, await self._search(await embedding)
        finally:
            embedding.cancel()

    async def _load(self) -> Conversation:
        with self._timed("load"):
            async with self._services.reading.connect() as connection:
                return await load_conversation(
                    connection, self._bot, self._visitor, self.record.conversation_id, self.record.ask_id
                )

    async def _embed(self) -> NDArray[np.float32]:
        embedder, question = self._services.embedder, self.record.question
        with self._timed("embed"):
            return await persist(lambda: embedder.embed_query(question), self._services.patience_s)

    async def _search(self, query: NDArray[np.float32]) -> list[Passage]:
        bot, space = self._bot, self._services.embedder.space
        with self._timed("search"):
            async with self._services.reading.connect() as connection:
                found = await search(connection, bot.org_id, bot.bot_id, space, query, bot.config.retrieval_k)
        return [passage for passage in found if passage.score >= bot.config.similarity_threshold]

    async def _answer(self, stream: AnswerStream, conversation: Conversation, passages: list[Passage]) -> None:
        self._citations, ending = CitationFilter(len(passages)), Ending()
        question = Question(self._bot, conversation.history, passages, self.record.question)
        try:
            async with contextlib.aclosing(self._services.answerer.stream(question, ending)) as pieces:
                async for piece in pieces:
                    await self._delta(stream, self._citations.feed(piece))
            await self._delta(stream, self._citations.finish())
        finally:
            self.record.model = ending.model
            self.record.prompt_tokens, self.record.completion_tokens = ending.prompt_tokens, ending.completion_tokens
        self.record.finish_reason = ending.finish_reason or "stop"

    async def _decline(self, stream: AnswerStream) -> None:
        self.record.finish_reason = "no_answer"
        config = self._bot.config
        await self._delta(stream, "\n\n".join(part for part in (config.fallback_message, config.disclaimer) if part))

    async def _delta(self, stream: AnswerStream, text: str) -> None:
        if not text:
            return
        if not self.record.answer:
            self.record.timings["first_token"] = 1000 * (time.perf_counter() - self._began)
            FIRST_DELTA_SECONDS.observe(self.record.timings["first_token"] / 1000)
        self.record.answer += text
        await stream.send("delta", text=text)

    async def _end(self, stream: AnswerStream | None) -> None:
        self.record.citations = sorted(self._citations.cited)
        self.record.timings["total"] = 1000 * (time.perf_counter() - self._began)
        TURNS.labels(self.record.error_code or self.record.finish_reason).inc()
        TURN_SECONDS.observe(self.record.timings["total"] / 1000)
        try:
            async with asyncio.timeout(RECORD_WITHIN_S), self._services.engines.chat.begin() as connection:
                await keep_turn(connection, self._bot, self._visitor, self.record)
            self._recorded = True
        except (SQLAlchemyError, TimeoutError) as error:
            # The visitor has the answer; that it could not be kept is the operator's business.
            log.error("turn_not_recorded", error=type(error).__name__)  # noqa: TRY400
        if stream:
            await self._done(stream)

    async def _replay(self, stream: AnswerStream) -> None:
        await stream.send("sources", sources=self.record.sources)
        if self.record.answer:
            await stream.send("delta", text=self.record.answer)
        await self._done(stream)

    async def _done(self, stream: AnswerStream) -> None:
        record, extra = self.record, {}
        if record.finish_reason == "no_answer":
            extra["sample_questions"] = list(self._bot.config.sample_questions)
        await stream.send(
            "done",
            message_id=str(record.message_id),
            text=record.answer,
            citations=record.citations,
            finish_reason=record.finish_reason,
            usage={"prompt_tokens": record.prompt_tokens, "completion_tokens": record.completion_tokens},
            **extra,
        )

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.record.timings[what] = 1000 * (time.perf_counter() - began)
