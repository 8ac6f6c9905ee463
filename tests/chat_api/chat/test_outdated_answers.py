"""Recorded answers whose sources are deleted meanwhile: they are given anew, not repeated."""

from typing import Any
from uuid import UUID

import pytest

from tests.chat_api.chat.answers_world import PARCELS, paid, resume, text_of
from tests.chat_api.chat.rest_world import Rest
from tests.chat_api.chat_world import Chat, Frame, TestBot, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(60)]

NOW = "Parcels ordered by noon leave on the same day."


def delete(rest: Rest, bot: TestBot, source_id: UUID) -> None:
    """Deletes a source as its owner does."""
    answer = rest.call("DELETE", f"/api/training/delete/{source_id}", bot.token(scope="training:write"))
    assert answer.status_code == 200, answer.text


def offered(frames: list[Frame]) -> set[str]:
    """The sources that were offered."""
    return {source["source_id"] for source in frames[0]["sources"]}


def on_record(chat: Chat, bot: TestBot) -> list[Any]:
    return chat.rows("SELECT message_id::text, answer, error_code FROM turns WHERE bot_id = %s", bot.bot_id)


def rating(chat: Chat, bot: TestBot) -> list[Any]:
    return chat.rows("SELECT feedback, feedback_comment FROM turns WHERE bot_id = %s", bot.bot_id)


@pytest.fixture
def world(chat: Chat) -> tuple[TestBot, UUID, UUID]:
    """A bot, a source that answers cite, and one that is offered beside it."""
    bot = chat.add_bot()
    cited, beside = chat.teach(bot, [PARCELS]), chat.teach(bot, ["We sell kettles."])
    chat.provider.controls.answers.append("They leave today [1].")
    return bot, cited, beside


def test_an_answer_that_cites_a_deleted_source_is_given_anew(
    chat: Chat, other: Chat, rest: Rest, world: tuple[TestBot, UUID, UUID]
) -> None:
    bot, cited, _ = world
    with chat.visit(bot) as visit, other.visit(bot) as back:
        first = visit.asked("When do parcels leave?")
        assert first[-1]["citations"] == [1]
        visit.send({"type": "feedback", "message_id": first[-1]["message_id"], "value": "down", "comment": "Wrong."})
        wait_until(lambda: rating(chat, bot) == [("down", "Wrong.")])
        delete(rest, bot, UUID(first[0]["sources"][0]["source_id"]))
        chat.teach(bot, [NOW])
        again = visit.asked("When do parcels leave?")
        assert str(cited) in offered(first) - offered(again)
        assert again[-1]["message_id"] != first[-1]["message_id"]
        assert rating(chat, bot) == [(None, None)]
        assert on_record(chat, bot) == [(again[-1]["message_id"], again[-1]["text"], None)]
        replayed = back.asked("When do parcels leave?", conversation_id=visit.ready["conversation_id"])
        assert (replayed[-1]["message_id"], offered(replayed)) == (again[-1]["message_id"], offered(again))
    assert paid(chat) == 2


def test_an_answer_that_does_not_cite_it_is_repeated(chat: Chat, rest: Rest, world: tuple[TestBot, UUID, UUID]) -> None:
    bot, _, beside = world
    with chat.visit(bot) as visit:
        first = visit.asked("When do parcels leave?")
        assert str(beside) in offered(first)
        assert first[0]["sources"][0]["source_id"] != str(beside)
        delete(rest, bot, beside)
        assert visit.asked("When do parcels leave?")[-1]["message_id"] == first[-1]["message_id"]
    assert paid(chat) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_an_answer_that_cites_a_deleted_source_is_not_resumed(
    chat: Chat, rest: Rest, world: tuple[TestBot, UUID, UUID], kept: bool
) -> None:
    bot, cited, _ = world
    with chat.visit(bot) as visit:
        first = visit.asked("When do parcels leave?")
        delete(rest, bot, cited)
        chat.teach(bot, [NOW])
        if not kept:
            chat.rows("DELETE FROM answers WHERE bot_id = %s", bot.bot_id)
        resume(visit, visit.ready["conversation_id"], 1)
        if kept:
            assert visit.receive()["code"] == "cannot_resume"
            visit.ask("When do parcels leave?")
        again = visit.answer()
    assert (again[0]["type"], again[0]["seq"]) == ("sources", 1 if kept else 2)
    assert str(cited) not in offered(again)
    assert again[-1]["message_id"] != first[-1]["message_id"]
    assert on_record(chat, bot) == [(again[-1]["message_id"], again[-1]["text"], None)]


def test_an_answer_during_which_a_source_was_switched_is_not_given_to_others(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.controls.token_delay_ms = 30
    chat.provider.controls.answers += [f"{PARCELS[:-1]} [1]."] * 2
    with chat.visit(bot) as visit, chat.visit(bot, claims={"sub": "visitor-2"}) as next_one:
        visit.ask("When do parcels leave?")
        assert visit.receive()["type"] == "sources"
        switched = chat.teach(bot, [NOW])
        assert visit.answer()[-1]["finish_reason"] == "stop"
        chat.rows("UPDATE sources SET deleted_at = now() WHERE source_id = %s", switched)
        assert next_one.asked("When do parcels leave?")[-1]["finish_reason"] == "stop"
    assert paid(chat) == 2


def test_a_question_that_failed_and_is_another_one_now_stands_where_it_was_asked(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=False)
    chat.provider.fail(400, "chat")
    with chat.visit(bot) as visit:
        assert visit.asked("When?", "q1")[-1]["type"] == "error"
        assert visit.asked("What?", "q2")[-1]["type"] == "done"
        assert visit.asked("Where?", "q1")[-1]["type"] == "done"
    assert [(turn[0], turn[3]) for turn in chat.turns(bot)] == [("What?", None), ("Where?", None)]


@pytest.mark.parametrize("again", [False, True])
def test_an_answer_begins_again_without_what_is_deleted_while_it_is_written(
    chat: Chat, rest: Rest, world: tuple[TestBot, UUID, UUID], again: bool
) -> None:
    bot, cited, beside = world
    chat.provider.controls.answers.append("We sell kettles [1].")
    chat.provider.controls.token_delay_ms = 100
    with chat.visit(bot) as visit:
        visit.ask("When do parcels leave?")
        frames = [visit.receive()]
        delete(rest, bot, cited)
        while frames[-1]["type"] != "sources" or len(frames) == 1:
            frames.append(visit.receive())
        assert offered(frames[-1:]) == {str(beside)}
        if again:
            delete(rest, bot, beside)
        frames += visit.answer()
    done = frames[-1]
    assert (done["type"], done["finish_reason"]) == ("done", "no_answer" if again else "stop")
    assert (done["citations"], text_of(frames)) == ([] if again else [1], done["text"])
    assert paid(chat) == 2
    used = chat.rows(
        "SELECT calls, prompt_tokens, completion_tokens FROM usage_days WHERE bot_id = %s AND purpose = 'chat'",
        bot.bot_id,
    )
    assert used == [(2, chat.provider.counts.tokens["prompt"], chat.provider.counts.tokens["completion"])]


def test_what_was_set_aside_for_an_answer_does_for_it_when_it_begins_again(chat: Chat, rest: Rest) -> None:
    bot = chat.add_bot(daily_token_budget=1400, max_tokens=400)
    cited, _ = chat.teach(bot, [PARCELS]), chat.teach(bot, ["We sell kettles."])
    chat.provider.controls.answers += ["They leave today [1].", "We sell kettles [1]."]
    chat.provider.controls.token_delay_ms = 100
    with chat.visit(bot) as visit:
        visit.ask("When do parcels leave?")
        visit.receive()
        delete(rest, bot, cited)
        assert visit.answer()[-1]["text"] == "We sell kettles [1]."


@pytest.mark.parametrize("kept", [True, False])
def test_a_reader_of_some_frames_of_a_repetition_goes_on_with_the_others(
    chat: Chat, world: tuple[TestBot, UUID, UUID], kept: bool
) -> None:
    bot, _, _ = world
    with chat.visit(bot) as visit:
        first = visit.asked("When do parcels leave?")
        if not kept:
            chat.rows("DELETE FROM answers WHERE bot_id = %s", bot.bot_id)
        again = visit.asked("When do parcels leave?")
        assert (again == first) is kept
        resume(visit, visit.ready["conversation_id"], 2)
        rest_of_it = visit.answer()
    assert text_of(again[:2] + rest_of_it) == first[-1]["text"]
