"""A stop whose cancellation a library lost on its way: the turn ends at its next step, unpaid, with what was streamed."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from chat_api.chat.answer import Ending, ExtractiveAnswerer, Question
from chat_api.chat.cache import AnswerCache, CachedAnswer
from chat_api.chat.client_frames import Ask
from chat_api.chat.journal import AnswerKey, Hold
from chat_api.chat.services import ChatServices
from chat_api.chat.stream import AnswerStream
from chat_api.chat.turn import Turn
from chat_api.core.settings import Settings
from chat_api.main import create_app
from tests.chat_api.chat_world import Chat, Frame, TestBot
from tests.servers import as_api

pytestmark = [pytest.mark.stack, pytest.mark.timeout(60)]

PARCELS = "Parcels ordered by 11:30 leave on the same day."
SOURCES: list[Frame] = [{"n": 1, "title": "Title"}]
Losing = Callable[[ChatServices, AnswerStream], ChatServices]


class LosingCache(AnswerCache):
    """Loses a stop while it looks, and finds what it is given."""

    def __init__(self, stream: AnswerStream, answer: CachedAnswer | None) -> None:
        super().__init__("redis://127.0.0.1:1/0")
        self._stream, self._answer = stream, answer

    async def find(self, key: str) -> CachedAnswer | None:
        """The answer."""
        self._stream.unwanted = True
        return self._answer


class LosingAnswerer(ExtractiveAnswerer):
    """Loses a stop in mid-answer."""

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream

    async def stream(self, question: Question, ending: Ending) -> AsyncGenerator[str]:
        """Two sentences."""
        ending.model, ending.finish_reason = "extractive", "stop"
        yield "They leave on the same day [1].\n\n"
        self._stream.unwanted = True
        yield "Unwanted [1].\n\n"


def stopped(settings: Settings, bot: TestBot, losing: Losing) -> list[Frame]:
    """The frames of a turn that is stopped while `losing` loses that."""

    async def run() -> list[Frame]:
        app = create_app(as_api(settings))
        async with app.router.lifespan_context(app):
            stream = AnswerStream("q1")
            services = losing(app.state.chat, stream)
            known = await services.bots.get(bot.org_id, bot.bot_id)
            assert known
            hold = Hold(services.engines, AnswerKey(bot.org_id, bot.bot_id, uuid4(), "q1"), "visitor-1", stream)
            turn = Turn(services, known, "visitor-1", Ask(type="ask", id="q1", text="When?"), hold)
            with pytest.raises(asyncio.CancelledError):
                await turn.run(stream)
            await turn.stopped(stream)
            return [json.loads(frame) for frame in stream.frames if frame]

    return asyncio.run(run())


def on_record(chat: Chat, bot: TestBot) -> tuple[Any, ...]:
    (row,) = chat.rows("SELECT answer, finish_reason, sources, citations FROM turns WHERE bot_id = %s", bot.bot_id)
    return tuple(row)


def test_nothing_is_paid_for_a_question_that_is_not_in_the_cache(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS)
    [done] = stopped(chat_settings, bot, lambda services, stream: replace(services, cache=LosingCache(stream, None)))
    assert (done["text"], done["finish_reason"]) == ("", "stopped")
    assert chat.provider.counts.requests == {}
    assert chat.rows("SELECT 1 FROM usage_days WHERE bot_id = %s", bot.bot_id) == []


def test_what_was_not_offered_is_not_cited(chat: Chat, chat_settings: Settings) -> None:
    bot, answer = chat.add_bot(PARCELS), CachedAnswer("Today [1].", SOURCES, [1])
    [done] = stopped(chat_settings, bot, lambda services, stream: replace(services, cache=LosingCache(stream, answer)))
    assert (done["text"], done["citations"], done["finish_reason"]) == ("", [], "stopped")
    assert on_record(chat, bot) == ("", "stopped", [], [])


def test_what_is_on_record_is_what_was_streamed(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=False)
    frames = stopped(chat_settings, bot, lambda services, stream: replace(services, answerer=LosingAnswerer(stream)))
    streamed = "".join(frame["text"] for frame in frames if frame["type"] == "delta")
    assert (frames[-1]["text"], frames[-1]["finish_reason"]) == (streamed, "stopped")
    assert "same day" in streamed
    assert "Unwanted" not in streamed
    assert on_record(chat, bot)[:2] == (streamed, "stopped")


def test_what_can_not_be_recorded_is_ended_all_the_same(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS)
    question = Ask.model_construct(type="ask", id="q1", text="When?", page_url="\ud800")

    async def run() -> list[Frame]:
        app = create_app(as_api(chat_settings))
        async with app.router.lifespan_context(app):
            known = await app.state.chat.bots.get(bot.org_id, bot.bot_id)
            with app.state.answers.ask(known, "visitor-1", question, uuid4()).followed() as frames:
                return [json.loads(frame) async for frame in frames]

    [error] = asyncio.run(run())
    assert (error["type"], error["code"]) == ("error", "internal")
