"""Answers whose readers leave, change, stop early or come back late, on one replica and through another."""

import asyncio
import contextlib
import gc
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import psycopg
import pytest

from chat_api.chat.answers import Answers
from chat_api.chat.bot import Bot
from chat_api.chat.client_frames import Ask
from chat_api.chat.journal import AnswerKey, Hold, Journal
from chat_api.chat.live import LiveAnswer
from chat_api.chat.passing import Passed, Passing
from chat_api.chat.relay import Relay
from chat_api.chat.services import ChatServices
from chat_api.chat.stream import AnswerStream, Reader
from chat_api.core.database import async_engines
from chat_api.core.settings import Settings
from tests.chat_api.chat.answers_world import (
    WORDS,
    abandon,
    answers,
    assert_whole,
    begun,
    paid,
    resume,
    text_of,
)
from tests.chat_api.chat_world import Chat, Frame, TestBot, Visit, wait_until
from tests.servers import as_api, free_port

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]


@contextlib.contextmanager
def locked(chat: Chat, table: str) -> Iterator[None]:
    """Has whoever uses the table wait."""
    with psycopg.connect(chat.chat_dsn) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


def waiting(chat: Chat, table: str) -> int:
    """How many wait for the table."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = CAST(%s AS regclass)"
    return int(chat.rows(query, table)[0][0])


def until_pong(visit: Visit) -> list[Frame]:
    """Returns when all that was sent before was taken; the frames up to then."""
    visit.send({"type": "ping"})
    frames = [visit.receive()]
    while frames[-1]["type"] != "pong":
        frames.append(visit.receive())
    return frames[:-1]


# --- nobody reads it any more -----------------------------------------------------------------------------------------


def test_an_answer_that_was_left_through_another_replica_too_is_ended(chat: Chat, other: Chat, bot: TestBot) -> None:
    chat.provider.controls.answers[0] *= 50
    with other.visit(bot) as back:
        with chat.visit(bot) as first:
            before = begun(first)
        resume(back, first.ready["conversation_id"], before[-1]["seq"])
        back.receive()
        wait_until(lambda: chat.rows("SELECT followed_at FROM answers WHERE bot_id = %s", bot.bot_id) != [(None,)])
    wait_until(lambda: chat.provider.counts.client_closed == 1, 40)
    wait_until(lambda: [turn[2:] for turn in chat.turns(bot)] == [("stopped", "disconnected")])


def test_an_answer_that_nobody_reads_is_not_taken_over(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        visit.asked()
    abandon(chat, bot, frames_after=1)
    chat.rows("UPDATE answers SET expires_at = now() + interval '3 seconds' WHERE bot_id = %s", bot.bot_id)
    with other.visit(bot) as back:
        resume(back, visit.ready["conversation_id"], 0)
        back.receive()
    over = "SELECT expires_at < now() - interval '2 seconds' FROM answers WHERE bot_id = %s"
    wait_until(lambda: chat.rows(over, bot.bot_id) == [(True,)] or paid(chat) > 1)
    assert answers(chat, bot) == [("streaming", 1, False)]
    assert paid(chat) == 1


def test_a_reader_may_give_way_to_another(chat: Chat, other: Chat, bot: TestBot) -> None:
    chat.provider.controls.token_delay_ms = 50
    with chat.visit(bot, max_queue=None) as first, other.visit(bot, max_queue=None) as late:
        before = begun(first)
        conversation_id = first.ready["conversation_id"]
        with other.visit(bot, max_queue=None) as early:
            resume(early, conversation_id, 0)
            early.receive()
            resume(late, conversation_id, 0)
            late.receive()
        first.socket.close()
        resume(late, conversation_id, 2)
        assert chat.provider.counts.running == 1
        # What was on its way to the earlier reader may come before.
        frames = late.answer()
        again = [index for index, frame in enumerate(frames) if frame["seq"] == 3][-1]
        assert_whole([*before[:2], *frames[again:]])
    assert paid(chat) == 1


def test_who_returns_while_an_answer_is_given_up_gets_it_made_anew(chat: Chat, bot: TestBot) -> None:
    chat.provider.controls.answers[0] *= 50
    chat.provider.controls.answers.append(" ".join(f"anew{n}" for n in range(WORDS)))
    with chat.visit(bot) as visit:
        before = begun(visit)
    with chat.visit(bot) as back:
        with locked(chat, "turns"):
            wait_until(lambda: waiting(chat, "turns") == 1)
            resume(back, visit.ready["conversation_id"], before[-1]["seq"])
            frames = until_pong(back)
        assert_whole([*before, *frames, *back.answer()])
    assert paid(chat) == 2


def test_passing_on_ends_when_the_cancellation_was_lost(chat: Chat, bot: TestBot, chat_settings: Settings) -> None:
    with chat.visit(bot) as visit:
        visit.asked()
    abandon(chat, bot, frames_after=1)
    chat.rows("UPDATE answers SET expires_at = now() + interval '1 hour' WHERE bot_id = %s", bot.bot_id)
    key = AnswerKey(bot.org_id, bot.bot_id, UUID(visit.ready["conversation_id"]), "q1")

    async def play() -> Passed:
        relay, stream = Relay(chat_settings.redis_url.get_secret_value()), AnswerStream("q1")
        async with async_engines(as_api(chat_settings)) as engines, contextlib.aclosing(relay):
            with Reader(stream) as reader:
                passing = asyncio.create_task(Passing(Journal(engines), relay, key, "visitor-1", stream).run())
                await anext(aiter(reader))
                stream.unwanted = True
                return await asyncio.wait_for(passing, 10)

    assert asyncio.run(play()) is Passed.UNREAD


def test_passing_on_waits_for_a_database_that_is_away_only_so_long(
    chat_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_api.chat.passing.AWAY_S", 1.0)
    nobody = as_api(chat_settings).model_copy(update={"python_chat_db_port": free_port()})
    key = AnswerKey(uuid4(), uuid4(), uuid4(), "q1")
    bot = cast(Bot, SimpleNamespace(org_id=key.org_id, bot_id=key.bot_id))

    async def play() -> list[str]:
        relay = Relay(chat_settings.redis_url.get_secret_value())
        async with async_engines(nobody) as engines, contextlib.aclosing(relay), asyncio.timeout(20):
            services = cast(ChatServices, SimpleNamespace(engines=engines))
            answer = Answers(services, relay, grace_s=60)._begin(LiveAnswer(key, bot, "visitor-1", 60), None)
            with answer.followed() as frames:
                return [frame async for frame in frames]

    [frame] = map(json.loads, asyncio.run(play()))
    assert (frame["type"], frame["id"], frame["code"]) == ("error", "q1", "internal")


def test_an_answer_is_followed_for_as_long_as_its_holder_says(
    chat: Chat, bot: TestBot, chat_settings: Settings
) -> None:
    with chat.visit(bot) as visit:
        visit.asked()
    abandon(chat, bot)
    chat.rows("UPDATE answers SET followed_at = now() - interval '20 seconds' WHERE bot_id = %s", bot.bot_id)
    key = AnswerKey(bot.org_id, bot.bot_id, UUID(visit.ready["conversation_id"]), "q1")

    async def play() -> list[bool]:
        async with async_engines(as_api(chat_settings)) as engines:
            hold = Hold(engines, key, "visitor-1", AnswerStream("q1"))
            assert await Journal(engines).take_over(key, "visitor-1", hold)
            told = [await hold.keep(), await hold.keep(30)]
            return [each.followed for each in told if each]

    assert asyncio.run(play()) == [False, True]


def test_an_answer_that_is_ended_before_its_first_step_lets_its_reader_go() -> None:
    bot = cast(Bot, SimpleNamespace(org_id=uuid4(), bot_id=uuid4()))
    services = cast(ChatServices, SimpleNamespace(engines=None))
    question, conversation_id = Ask(type="ask", id="q1", text="What?"), uuid4()

    async def play() -> list[str]:
        here = Answers(services, cast(Relay, None), grace_s=60)
        answer = here.ask(bot, "visitor-1", question, conversation_id)
        await here.aclose()
        assert here.ask(bot, "visitor-1", question, conversation_id) is not answer
        await here.aclose()
        with answer.followed() as frames:
            async with asyncio.timeout(5):
                return [frame async for frame in frames]

    assert asyncio.run(play()) == []


# --- two at once ------------------------------------------------------------------------------------------------------


def test_two_tabs_may_resume_an_answer_that_is_on_record(
    chat: Chat, bot: TestBot, caplog: pytest.LogCaptureFixture
) -> None:
    with chat.visit(bot) as visit:
        frames = visit.asked()
    chat.rows("DELETE FROM answers WHERE bot_id = %s", bot.bot_id)
    with chat.visit(bot) as one, chat.visit(bot) as two:
        with locked(chat, "conversations"):
            for tab in (one, two):
                resume(tab, visit.ready["conversation_id"], len(frames))
            wait_until(lambda: waiting(chat, "conversations") == 2)
        for tab in (one, two):
            again = tab.answer()
            assert [frame["seq"] for frame in again] == [len(frames) + n for n in (1, 2, 3)]
            assert again[-1]["message_id"] == frames[-1]["message_id"]
            assert until_pong(tab) == []
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


# --- stopped before it is known who makes it --------------------------------------------------------------------------


def stopped_while_loading(chat: Chat, visit: Visit, conversation_id: object) -> list[Frame]:
    """The frames of an answer that is stopped while its conversation is loaded."""
    with locked(chat, "conversations"):
        visit.ask(conversation_id=conversation_id)
        wait_until(lambda: waiting(chat, "conversations") == 1)
        visit.send({"type": "stop", "id": "q1"})
        early = until_pong(visit)
    return early if early and early[-1]["type"] == "done" else [*early, *visit.answer()]


def test_an_early_stop_reaches_the_replica_that_makes_the_answer(chat: Chat, other: Chat, bot: TestBot) -> None:
    chat.provider.controls.answers[0] *= 50
    with chat.visit(bot) as first, other.visit(bot) as again:
        before = begun(first)
        told = stopped_while_loading(chat, again, first.ready["conversation_id"])
        wait_until(lambda: chat.provider.counts.client_closed == 1)
        frames = [*before, *first.answer()]
    assert (frames[-1]["finish_reason"], frames[-1]["text"]) == ("stopped", text_of(frames))
    assert told == frames
    assert paid(chat) == 1


def test_an_early_stop_leaves_a_recorded_answer_as_it_is(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit, other.visit(bot) as again:
        done = visit.asked()[-1]
        told = stopped_while_loading(chat, again, visit.ready["conversation_id"])[-1]
    assert {**told, "seq": 0} == {**done, "seq": 0}


def test_an_early_stop_is_on_record_and_costs_nothing(chat: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        done = stopped_while_loading(chat, visit, visit.ready["conversation_id"])[-1]
    assert (done["finish_reason"], done["text"]) == ("stopped", "")
    recorded = chat.rows("SELECT message_id::text, finish_reason FROM turns WHERE bot_id = %s", bot.bot_id)
    assert recorded == [(done["message_id"], "stopped")]
    assert paid(chat) == 0
