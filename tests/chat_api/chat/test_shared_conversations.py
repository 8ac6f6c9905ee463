"""A conversation that two visitors begin at once is one visitor's; and how much of it is remembered."""

from uuid import uuid4

import pytest

from tests.chat_api.chat.rest_world import Rest
from tests.chat_api.chat_world import Chat, Frame, TestBot, Visit, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(60)]

PARCELS = "Parcels ordered by 11:30 leave on the same day."


def visitors(chat: Chat, bot: TestBot) -> tuple[Visit, Visit]:
    """Two visitors of the bot."""
    return chat.visit(bot, claims={"sub": "first"}), chat.visit(bot, claims={"sub": "second"})


def ended(visit: Visit) -> Frame:
    return visit.answer()[-1]


def test_who_is_first_on_record_has_the_conversation_to_themselves(rest: Rest) -> None:
    chat = rest.chat
    bot, conversation = chat.add_bot(PARCELS), str(uuid4())
    chat.provider.controls.token_delay_ms = 500
    chat.provider.controls.answers.extend(["word " * 10, "word " * 400])
    first, second = visitors(chat, bot)
    with first, second:
        first.ask("What is mine?", "a", conversation_id=conversation)
        wait_until(lambda: chat.provider.counts.requests["chat"] == 1)
        second.ask("What is theirs?", "b", conversation_id=conversation)
        assert second.receive()["type"] == "sources"
        # Now that both are begun the first visitor's is the first to end.
        chat.provider.controls.token_delay_ms = 5
        assert [ended(first)["type"], ended(second)["type"]] == ["done", "done"]
        assert chat.turns(bot) == [("What is mine?", "word " * 10, "stop", None)]
        again = second.asked("And now?", "c", conversation_id=conversation)[-1]
        assert (again["type"], again["code"]) == ("error", "bad_frame")
    path = f"/api/chat/conversations/{conversation}/messages"
    (mine,) = rest.get(path, bot, sub="first")["messages"]
    assert mine["question"] == "What is mine?"
    assert rest.call("GET", path, bot.token(sub="second")).status_code == 404
    calls = chat.rows("SELECT calls FROM usage_days WHERE bot_id = %s AND purpose = 'chat'", bot.bot_id)
    assert calls == [(2,)], "both were paid"


def test_another_visitors_question_does_not_bring_a_conversation_to_the_top(rest: Rest) -> None:
    chat = rest.chat
    bot, conversation = chat.add_bot(PARCELS), uuid4()
    chat.provider.controls.token_delay_ms = 500
    chat.provider.controls.answers.append("word " * 10)
    with chat.visit(bot, claims={"sub": "second"}) as second:
        second.ask("What is theirs?", "b", conversation_id=str(conversation))
        assert second.receive()["type"] == "sources"
        rest.add_turn(bot, "What is mine?", conversation_id=conversation, visitor="first")
        chat.provider.controls.token_delay_ms = 5
        before = chat.rows("SELECT last_turn_at FROM conversations WHERE bot_id = %s", bot.bot_id)
        assert ended(second)["type"] == "done"
    assert chat.rows("SELECT last_turn_at FROM conversations WHERE bot_id = %s", bot.bot_id) == before
    assert [turn[0] for turn in chat.turns(bot)] == ["What is mine?"]


@pytest.mark.parametrize(("length", "remembered"), [(0, []), (1, ["Two?"]), (2, ["One?", "Two?"])])
def test_no_more_turns_are_remembered_than_the_bot_says(chat: Chat, length: int, remembered: list[str]) -> None:
    bot = chat.add_bot(PARCELS, history_length=length, answer_cache=False)
    with chat.visit(bot) as visit:
        for number, question in enumerate(("One?", "Two?", "Three?")):
            chat.provider.controls.answers.extend(["Rewritten?"] * (number > 0 and length > 0))
            visit.asked(question, str(number))
        assert visit.asked("Three?", "2")[-1]["type"] == "done", "one that was answered is found all the same"
    prompts = chat.rows("SELECT prompt_tokens FROM turns WHERE bot_id = %s ORDER BY created_at", bot.bot_id)
    grown = [tokens > prompts[0][0] + 2 for (tokens,) in prompts]
    assert grown == [False, bool(remembered), bool(remembered)]
    rewritten = chat.rows("SELECT sum(calls) FROM usage_days WHERE bot_id = %s AND purpose = 'rewrite'", bot.bot_id)
    assert rewritten == [(2 if remembered else None,)]


def test_without_a_memory_every_question_is_a_first_one(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, history_length=0)

    def cached() -> bool:
        chat.provider.controls.answers.clear()
        chat.provider.controls.answers.extend(["Parcels leave on the same day [1]."] * 2)
        with chat.visit(bot) as visit:
            visit.asked("Who are you?", "1")
            return all(visit.asked("When?", str(n))[-1]["finish_reason"] in {"stop", "cached"} for n in (2, 3)) and (
                visit.asked("When?", "4")[-1]["finish_reason"] == "cached"
            )

    wait_until(cached)  # while Redis is slow the cache is left alone for some seconds
    assert chat.rows("SELECT 1 FROM usage_days WHERE bot_id = %s AND purpose = 'rewrite'", bot.bot_id) == []
