"""One turn of chat: known answer, or rewrite → retrieve → answer → stream → record."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chat_api.chat import links
from chat_api.chat.answer import Ending, Question
from chat_api.chat.blocked import mentions
from chat_api.chat.bot import Bot
from chat_api.chat.budget import Allowance, BudgetExhausted, Step, Use
from chat_api.chat.cache import CachedAnswer, cache_key, reading_content
from chat_api.chat.citations import AnswerFilter, without_markers
from chat_api.chat.client_frames import Ask, Frame
from chat_api.chat.curated import find_curated
from chat_api.chat.error_frames import error_of
from chat_api.chat.find import Timings
from chat_api.chat.journal import Hold, InFlightElsewhereError
from chat_api.chat.outdated import is_outdated
from chat_api.chat.prompt import PastTurn, unspoken
from chat_api.chat.record import Conversation, TurnRecord, conversation_of, loading, record_at_end, recording
from chat_api.chat.rewrite import tokens_to_find
from chat_api.chat.samples import samples_at_end
from chat_api.chat.services import ChatServices
from chat_api.chat.stream import AnswerStream, encoded
from chat_api.chat.support import unsupported
from chat_api.core.errors import ServiceError
from chat_api.metrics import FIRST_DELTA_SECONDS, TURN_SECONDS, TURNS

RECORD_WITHIN_S = 10.0
DISCONNECTED = "disconnected"
log = structlog.get_logger(__name__)


class Turn:
    """A question on its way to its answer. `run` may be cancelled until it is `ending`; `stopped` or `left` then ends it."""

    def __init__(self, services: ChatServices, bot: Bot, visitor: str, ask: Ask, hold: Hold) -> None:
        """`hold`: with which the answer is claimed, before anything is paid, and its frames are kept."""
        self._services, self._bot, self._visitor, self._ask, self._hold = services, bot, visitor, ask, hold
        self._began = time.perf_counter()
        self._timings = Timings()
        self._allowance = Allowance()
        self._finder = services.finder(bot, self._timings)
        self._ending = Ending()
        self._spent_before: list[Use] = []
        """By an answer that has begun again."""
        self._last: str | None = None
        self.record = TurnRecord(hold.key.conversation_id, ask.id, ask.text, ask.page_url, timings=self._timings)

    @property
    def ending(self) -> bool:
        """Whether the answer is whole, and about to be recorded."""
        return self._last is not None

    async def run(self, stream: AnswerStream) -> None:
        """Answers over `stream`, and records the turn. Raises InFlightElsewhereError, ServiceError, SQLAlchemyError."""
        conversation, content = await self._load()
        if conversation.answered:
            self.record = conversation.answered
            await self._replay(stream)
            return
        # A follow-up may mean anything: what was answered before is found for first questions alone.
        key = None if conversation.history or content is None else self._key(content)
        await self._make(stream, key, conversation.history)
        if await self._is_outdated():
            key = None
            await self._make_again(stream, conversation.history)
        if key:
            await self._keep(key)
        await self._done(stream)

    async def stopped(self, stream: AnswerStream) -> None:
        """Ends a turn that the visitor wants no more of: the answer is what was streamed."""
        self.record.finish_reason = "stopped"
        await self._done(stream)

    async def left(self) -> None:
        """Ends a turn that nobody waits for, or that is handed over: whoever asks again gets a whole answer."""
        self.record.finish_reason, self.record.error_code = "stopped", DISCONNECTED
        await self._end("streaming")

    async def failed(self, stream: AnswerStream, error: ServiceError) -> None:
        """Ends a turn with an error, which the visitor is told as far as it is theirs to know."""
        self.record.finish_reason, self.record.error_code = "error", error.code
        self._last = encoded(error_of(error, stream.ask_id))
        await self._end("failed")
        stream.finish(self._last)

    async def _load(self) -> tuple[Conversation, str | None]:
        """The conversation so far, and what the bot knows by now, where answers are cached; claims the answer."""
        bot, key = self._bot, self._hold.key
        with self._timings.of("load"):
            content = [reading_content(bot)] if bot.config.answer_cache else []
            rows, *known = await self._hold.claim(self._ask, loading(bot, key.conversation_id, key.ask_id), *content)
            conversation = conversation_of(rows, self._visitor, key.conversation_id, key.ask_id)
            # Frames that are kept are given as they were, so that a reader of some can go on with the others.
            if not self._hold.claimed and (not conversation.answered or await self._hold.is_kept()):
                raise InFlightElsewhereError
            return conversation, known[0][0].content if known else None

    async def _make(self, stream: AnswerStream, key: str | None, history: Sequence[PastTurn]) -> None:
        if not (await self._answer_free(stream, key) or await self._answer_paid(stream, history)):
            await self._do_without(stream)

    async def _make_again(self, stream: AnswerStream, history: Sequence[PastTurn]) -> None:
        """Makes the answer without what was deleted under it; where that happens once more there is none."""
        self._spent_before, self._ending = self._spent(), Ending()
        await self._make(stream, None, history)
        if await self._is_outdated():
            await self._offer(stream, [])
            await self._decline(stream, "no_answer")

    async def _is_outdated(self) -> bool:
        return await is_outdated(self._services.engines, self._bot, self.record)

    async def _offer(self, stream: AnswerStream, sources: list[Frame]) -> None:
        """Sends the sources, with which an answer begins, or begins again."""
        length = len(stream.frames)
        try:
            await stream.send("sources", sources=sources)
        finally:
            # Also when the wait for readers behind it is cut short: what came before is not shown any more.
            if len(stream.frames) > length:
                self.record.sources, self.record.answer = sources, ""
                self.record.citations, self.record.unsupported = [], []

    def _key(self, content: str) -> str:
        bot, record = self._bot, self.record
        return cache_key(bot, self._services.answerer.model_of(bot), content, record.question, record.page_url)

    async def _answer_free(self, stream: AnswerStream, key: str | None) -> bool:
        """Answers with what costs nothing: the owner's words, or an answer that was given before; False without any."""
        config, record = self._bot.config, self.record
        if curated := find_curated(record.question, config.curated_answers):
            await self._give(stream, CachedAnswer(without_markers(curated.answer), [], []), "curated")
        elif mentions(record.question, config.blocked_terms):
            await self._offer(stream, [])
            await self._decline(stream, "no_answer")
        elif cached := await self._services.cache.find(key) if key else None:
            await self._give(stream, cached, "cached")
        else:
            return False
        return True

    async def _give(self, stream: AnswerStream, answer: CachedAnswer, finish_reason: str) -> None:
        await self._offer(stream, answer.sources)
        self.record.citations, self.record.finish_reason = answer.citations, finish_reason
        await self._delta(stream, answer.text)

    async def _answer_paid(self, stream: AnswerStream, history: Sequence[PastTurn]) -> bool:
        """Searches and answers; False where the budget does not allow it."""
        services, bot, question = self._services, self._bot, self.record.question
        if not await self._reserve(tokens_to_find(question, history)):
            return False
        if stream.unwanted:
            raise asyncio.CancelledError  # which got lost, as `send` says; from here on it would be paid
        passages = await self._finder.find(services.answerer, question, history, page_url=self.record.page_url)
        asked = Question(bot, history, passages, question)
        if passages and not await self._reserve(services.answerer.most_tokens(asked)):
            return False
        await self._offer(stream, [passage.as_source(number) for number, passage in enumerate(passages, 1)])
        if passages:
            answerer = services.answerer
            cheaper = answerer.model_of(bot, cheaper=True) != answerer.model_of(bot)
            await self._answer(stream, replace(asked, cheaper=cheaper and self._allowance.step is Step.CHEAPER))
        else:
            await self._decline(stream, "no_answer")
        return True

    async def _reserve(self, tokens: int) -> bool:
        """Sets tokens aside where there is a budget; whether it allowed that."""
        if self._spent_before:  # what was set aside for the answer does for it when it begins again
            return True
        with self._timings.of("budget"):
            await self._services.budgets.reserve(self._bot, tokens, self._allowance)
        return self._allowance.step is not Step.FREE_ONLY

    async def _do_without(self, stream: AnswerStream) -> None:
        """Says that the budget does not allow an answer. Raises BudgetExhausted when nothing is left of it."""
        if self._allowance.exhausted:
            raise BudgetExhausted(retry_after=self._allowance.retry_after)
        await self._offer(stream, [])
        await self._decline(stream, "budget")

    async def _answer(self, stream: AnswerStream, question: Question) -> None:
        config, ending, passages = self._bot.config, self._ending, question.passages
        hosts = links.hosts_of([*(passage.url for passage in passages), *self._bot.allowed_origins])
        terms = (*config.blocked_terms, *unspoken(self._bot, passages))
        shown = AnswerFilter(len(passages), hosts=hosts, blocked_terms=terms)
        try:
            async with contextlib.aclosing(self._services.answerer.stream(question, ending)) as pieces:
                async for piece in pieces:
                    await self._delta(stream, shown.feed(piece))  # read to its end, for the count of its tokens
            await self._delta(stream, shown.finish())
        finally:
            self.record.model, self.record.citations = ending.model, sorted(shown.cited)
            self.record.prompt_tokens, self.record.completion_tokens = ending.prompt_tokens, ending.completion_tokens
        self.record.finish_reason = "budget" if question.cheaper else ending.finish_reason or "stop"
        if not shown.spoken or (shown.declined and not shown.cited):
            await self._decline(stream, "no_answer")
        else:
            spans = unsupported(self.record.answer, passages, self._bot.name)
            self.record.unsupported = [span._asdict() for span in spans]

    async def _decline(self, stream: AnswerStream, finish_reason: str) -> None:
        self.record.finish_reason = finish_reason
        config = self._bot.config
        said = without_markers("\n\n".join(filter(None, (config.fallback_message, config.disclaimer))))
        if said and self.record.answer:  # the model spoke before it declined
            await self._offer(stream, self.record.sources)
        await self._delta(stream, said)

    async def _delta(self, stream: AnswerStream, text: str) -> None:
        if not self.record.answer:
            text = text.lstrip()
        if text and "first_delta" not in self._timings:
            self._timings["first_delta"] = 1000 * (time.perf_counter() - self._began)
            FIRST_DELTA_SECONDS.observe(self._timings["first_delta"] / 1000)
        if not text:
            return
        length = len(stream.frames)
        try:
            await stream.send("delta", text=text)
        finally:
            # What is on record is what was streamed: also when the wait for readers behind it is cut short.
            if len(stream.frames) > length:
                self.record.answer += text

    async def _keep(self, key: str) -> None:
        """Keeps an answer for whoever asks the same, if its citations hold."""
        record = self.record
        holds = record.finish_reason == "stop" and record.citations and not record.unsupported
        # What was switched since may be in the answer, and not in its key.
        if holds and await self._key_now() == key:
            await self._services.cache.keep(key, CachedAnswer(record.answer, record.sources, record.citations))

    async def _key_now(self) -> str | None:
        """The key for what the bot knows by now; None where that can't be read."""
        try:
            [[row]] = await self._services.engines.trip(self._bot.org_id, reading_content(self._bot))
        except SQLAlchemyError as error:
            log.warning("answer_not_kept", error=type(error).__name__)
            return None
        return self._key(row.content)

    async def _end(self, state: str) -> None:
        record = self.record
        self._timings["total"] = 1000 * (time.perf_counter() - self._began)
        TURNS.labels(record.error_code or record.finish_reason).inc()
        TURN_SECONDS.observe(self._timings["total"] / 1000)
        try:
            said = recording(self._bot, self._visitor, record, self._hold.holder)
            settling = partial(self._services.budgets.settling, self._bot, self._allowance, self._uses())
            async with asyncio.timeout(RECORD_WITHIN_S):
                await record_at_end(self._hold, state, self._last, said, settling)
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor's answer ends; the log learns why
            log.error("turn_not_recorded", error=type(error).__name__)  # noqa: TRY400  # statements hold what was said

    def _uses(self) -> list[Use]:
        return [*self._finder.uses, *self._spent_before, *self._spent()]

    def _spent(self) -> list[Use]:
        """What the model that answers has used."""
        ending = self._ending
        prompt = ending.prompt_tokens + ending.lost_tokens
        return [Use("chat", ending.model, prompt, ending.completion_tokens)] if ending.model and prompt else []

    async def _replay(self, stream: AnswerStream) -> None:
        await stream.send("sources", sources=self.record.sources)
        if self.record.answer:
            await stream.send("delta", text=self.record.answer)
        stream.finish(await self._done_frame(stream))

    async def _done(self, stream: AnswerStream) -> None:
        self._last = await self._done_frame(stream)
        await self._end("done")
        stream.finish(self._last)

    async def _done_frame(self, stream: AnswerStream) -> str:
        record = self.record
        extra: dict[str, Any] = {"unsupported": record.unsupported} if record.unsupported else {}
        if record.finish_reason == "no_answer":
            extra["sample_questions"] = await samples_at_end(self._services.engines, self._bot)
        return stream.next(
            "done",
            message_id=str(record.message_id),
            text=record.answer,
            citations=record.citations,
            finish_reason=record.finish_reason,
            usage={"prompt_tokens": record.prompt_tokens, "completion_tokens": record.completion_tokens},
            **extra,
        )
