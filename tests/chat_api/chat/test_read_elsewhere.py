"""Answers that are read through another replica than the one that makes them: that one does not end them."""

import asyncio
import json
import time
from uuid import uuid4

import pytest

from chat_api.chat.client_frames import Ask
from chat_api.core.settings import Settings
from chat_api.main import create_app
from tests.chat_api.chat.answers_world import assert_whole, away, begun, paid, resume
from tests.chat_api.chat_world import Chat, Frame, TestBot, Visit, wait_until
from tests.servers import Servers, as_api

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]


def read_elsewhere(chat: Chat, bot: TestBot, visit: Visit, conversation_id: object, after: int) -> list[Frame]:
    """The first frames that the visitor gets through another replica, once the one that makes the answer can know of it."""
    resume(visit, conversation_id, after)
    frames = [visit.receive()]
    wait_until(lambda: chat.rows("SELECT followed_at FROM answers WHERE bot_id = %s", bot.bot_id) != [(None,)])
    return frames


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_reader_that_is_cut_off_ends_no_answer_that_is_read_elsewhere(
    chat: Chat, other: Chat, bot: TestBot, chat_settings: Settings, elsewhere: bool
) -> None:
    chat.provider.controls.token_delay_ms = 80
    question, conversation_id = Ask(type="ask", id="q1", text="When?"), uuid4()
    patient = as_api(chat_settings).model_copy(update={"resume_grace_s": 60})

    async def play(visit: Visit) -> list[Frame]:
        app = create_app(patient)
        async with app.router.lifespan_context(app):
            known = await app.state.chat.bots.get(bot.org_id, bot.bot_id)
            answer = app.state.answers.ask(known, "visitor-1", question, conversation_id)
            with answer.followed() as reader:
                frames = aiter(reader)
                before = [json.loads(await anext(frames)) for _ in range(3)]
                if elsewhere:
                    before += await asyncio.to_thread(read_elsewhere, chat, bot, visit, conversation_id, 3)
            answer.cut()
            if elsewhere:
                return before + await asyncio.to_thread(visit.answer)
            await asyncio.to_thread(wait_until, lambda: chat.provider.counts.client_closed == 1)
            return before

    with other.visit(bot) as visit:
        frames = asyncio.run(play(visit))
    assert paid(chat) == 1
    if elsewhere:
        assert_whole(frames)


def test_a_journal_that_is_away_for_a_moment_does_not_say_that_nobody_reads(
    servers: Servers, chat: Chat, other: Chat, bot: TestBot
) -> None:
    chat.provider.controls.token_delay_ms = 80
    with other.visit(bot) as back:
        with chat.visit(bot) as first:
            before = begun(first)
            before += read_elsewhere(chat, bot, back, first.ready["conversation_id"], before[-1]["seq"])
        with away(servers, chat):
            time.sleep(2)  # two looks at the journal, and four grace periods
        assert_whole([*before, *back.answer()])
    assert paid(chat) == 1
