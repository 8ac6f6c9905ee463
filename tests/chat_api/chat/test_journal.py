"""Answers that are joined, resumed and stopped: after a reconnect, on another replica, and when the one that made them is gone."""

import asyncio
import contextlib
import json
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from redis import Redis

from chat_api.chat.journal import AnswerKey, Hold, Journal
from chat_api.chat.stream import AnswerStream
from chat_api.core.database import async_engines
from chat_api.core.settings import Settings
from tests.chat_api.chat.answers_world import (
    PARCELS,
    WORDS,
    abandon,
    answers,
    assert_whole,
    begun,
    paid,
    resume,
    text_of,
)
from tests.chat_api.chat_world import Chat, TestBot, serving, wait_until
from tests.servers import as_api

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]

NO_REDIS = SecretStr("redis://127.0.0.1:1/0")


# --- after a reconnect ------------------------------------------------------------------------------------------------


def test_a_visitor_who_returns_gets_the_rest_once(chat: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        before = begun(visit)
    with chat.visit(bot) as back:
        resume(back, visit.ready["conversation_id"], before[-1]["seq"])
        assert_whole([*before, *back.answer()])
        assert back.asked(ask_id="q2")[-1]["type"] == "done"
    assert paid(chat) == 2
    assert chat.turns(bot)[0][2:] == ("stop", None)


def test_the_frames_of_an_ended_answer_are_replayed_as_they_were(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        frames = visit.asked()
    assert_whole(frames)
    for replica, after in ((chat, 0), (other, 0), (other, 1), (other, len(frames) - 1)):
        with replica.visit(bot) as back:
            resume(back, visit.ready["conversation_id"], after)
            assert [back.receive() for _ in frames[after:]] == frames[after:]
            back.send({"type": "ping"})
            assert back.receive() == {"type": "pong"}
    assert paid(chat) == 1


def test_an_error_is_replayed_too(chat: Chat, other: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.fail(400, "chat")
    with chat.visit(bot) as visit:
        frames = visit.asked()
    with other.visit(bot) as back:
        resume(back, visit.ready["conversation_id"], 1)
        assert [back.receive()] == frames[1:]


def test_what_is_not_in_the_journal_any_more_comes_from_the_record(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        frames = visit.asked()
    chat.rows("DELETE FROM answers WHERE bot_id = %s", bot.bot_id)
    with other.visit(bot) as back:
        resume(back, visit.ready["conversation_id"], 7)
        again = back.answer()
    assert [frame["type"] for frame in again] == ["sources", "delta", "done"]
    assert [frame["seq"] for frame in again] == [8, 9, 10]
    assert again[-1]["text"] == frames[-1]["text"]
    assert again[-1]["message_id"] == frames[-1]["message_id"]


# --- on another replica -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redis", ["with", "without"])
def test_another_replica_goes_on_while_the_first_still_streams(
    chat: Chat, other: Chat, bot: TestBot, chat_settings: Settings, redis: str
) -> None:
    with contextlib.ExitStack() as stack:
        if redis == "without":
            address = stack.enter_context(serving(chat_settings.model_copy(update={"redis_url": NO_REDIS})))
            other = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        first, back = stack.enter_context(chat.visit(bot)), stack.enter_context(other.visit(bot))
        before = begun(first)
        resume(back, first.ready["conversation_id"], 2)
        assert_whole([*before[:2], *back.answer()])
        assert_whole([*before, *first.answer()])
    assert paid(chat) == 1


def test_frames_are_passed_on_as_they_come(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as first, other.visit(bot) as back:
        before = begun(first)
        resume(back, first.ready["conversation_id"], before[-1]["seq"])
        back.receive()
        assert chat.provider.counts.running == 1
        back.answer()


def test_a_question_sent_again_elsewhere_joins_the_answer_in_flight(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as first, other.visit(bot) as second, chat.visit(bot) as third:
        before = begun(first)
        for visit in (second, third):
            visit.ask(conversation_id=first.ready["conversation_id"])
        for visit in (second, third):
            assert_whole(visit.answer())
        assert_whole([*before, *first.answer()])
    assert paid(chat) == 1
    assert len(chat.turns(bot)) == 1


@pytest.mark.parametrize("how", ["resumed", "unseen"])
def test_stop_from_another_replica_closes_the_providers_call(chat: Chat, other: Chat, bot: TestBot, how: str) -> None:
    chat.provider.controls.answers[0] *= 50
    with chat.visit(bot) as first, other.visit(bot) as back:
        before = begun(first)
        if how == "resumed":
            resume(back, first.ready["conversation_id"], before[-1]["seq"])
        back.send({"type": "stop", "id": "q1"})
        wait_until(lambda: chat.provider.counts.client_closed == 1)
        for frames in [[*before, *first.answer()], *([[*before, *back.answer()]] if how == "resumed" else [])]:
            assert (frames[-1]["finish_reason"], frames[-1]["text"]) == ("stopped", text_of(frames))
    assert chat.turns(bot)[0][2:] == ("stopped", None)


def test_an_answer_read_elsewhere_goes_on_without_its_first_reader(chat: Chat, other: Chat, bot: TestBot) -> None:
    chat.provider.controls.token_delay_ms = 50  # three seconds in all, six times the grace period
    with other.visit(bot) as back:
        with chat.visit(bot) as first:
            before = begun(first)
        resume(back, first.ready["conversation_id"], before[-1]["seq"])
        assert_whole([*before, *back.answer()])
    assert paid(chat) == 1


# --- when the replica is gone -----------------------------------------------------------------------------------------


def test_an_abandoned_answer_is_made_anew_and_begins_again(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        frames = visit.asked()
    abandon(chat, bot, frames_after=1)
    kept = chat.rows("SELECT max(last_seq) FROM answer_frames WHERE bot_id = %s", bot.bot_id)[0][0]
    had = kept + 5  # what the visitor was sent, and nobody kept
    chat.provider.controls.answers.append(" ".join(f"anew{n}" for n in range(WORDS)))
    with other.visit(bot) as back, other.visit(bot) as late:
        resume(back, visit.ready["conversation_id"], had)
        again = back.answer()
        resume(late, visit.ready["conversation_id"], 0)
        replayed = late.answer()
    assert again[0]["type"] == "sources"
    assert_whole([*frames[:had], *again])
    assert_whole(replayed)
    assert replayed[had:] == again
    assert paid(chat) == 2
    assert [row[:2] for row in answers(chat, bot)] == [("done", 2)]


def test_an_answer_is_not_made_anew_for_ever(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        visit.asked()
    abandon(chat, bot, frames_after=1)
    chat.rows("UPDATE answers SET attempt = 2 WHERE bot_id = %s", bot.bot_id)
    with other.visit(bot) as back:
        resume(back, visit.ready["conversation_id"], 0)
        assert back.answer()[-1]["code"] == "cannot_resume"
        assert paid(chat) == 1
        assert back.asked(conversation_id=visit.ready["conversation_id"])[-1]["type"] == "done"


def test_one_replica_alone_takes_an_answer_over(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        visit.asked()
    abandon(chat, bot, frames_after=1)
    chat.provider.controls.answers.append(" ".join(f"anew{n}" for n in range(WORDS)))
    with contextlib.ExitStack() as stack:
        visits = [stack.enter_context(replica.visit(bot)) for replica in (chat, other) * 3]
        for one in visits:
            resume(one, visit.ready["conversation_id"], 0)
        texts = {one.answer()[-1]["text"] for one in visits}
    assert len(texts) == 1
    assert paid(chat) == 2


def test_who_was_not_told_that_it_took_an_answer_over_may_ask_again(
    chat: Chat, bot: TestBot, chat_settings: Settings
) -> None:
    with chat.visit(bot) as visit:
        visit.asked()
    abandon(chat, bot)
    key = AnswerKey(bot.org_id, bot.bot_id, UUID(visit.ready["conversation_id"]), "q1")

    async def play() -> None:
        async with async_engines(as_api(chat_settings)) as engines:
            journal = Journal(engines)
            ours, theirs = (Hold(engines, key, "visitor-1", AnswerStream("q1")) for _ in range(2))
            for _ in range(3):
                assert await journal.take_over(key, "visitor-1", ours)
                assert await journal.take_over(key, "visitor-1", theirs) is None
                chat.rows("UPDATE answers SET expires_at = now() - interval '1 second' WHERE bot_id = %s", bot.bot_id)
                assert await journal.take_over(key, "visitor-1", theirs) is None

    asyncio.run(play())
    assert [row[:2] for row in answers(chat, bot)] == [("streaming", 2)]


def test_a_replica_that_lost_its_lease_writes_no_more(chat: Chat, bot: TestBot) -> None:
    chat.provider.controls.answers[0] *= 50
    with chat.visit(bot) as visit:
        begun(visit)
        wait_until(lambda: bool(answers(chat, bot)))
        chat.rows("UPDATE answers SET holder = gen_random_uuid() WHERE bot_id = %s", bot.bot_id)
        assert visit.last_words() == 1012
    wait_until(lambda: chat.provider.counts.client_closed == 1)
    assert chat.turns(bot) == []
    assert chat.rows("SELECT sum(prompt_tokens) > 0 FROM usage_days WHERE bot_id = %s", bot.bot_id) == [(True,)]


def test_a_stopped_answer_whose_replica_is_gone_is_not_paid_again(chat: Chat, other: Chat, bot: TestBot) -> None:
    with chat.visit(bot) as visit:
        frames = visit.asked()
    abandon(chat, bot, frames_after=1)
    with other.visit(bot) as back:
        back.send({"type": "stop", "id": "q1"})
        wait_until(lambda: chat.rows("SELECT stop_requested FROM answers WHERE bot_id = %s", bot.bot_id) == [(True,)])
        resume(back, visit.ready["conversation_id"], 0)
        stopped = back.answer()
    assert (stopped[-1]["finish_reason"], stopped[-1]["text"]) == ("stopped", text_of(stopped))
    assert frames[-1]["text"].startswith(stopped[-1]["text"])
    assert paid(chat) == 1


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_nobody_elses_answer_can_be_resumed_joined_or_stopped(chat: Chat, other: Chat, bot: TestBot) -> None:
    sibling = chat.add_bot(PARCELS, org_id=bot.org_id)
    with chat.visit(bot) as owner:
        before = begun(owner)
        conversation_id = owner.ready["conversation_id"]
        for replica in (chat, other):
            for who, claims in ((bot, {"sub": "visitor-2"}), (sibling, {}), (chat.add_bot(PARCELS), {})):
                with replica.visit(who, claims=claims) as stranger:
                    resume(stranger, conversation_id, 0)
                    assert stranger.receive()["code"] == "cannot_resume"
                    stranger.send({"type": "stop", "id": "q1"})
                    if who is bot:
                        assert stranger.asked(conversation_id=conversation_id)[-1]["code"] == "bad_frame"
        assert_whole([*before, *owner.answer()])
        resume(owner, uuid4(), 0)
        assert owner.receive()["code"] == "cannot_resume"
        resume(owner, conversation_id, 10**6)
        assert owner.receive()["code"] == "cannot_resume"
    assert paid(chat) == 1


def test_keys_in_redis_carry_the_tenant(chat: Chat, bot: TestBot, chat_settings: Settings) -> None:
    with chat.visit(bot) as visit, Redis.from_url(chat_settings.redis_url.get_secret_value()) as redis:
        listening = redis.pubsub()
        listening.psubscribe(f"frames:{bot.org_id}:{bot.bot_id}:{UUID(visit.ready['conversation_id'])}:*")
        visit.asked()
        told = iter(lambda: listening.get_message(timeout=5), None)
        data = next(message["data"] for message in told if message["type"] == "pmessage")
    listening.close()
    assert json.loads(data.decode().split("\n")[1])["type"] == "sources"
