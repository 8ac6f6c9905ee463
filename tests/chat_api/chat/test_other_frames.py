"""Answers that a client takes for others than they are: with more frames than there are, or with an id of another tab's."""

import pytest

from tests.chat_api.chat.answers_world import (
    PARCELS,
    WORDS,
    abandon,
    assert_whole,
    begun,
    paid,
    resume,
    slow_bot,
    text_of,
)
from tests.chat_api.chat_world import Chat, Frame, TestBot, Visit, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]

BEYOND = 5_000


# --- more frames than there are ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_who_has_more_frames_than_there_are_asks_again(chat: Chat, other: Chat, bot: TestBot, where: str) -> None:
    replica = {"here": chat, "elsewhere": other}[where]
    with chat.visit(bot) as first, replica.visit(bot) as back:
        before = begun(first)
        conversation_id = first.ready["conversation_id"]
        resume(back, conversation_id, BEYOND)
        refused = back.receive()
        assert (refused["type"], refused["code"], refused["id"]) == ("error", "cannot_resume", "q1")
        assert (chat.provider.counts.running == 1) is (where == "here"), "who makes it knows at once"
        back.ask(conversation_id=conversation_id)
        again = back.answer()
        frames = [*before, *first.answer()]
    assert_whole(frames)
    assert (text_of(again), again[-1]["message_id"]) == (frames[-1]["text"], frames[-1]["message_id"])
    assert paid(chat) == 1


def test_who_has_as_many_frames_as_an_answer_that_ends_elsewhere_asks_again(
    chat: Chat, other: Chat, bot: TestBot
) -> None:
    with chat.visit(bot) as first, other.visit(bot) as back:
        before = begun(first)
        resume(back, first.ready["conversation_id"], len([*before, *range(WORDS)]) - 2)
        assert back.receive()["code"] == "cannot_resume"
        assert_whole([*before, *first.answer()])


@pytest.mark.parametrize("after", [BEYOND, 10**6])
def test_a_connection_that_resumes_beyond_its_answer_still_gets_it(chat: Chat, bot: TestBot, after: int) -> None:
    with chat.visit(bot) as visit:
        frames = begun(visit)
        resume(visit, visit.ready["conversation_id"], after)
        while frames[-1]["type"] != "done":
            frames.append(visit.receive())
    assert [frame["code"] for frame in frames if frame["type"] == "error"] == ["cannot_resume"]
    assert_whole([frame for frame in frames if frame["type"] != "error"])


# --- stopped by who takes over ----------------------------------------------------------------------------------------


def test_what_was_cited_of_a_stopped_answer_is_said_also_by_another_replica(chat: Chat, other: Chat) -> None:
    bot = slow_bot(chat)
    chat.provider.controls.answers[0] = f"They leave today [1]. {chat.provider.controls.answers[0]}"
    with chat.visit(bot) as visit:
        visit.asked()
    abandon(chat, bot, frames_after=1)
    with other.visit(bot) as back:
        back.send({"type": "stop", "id": "q1"})
        wait_until(lambda: chat.rows("SELECT stop_requested FROM answers WHERE bot_id = %s", bot.bot_id) == [(True,)])
        resume(back, visit.ready["conversation_id"], 0)
        stopped = back.answer()[-1]
    assert (stopped["finish_reason"], stopped["citations"]) == ("stopped", [1])
    assert "[1]" in stopped["text"]
    assert chat.rows("SELECT answer, citations FROM turns WHERE bot_id = %s", bot.bot_id) == [(stopped["text"], [1])]


# --- another tab's id -------------------------------------------------------------------------------------------------


def stopped(visit: Visit, ask_id: str = "q1") -> list[Frame]:
    """Returns when the stop was taken; frames that came before."""
    visit.send({"type": "stop", "id": ask_id})
    visit.send({"type": "ping"})
    frames = [visit.receive()]
    while frames[-1]["type"] != "pong":
        frames.append(visit.receive())
    return frames[:-1]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("ask_id", ["q1", "q2"])
def test_a_late_stop_ends_no_answer_of_another_tabs(chat: Chat, other: Chat, where: str, ask_id: str) -> None:
    bot = slow_bot(chat, answer_cache=False)
    chat.provider.controls.answers.insert(0, "Short.")
    replica = {"here": chat, "elsewhere": other}[where]
    with chat.visit(bot) as first, replica.visit(bot) as second:
        assert first.asked(ask_id=ask_id)[-1]["text"] == "Short."
        before = begun(second)
        assert stopped(first) == []
        assert_whole([*before, *second.answer()])


def test_a_stop_reaches_another_tab_in_the_same_conversation(chat: Chat, other: Chat) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=False, history_length=0)
    with chat.visit(bot) as first, other.visit(bot) as second:
        conversation_id = first.ready["conversation_id"]
        second.asked(ask_id="q0", conversation_id=conversation_id)
        chat.provider.controls.token_delay_ms = 20
        chat.provider.controls.answers.append("word " * 50 * WORDS)
        before = begun(first)
        assert stopped(second) == []
        frames = [*before, *first.answer()]
    assert (frames[-1]["finish_reason"], frames[-1]["text"]) == ("stopped", text_of(frames))
