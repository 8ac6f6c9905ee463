"""Questions without an answer, as the owner sees them: equal ones together, the most asked first."""

from typing import Any

import pytest

from tests.chat_api.chat.rest_world import OWNER, Rest, org_token
from tests.chat_api.chat_world import TestBot

pytestmark = pytest.mark.stack

PATH = "/api/chat/unanswered"


def unanswered(rest: Rest, bot: TestBot, *questions: str, **columns: Any) -> None:
    """Questions that got no answer, one after the other."""
    for question in questions:
        rest.add_turn(bot, question, **{"finish_reason": "no_answer", **columns})


def shown(rest: Rest, bot: TestBot) -> list[tuple[str, int]]:
    return [(one["question"], one["count"]) for one in rest.get(PATH, bot, **OWNER)["questions"]]


def test_equal_questions_are_one(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    unanswered(
        rest, bot, "Do you sell tea?", "Where are you?", "  do you\n SELL tea ", "ДОСТАВКА?", "«доставка»", "Tea"
    )
    unanswered(rest, bot, "Do you sell tea?!", visitor="visitor-2")
    assert shown(rest, bot) == [("Do you sell tea?!", 3), ("«доставка»", 2), ("Tea", 1), ("Where are you?", 1)]
    first = rest.get(PATH, bot, **OWNER)["questions"][0]
    assert first == {
        **{"bot_id": str(bot.bot_id), "question": "Do you sell tea?!", "count": 3},
        **{"first_asked_at": "2026-01-01T00:01:00Z", "last_asked_at": "2026-01-01T00:07:00Z"},
    }


def test_only_what_got_no_answer_counts(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    assert shown(rest, bot) == []
    unanswered(rest, bot, "Answered", finish_reason="stop")
    unanswered(rest, bot, "Failed", error_code="internal")
    unanswered(rest, bot, "Over budget", finish_reason="budget")
    assert shown(rest, bot) == []
    unanswered(rest, bot, "???")
    assert shown(rest, bot) == [("???", 1)]


def test_a_bots_or_the_whole_orgs(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    stranger = rest.chat.add_bot()
    unanswered(rest, bot, "Same?", "Same?")
    unanswered(rest, sibling, "Same?")
    unanswered(rest, stranger, "Same?")
    assert shown(rest, bot) == [("Same?", 2)]
    whole = rest.call("GET", PATH, org_token(bot)).json()["questions"]
    assert [(one["bot_id"], one["count"]) for one in whole] == [(str(bot.bot_id), 2), (str(sibling.bot_id), 1)]
    one = rest.call("GET", f"{PATH}?bot_id={sibling.bot_id}", org_token(bot)).json()["questions"]
    assert [(found["bot_id"], found["count"]) for found in one] == [(str(sibling.bot_id), 1)]
    assert rest.call("GET", f"{PATH}?bot_id={stranger.bot_id}", org_token(bot)).status_code == 404
    assert rest.call("GET", f"{PATH}?bot_id={sibling.bot_id}", bot.token(**OWNER)).status_code == 403


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_unanswered_questions_come_in_pages(rest: Rest, limit: int) -> None:
    bot = rest.chat.add_bot()
    for times, question in ((3, "a"), (1, "b"), (2, "c"), (1, "d"), (2, "e")):
        unanswered(rest, bot, *[question] * times)
    whole = rest.pages(PATH, "questions", bot, limit, **OWNER)
    assert [one["question"] for one in whole] == ["a", "e", "c", "d", "b"]


@pytest.mark.parametrize("query", ["cursor=e30=", "cursor=WzFd", "limit=0", "limit=501", "bot_id=x"])
def test_bad_parameters_are_refused(rest: Rest, query: str) -> None:
    answer = rest.call("GET", f"{PATH}?{query}", rest.chat.add_bot().token(**OWNER))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
