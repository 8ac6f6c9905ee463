"""What a provider refused is not paid for; what it may have begun is. And texts that a provider should not send."""

from collections.abc import Iterator

import pytest

from chat_api.core.settings import Settings
from tests.chat_api.chat_world import Chat, TestBot, serving, wait_until
from tests.provider_state import Act

pytestmark = [pytest.mark.stack, pytest.mark.timeout(60)]

PARCELS = "Parcels ordered by 11:30 leave on the same day."


def booked(chat: Chat, bot: TestBot) -> list[tuple[int, bool]]:
    """(calls, whether there are prompt tokens) of the answers that are booked."""
    return chat.rows(
        "SELECT calls, prompt_tokens > 0 FROM usage_days WHERE bot_id = %s AND purpose = 'chat'", bot.bot_id
    )


def reserved(chat: Chat, bot: TestBot) -> int:
    return len(chat.rows("SELECT 1 FROM budget_reservations WHERE bot_id = %s", bot.bot_id))


@pytest.fixture(scope="module")
def patient_address(chat_settings: Settings) -> Iterator[str]:
    """A server that waits for its provider as long as it takes: what is cut short in its middle may have been begun."""
    with serving(chat_settings.model_copy(update={"llm_timeout_s": 30})) as address:
        yield address


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_a_refused_call_costs_no_budget(chat: Chat, patient_address: str, status: int) -> None:
    bot = chat.add_bot(PARCELS, daily_token_budget=100_000)
    chat.provider.fail(status, "chat", times=9)
    patient = Chat(patient_address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
    with patient.visit(bot) as visit:
        for number in range(2):
            error = visit.asked(ask_id=str(number))[-1]
            assert error["type"] == "error"
            assert error["code"] in {"provider_unavailable", "provider_rejected"}
        assert booked(chat, bot) == []
        assert reserved(chat, bot) == 0
        chat.provider.reset()
        assert visit.asked(ask_id="0")[-1]["finish_reason"] == "stop"
    assert booked(chat, bot) == [(1, True)]


def test_a_provider_that_is_not_reached_costs_no_budget(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS, daily_token_budget=100_000)
    away = {"openai_base_url": "http://127.0.0.1:1/v1", "embedding_base_url": chat.provider.base_url}
    with serving(chat_settings.model_copy(update=away)) as address:
        alone = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        with alone.visit(bot) as visit:
            assert visit.asked()[-1]["code"] == "provider_unavailable"
    assert booked(chat, bot) == []
    assert reserved(chat, bot) == 0


@pytest.mark.parametrize(("act", "after"), [("hang", 0), ("cut", 3), ("malformed", 0)])
def test_what_the_provider_may_have_begun_is_booked(chat: Chat, act: Act, after: int) -> None:
    bot = chat.add_bot(PARCELS, daily_token_budget=100_000)
    chat.provider.controls.answers.append("one two three four five")
    chat.provider.fail(act, "chat", after=after, times=3)
    with chat.visit(bot) as visit:
        assert visit.asked()[-1]["code"] == "provider_unavailable"
    assert booked(chat, bot) == [(1, True)]
    assert reserved(chat, bot) == 0


def test_a_refusal_behind_a_silence_leaves_the_silence_booked(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.fail("malformed", "chat")
    chat.provider.fail(503, "chat", times=2)
    with chat.visit(bot) as visit:
        assert visit.asked()[-1]["code"] == "provider_unavailable"
    assert booked(chat, bot) == [(1, True)]


def test_a_stopped_answer_is_booked(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.fail("hang", "chat")
    with chat.visit(bot) as visit:
        visit.ask()
        assert visit.receive()["type"] == "sources"
        wait_until(lambda: chat.provider.counts.requests["chat"] == 1)
        visit.send({"type": "stop", "id": "q1"})
        assert visit.answer()[-1]["finish_reason"] == "stopped"
    assert booked(chat, bot) == [(1, True)]


@pytest.mark.parametrize("kept", [True, False])
def test_a_question_that_is_answered_already_is_not_embedded_again(chat: Chat, kept: bool) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=False)
    with chat.visit(bot) as visit, chat.visit(bot, claims={"sub": "visitor-2"}) as stranger:
        first = visit.asked()[-1]
        if not kept:
            chat.rows("DELETE FROM answers WHERE bot_id = %s", bot.bot_id)
        assert visit.asked()[-1]["message_id"] == first["message_id"]
        assert stranger.asked(conversation_id=visit.ready["conversation_id"])[-1]["type"] == "error"
    query = "SELECT calls FROM usage_days WHERE bot_id = %s AND purpose = 'query'"
    assert chat.rows(query, bot.bot_id) == [(1,)]
    assert chat.provider.counts.requests["embeddings"] == 1


def test_each_try_that_the_provider_may_have_begun_is_booked(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=False)
    query = "SELECT prompt_tokens FROM usage_days WHERE bot_id = %s AND purpose = 'chat'"
    chat.provider.fail("malformed", "chat")
    with chat.visit(bot) as visit:
        done = visit.asked()[-1]
    once = done["usage"]["prompt_tokens"]
    assert chat.rows(query, bot.bot_id)[0][0] == pytest.approx(2 * once, rel=0.3)


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", ["\ud83d", "\0", "a\0b", "\ude00\ud83d", "\ud83d\0"])
def test_what_can_t_be_sent_or_kept_is_marked(chat: Chat, piece: str) -> None:
    bot = chat.add_bot(PARCELS, daily_token_budget=100_000)
    chat.provider.controls.answers.append(f"They leave {piece} today {piece}")
    with chat.visit(bot) as visit:
        frames = visit.asked()
    done = frames[-1]
    assert done["type"] == "done"
    assert "".join(frame["text"] for frame in frames[1:-1]) == done["text"]
    shown = "".join("\ufffd" if char in "\ud83d\ude00\0" else char for char in piece)
    assert done["text"] == f"They leave {shown} today {shown}"
    assert chat.turns(bot) == [("What is it?", done["text"], "stop", None)]
    assert booked(chat, bot) == [(1, True)]
    assert reserved(chat, bot) == 0
