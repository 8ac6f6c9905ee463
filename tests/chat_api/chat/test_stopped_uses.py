"""A stop in mid-search: what was begun at the provider counts for the budget, and what was set aside is given back."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.chat_api.chat_world import Chat, TestBot, Visit, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(60)]

PARCELS = "Parcels ordered by 11:30 leave on the same day."
BUDGET = 50_000


def stopped_at(visit: Visit, chat: Chat, kind: str, ask_id: str) -> str:
    """Asks, and stops once the provider has the next request of the kind; how the answer ended."""
    before = chat.provider.counts.requests[kind]
    visit.ask("When do they leave?", ask_id)
    wait_until(lambda: chat.provider.counts.requests[kind] > before)
    visit.send({"type": "stop", "id": ask_id})
    return str(visit.answer()[-1]["finish_reason"])


def used(chat: Chat, bot: TestBot) -> Sequence[Any]:
    """(purpose, calls) of the bot's ledger; nothing may still be set aside."""
    assert chat.rows("SELECT tokens FROM budget_reservations WHERE bot_id = %s", bot.bot_id) == []
    query = "SELECT purpose, calls FROM usage_days WHERE bot_id = %s AND prompt_tokens > 0 ORDER BY purpose"
    return chat.rows(query, bot.bot_id)


@pytest.mark.parametrize("budget", [BUDGET, None])
def test_a_stop_while_the_question_is_embedded_is_paid(chat: Chat, budget: int | None) -> None:
    # Without a budget it is embedded before it is known whose answer this is.
    bot = chat.add_bot(PARCELS, daily_token_budget=budget, answer_cache=False)
    chat.provider.controls.latency_ms = 1_000
    with chat.visit(bot) as visit:
        assert stopped_at(visit, chat, "embeddings", "q1") == "stopped"
        assert used(chat, bot) == [("query", 1)]


def test_a_stop_while_a_follow_up_is_rewritten_is_paid(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, daily_token_budget=BUDGET)
    with chat.visit(bot) as visit:
        assert visit.asked("When do parcels leave?")[-1]["type"] == "done"
        assert used(chat, bot) == [("chat", 1), ("query", 1)]
        chat.provider.controls.latency_ms = 1_000
        assert stopped_at(visit, chat, "chat", "q2") == "stopped"
        assert used(chat, bot) == [("chat", 1), ("query", 2), ("rewrite", 1)]


def test_what_is_not_broken_off_is_paid_once(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, daily_token_budget=BUDGET)
    with chat.visit(bot) as visit:
        visit.asked("When do parcels leave?")
        visit.asked("And when do they come?", "q2")
        # The follow-up is embedded as it was asked, and as it was rewritten.
        assert used(chat, bot) == [("chat", 2), ("query", 3), ("rewrite", 1)]


def test_what_the_provider_fails_at_is_not_paid(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, daily_token_budget=BUDGET)
    chat.provider.fail(400)
    with chat.visit(bot) as visit:
        assert visit.asked()[-1]["type"] == "error"
        assert used(chat, bot) == []
