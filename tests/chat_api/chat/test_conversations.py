"""Conversations read again: whose are shown to whom, in which order, page by page."""

from uuid import UUID, uuid4

import pytest

from tests.chat_api.chat.rest_world import LONG_AGO, OWNER, Rest, Row, org_token
from tests.chat_api.chat_world import TestBot

pytestmark = pytest.mark.stack

LIST = "/api/chat/conversations"
BOTH = {"scope": "chat conversations:read"}


def ids(conversations: list[dict[str, str]]) -> list[UUID]:
    return [UUID(one["conversation_id"]) for one in conversations]


def test_a_visitor_sees_their_own_the_latest_first(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    first, _ = rest.add_turn(bot, "What is " + "x" * 300)
    second, _ = rest.add_turn(bot)
    rest.add_turn(bot, "And then?", conversation_id=first)
    rest.add_turn(bot, visitor="visitor-2")
    page = rest.get(LIST, bot)
    assert page["next_cursor"] is None
    assert ids(page["conversations"]) == [first, second]
    shown = page["conversations"][0]
    assert shown == {
        **{"conversation_id": str(first), "bot_id": str(bot.bot_id), "visitor": "visitor-1", "messages": 2},
        **{"title": "What is " + "x" * 192},
        **{"created_at": "2026-01-01T00:01:00Z", "last_turn_at": "2026-01-01T00:03:00Z"},
    }
    assert rest.get(f"{LIST}/{first}", bot) == shown


def test_an_owner_sees_the_whole_bot(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    mine, _ = rest.add_turn(bot)
    theirs, _ = rest.add_turn(bot, visitor="visitor-2")
    siblings, _ = rest.add_turn(sibling, visitor="visitor-3")
    rest.add_turn(rest.chat.add_bot())
    assert ids(rest.get(LIST, bot, **OWNER)["conversations"]) == [theirs, mine]
    assert ids(rest.get(LIST, sibling, **OWNER)["conversations"]) == [siblings]
    whole = rest.call("GET", LIST, org_token(bot)).json()["conversations"]
    assert ids(whole) == [siblings, theirs, mine]
    of_one = rest.call("GET", f"{LIST}?bot_id={bot.bot_id}", org_token(bot)).json()["conversations"]
    assert ids(of_one) == [theirs, mine]


def test_a_token_with_both_scopes_shows_the_own_ones_unless_the_bot_is_named(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    mine, _ = rest.add_turn(bot)
    theirs, _ = rest.add_turn(bot, visitor="visitor-2")
    assert ids(rest.get(LIST, bot, **BOTH)["conversations"]) == [mine]
    assert ids(rest.get(f"{LIST}?bot_id={bot.bot_id}", bot, **BOTH)["conversations"]) == [theirs, mine]
    assert ids(rest.get(f"{LIST}?bot_id={bot.bot_id}", bot)["conversations"]) == [mine], "a visitor stays one"
    assert rest.call("GET", f"{LIST}/{theirs}", bot.token(**BOTH)).status_code == 404
    assert rest.call("GET", f"{LIST}/{theirs}?bot_id={bot.bot_id}", bot.token(**BOTH)).status_code == 200


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_conversations_come_in_pages(rest: Rest, limit: int) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    added = [rest.add_turn((bot, sibling)[number % 2])[0] for number in range(5)]
    # At the same moment, and the same id with both bots: nothing is left out or comes twice.
    shared = uuid4()
    for one in (bot, sibling, bot, sibling):
        rest.add_turn(one, conversation_id=shared, at=LONG_AGO)
    headers = {"Authorization": f"Bearer {org_token(bot)}"}
    found: list[UUID] = []
    cursor = ""
    while True:
        page = rest.http.get(f"{LIST}?limit={limit}{cursor}", headers=headers).json()
        found += ids(page["conversations"])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [*reversed(added), shared, shared]


def test_messages_are_shown_the_oldest_first_with_all_that_was_kept(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    source = {"n": 1, "title": "Delivery", "url": None}
    conversation_id, first = rest.add_turn(
        bot, "When?", answer="Now. [1]", ask_id="q1", sources=[source], page_url="https://shop.example/",
        unsupported=[{"start": 0, "end": 4}], prompt_tokens=7, completion_tokens=3, model="gpt", feedback="up",
    )  # fmt: skip
    _, second = rest.add_turn(
        bot, "Where?", conversation_id=conversation_id, answer="", finish_reason="error", error_code="internal"
    )
    path = f"{LIST}/{conversation_id}/messages"
    page = rest.get(path, bot)
    assert [one["message_id"] for one in page["messages"]] == [str(first), str(second)]
    assert page["messages"][0] == {
        **{"message_id": str(first), "id": "q1", "question": "When?", "answer": "Now. [1]", "finish_reason": "stop"},
        **{"page_url": "https://shop.example/", "sources": [source], "citations": [], "feedback": "up"},
        **{"unsupported": [{"start": 0, "end": 4}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
        **{"feedback_comment": None, "model": None, "error_code": None, "created_at": "2026-01-01T00:01:00Z"},
    }
    of_owner = rest.get(path, bot, **OWNER)["messages"]
    assert (of_owner[0]["model"], of_owner[1]["error_code"]) == ("gpt", "internal")
    assert page["messages"][1]["error_code"] is None, "what went wrong inside is not for visitors"


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_messages_come_in_pages(rest: Rest, limit: int) -> None:
    bot = rest.chat.add_bot()
    conversation_id, first = rest.add_turn(bot)
    added = [first, *(rest.add_turn(bot, conversation_id=conversation_id)[1] for _ in range(5))]
    rest.add_turn(bot)
    path = f"{LIST}/{conversation_id}/messages"
    assert [UUID(one["message_id"]) for one in rest.pages(path, "messages", bot, limit)] == added


@pytest.mark.parametrize("suffix", ["", "/messages"])
def test_what_is_not_the_tokens_is_not_there(rest: Rest, suffix: str) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    stranger = rest.chat.add_bot()
    theirs, _ = rest.add_turn(bot, visitor="visitor-2")
    mine, _ = rest.add_turn(bot)

    def status(conversation_id: object, of: TestBot, **claims: object) -> tuple[int, str]:
        answer = rest.call("GET", f"{LIST}/{conversation_id}{suffix}", of.token(**claims))
        return answer.status_code, answer.json().get("code", "")

    assert status(mine, bot)[0] == 200
    for refused in (status(theirs, bot), status(uuid4(), bot), status(mine, stranger), status(mine, stranger, **OWNER)):
        assert refused == (404, "unknown_conversation")
    assert status(theirs, bot, **OWNER)[0] == 200
    assert status(mine, sibling, **OWNER) == (403, "forbidden_bot")
    assert status(mine, sibling) == (403, "forbidden_bot")
    assert status(theirs, sibling) == (404, "unknown_conversation")
    assert status("nonsense", bot)[0] == 422
    answer = rest.call("GET", f"{LIST}/{mine}{suffix}?bot_id={sibling.bot_id}", org_token(bot))
    assert answer.status_code == 404, "of the bot that was named"


def test_two_bots_may_hold_the_same_id(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    shared, _ = rest.add_turn(bot, "Of the first")
    rest.add_turn(sibling, "Of the second", conversation_id=shared)
    for one, title in ((bot, "Of the first"), (sibling, "Of the second")):
        assert rest.get(f"{LIST}/{shared}", one)["title"] == title
        (message,) = rest.get(f"{LIST}/{shared}/messages", one, **OWNER)["messages"]
        assert message["question"] == title
        named = rest.call("GET", f"{LIST}/{shared}?bot_id={one.bot_id}", org_token(bot)).json()
        assert named["title"] == title
    assert rest.call("GET", f"{LIST}/{shared}", org_token(bot)).json()["title"] == "Of the second", "the newest"


def test_a_bot_that_is_gone_is_not_talked_about(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    rest.add_turn(bot)
    rest.chat.dashboard("UPDATE bots SET deleted_at = now() WHERE id = %s", bot.bot_id)
    assert rest.call("GET", LIST, bot.token()).status_code == 403
    assert rest.call("GET", f"{LIST}?bot_id={bot.bot_id}", org_token(bot)).json()["code"] == "unknown_bot"


def test_nothing_was_said_yet(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    empty: Row = {"conversations": [], "next_cursor": None}
    assert rest.get(LIST, bot) == rest.get(LIST, bot, **OWNER) == rest.call("GET", LIST, org_token(bot)).json() == empty


@pytest.mark.parametrize("cursor", ["nonsense", "e30=", "WzFd", "é", "WyIyMDI2IiwgMSwgMV0=", "x" * 9_000])
def test_a_cursor_that_is_not_ours_is_refused(rest: Rest, cursor: str) -> None:
    bot = rest.chat.add_bot()
    conversation_id, _ = rest.add_turn(bot)
    for path in (LIST, f"{LIST}/{conversation_id}/messages"):
        answer = rest.call("GET", path, bot.token(), params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_answers_are_kept_by_no_cache(rest: Rest) -> None:
    answer = rest.call("GET", LIST, rest.chat.add_bot().token())
    assert answer.headers["cache-control"] == "no-store"
