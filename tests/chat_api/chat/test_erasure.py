"""Erasing a visitor: everything of theirs, nothing of anybody else's, however much there is and whatever they are called."""

from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chat_api.chat import erasure
from tests.chat_api.chat.rest_world import Rest, Row, org_token
from tests.chat_api.chat_world import TestBot

pytestmark = pytest.mark.stack

ERASER = {"scope": "conversations:erase", "sub": "owner"}
NOTHING = {"conversations": 0, "messages": 0}


def erase(rest: Rest, bot: TestBot, visitor: str) -> Row:
    answer = rest.call("DELETE", f"/api/visitors/{quote(visitor, safe='')}", bot.token(**ERASER))
    assert answer.status_code == 200, answer.text
    found: Row = answer.json()
    return found


def left(rest: Rest, bot: TestBot) -> list[tuple[str, int]]:
    """The bot's visitors that are still named, with their messages."""
    return rest.chat.rows(
        "SELECT visitor, count(message_id) FROM conversations LEFT JOIN turns USING (org_id, bot_id, conversation_id)"
        " WHERE org_id = %s AND bot_id = %s GROUP BY visitor ORDER BY visitor",
        *[bot.org_id, bot.bot_id],
    )


def add_frames(rest: Rest, bot: TestBot, visitor: str) -> UUID:
    """An answer whose frames can be resumed."""
    conversation_id = uuid4()
    key = [bot.org_id, bot.bot_id, conversation_id]
    rest.chat.rows(
        "INSERT INTO answers (org_id, bot_id, conversation_id, ask_id, visitor, question, holder, expires_at)"
        " VALUES (%s, %s, %s, 'q1', %s, 'Why?', %s, now())",
        *[*key, visitor, uuid4()],
    )
    rest.chat.rows(
        "INSERT INTO answer_frames (org_id, bot_id, conversation_id, ask_id, first_seq, last_seq, frames)"
        " VALUES (%s, %s, %s, 'q1', 1, 1, '{}')",
        *key,
    )
    return conversation_id


def test_all_of_a_visitor_and_nobody_else(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    stranger = rest.chat.add_bot()
    conversation_id, _ = rest.add_turn(bot)
    rest.add_turn(bot, conversation_id=conversation_id)
    for one in (bot, sibling, stranger):
        rest.add_turn(one)
        rest.add_turn(one, visitor="visitor-2")
    assert erase(rest, bot, "visitor-1") == {"conversations": 2, "messages": 3}
    assert left(rest, bot) == [("visitor-2", 1)]
    assert left(rest, sibling) == left(rest, stranger) == [("visitor-1", 1), ("visitor-2", 1)]
    assert erase(rest, bot, "visitor-1") == NOTHING


def test_of_the_whole_org_where_the_token_is_for_no_bot(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    for one in (bot, sibling):
        rest.add_turn(one)
    token = org_token(bot, "conversations:erase")
    assert rest.call("DELETE", f"/api/visitors/visitor-1?bot_id={sibling.bot_id}", token).json()["messages"] == 1
    assert left(rest, bot) == [("visitor-1", 1)]
    rest.add_turn(sibling)
    assert rest.call("DELETE", "/api/visitors/visitor-1", token).json() == {"conversations": 2, "messages": 2}
    assert left(rest, bot) == left(rest, sibling) == []


def test_frames_that_could_be_resumed_go_too(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    add_frames(rest, bot, "visitor-1")
    kept = add_frames(rest, bot, "visitor-2")
    assert erase(rest, bot, "visitor-1") == NOTHING
    for table in ("answers", "answer_frames"):
        assert rest.chat.rows(f"SELECT conversation_id FROM {table} WHERE bot_id = %s", bot.bot_id) == [(kept,)]


def test_a_long_history_is_erased_in_parts(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 3)
    monkeypatch.setattr(erasure, "TURNS_AT_ONCE", 5)
    bot = rest.chat.add_bot()
    for _ in range(7):
        conversation_id, _ = rest.add_turn(bot)
        for _ in range(3):
            rest.add_turn(bot, conversation_id=conversation_id)
        add_frames(rest, bot, "visitor-1")
    assert erase(rest, bot, "visitor-1") == {"conversations": 7, "messages": 28}
    assert left(rest, bot) == []
    assert rest.chat.rows("SELECT count(*) FROM answers WHERE bot_id = %s", bot.bot_id) == [(0,)]


@settings(
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(visitor=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=128))
def test_a_visitor_may_be_called_anything(rest: Rest, visitor: str) -> None:
    if visitor in {".", ".."}:
        return  # clients resolve these before they send them
    bot = rest.chat.add_bot()
    rest.add_turn(bot, visitor=visitor)
    rest.add_turn(bot, visitor=f"{visitor[:-1]}_" if visitor[-1] != "_" else "-")
    assert erase(rest, bot, visitor) == {"conversations": 1, "messages": 1}
    assert len(left(rest, bot)) == 1


@pytest.mark.parametrize(
    "visitor", ["a/b", "a%2Fb", "?", "#", "%", "a b", "ü", "'; DROP TABLE turns; --", "%00x", "a\nb", "a\n"]
)
def test_names_with_marks_are_taken_as_they_are(rest: Rest, visitor: str) -> None:
    bot = rest.chat.add_bot()
    rest.add_turn(bot, visitor=visitor)
    assert erase(rest, bot, visitor)["messages"] == 1


@pytest.mark.parametrize("path", ["", "x" * 129, "%00", "a%00b"])
def test_what_is_no_visitor_is_refused(rest: Rest, path: str) -> None:
    answer = rest.call("DELETE", f"/api/visitors/{path}", rest.chat.add_bot().token(**ERASER))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
