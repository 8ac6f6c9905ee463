"""A chat database that is away for a moment as an answer ends: the turn and what it used are on record, once."""

import asyncio
import time
from functools import partial
from uuid import uuid4

import pytest

from chat_api.chat.bot import Bot
from chat_api.chat.budget import Allowance, Budgets, Use
from chat_api.chat.client_frames import Ask
from chat_api.chat.journal import AnswerKey, Hold
from chat_api.chat.record import TurnRecord, recording
from chat_api.chat.stream import AnswerStream
from chat_api.core.bot_config import BotConfig
from chat_api.core.database import async_engines
from chat_api.core.settings import Settings
from tests.chat_api.chat.answers_world import PARCELS, WORDS, assert_whole, away, begun, paid, slow_bot
from tests.chat_api.chat_world import Chat, wait_until
from tests.servers import Servers, as_api

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]

TURN = "SELECT finish_reason, error_code FROM turns WHERE bot_id = %s"
USED = "SELECT purpose, calls FROM usage_days WHERE bot_id = %s ORDER BY purpose"
RESERVED = "SELECT tokens FROM budget_reservations WHERE bot_id = %s"


@pytest.mark.parametrize("how", ["whole", "stopped"])
def test_a_turn_is_recorded_once_the_database_is_back(servers: Servers, chat: Chat, how: str) -> None:
    bot = slow_bot(chat, daily_token_budget=50_000, answer_cache=False)
    with chat.visit(bot) as visit:
        frames = begun(visit)
        with away(servers, chat):
            if how == "stopped":
                visit.send({"type": "stop", "id": "q1"})
            wait_until(lambda: chat.provider.counts.running == 0)
            time.sleep(1)  # the outage; what is waited for below are its traces
        frames += visit.answer()
        assert chat.rows(TURN, bot.bot_id) == [("stop" if how == "whole" else "stopped", None)]
        assert chat.rows(USED, bot.bot_id) == [("chat", 1), ("query", 1)]
        assert chat.rows(RESERVED, bot.bot_id) == []
        again = visit.asked(conversation_id=visit.ready["conversation_id"])
    assert again[-1]["text"] == frames[-1]["text"]
    assert paid(chat) == 1
    if how == "whole":
        assert_whole(frames)
        assert len(frames[-1]["text"].split()) == WORDS


@pytest.mark.parametrize("state", ["done", "failed", "streaming"])
@pytest.mark.parametrize("heard", [True, False])
def test_what_a_try_has_done_that_was_not_heard_is_not_done_again(
    chat: Chat, chat_settings: Settings, state: str, heard: bool
) -> None:
    known = chat.add_bot(PARCELS)
    bot = Bot(known.org_id, known.bot_id, "Robin", BotConfig(daily_token_budget=50_000))
    key = AnswerKey(bot.org_id, bot.bot_id, uuid4(), "q1")

    async def play() -> None:
        async with async_engines(as_api(chat_settings)) as engines:
            hold, budgets, allowance = (
                Hold(engines, key, "visitor-1", AnswerStream("q1")),
                Budgets(engines, {}),
                Allowance(),
            )
            await hold.claim(Ask(type="ask", id="q1", text="When?"))
            assert hold.claimed
            await budgets.reserve(bot, 100, allowance)
            said = recording(bot, "visitor-1", TurnRecord(key.conversation_id, "q1", "When?"), hold.holder)
            settling = partial(budgets.settling, bot, allowance, [Use("chat", "m", 7)])
            if heard:
                await hold.close(state, None, *said, settling(None))
            for _ in range(2):
                await hold.close(state, None, *said, settling(hold), again=True)

    asyncio.run(play())
    assert chat.rows(USED, bot.bot_id) == [("chat", 1)]
    assert chat.rows(RESERVED, bot.bot_id) == []
    assert len(chat.rows(TURN, bot.bot_id)) == 1
    assert chat.rows("SELECT state FROM answers WHERE bot_id = %s", bot.bot_id) == [(state,)]
