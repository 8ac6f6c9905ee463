"""POST /api/search: what it shows of each passage, who may ask, what is refused, what it costs."""

import json
from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import httpx2
import pytest

from tests.chat_api.chat_world import Chat, TestBot, wait_until
from tests.chat_api.forge import MISSING

Row = dict[str, Any]
OWNER = {"scope": "training:read", "sub": "owner"}


@pytest.fixture
def http(chat: Chat) -> Iterator[httpx2.Client]:
    """A client of the deployment."""
    with httpx2.Client(
        base_url=chat.ws_url.replace("ws", "http", 1).removesuffix("/api/chat/ws"), trust_env=False
    ) as http:
        yield http


def post(
    http: httpx2.Client, bot: TestBot, query: object = "Where?", *, k: object = 10, **claims: object
) -> httpx2.Response:
    """The answer to a search in the bot; `bot_id` among the claims is the token's."""
    body = {"bot_id": str(bot.bot_id), "query": query, "k": k}
    return http.post("/api/search", json=body, headers={"Authorization": f"Bearer {bot.token(**claims)}"})


def passages(http: httpx2.Client, bot: TestBot, query: str, **claims: Any) -> list[Row]:
    """The passages that are found."""
    answer = post(http, bot, query, **claims)
    assert answer.status_code == 200, answer.text
    return cast(list[Row], answer.json()["passages"])


def with_words(http: httpx2.Client, bot: TestBot, query: str, **claims: Any) -> list[Row]:
    """The passages, once the bot's words are loaded."""
    wait_until(lambda: any(one["lexical_rank"] for one in passages(http, bot, query, **claims)))
    return passages(http, bot, query, **claims)


def test_each_passage_says_how_it_was_found(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot(similarity_threshold=0.5, retrieval_k=1)
    source = chat.teach(
        bot, ["The lid rope is part OK-6407.", "Rope of another kind.", "We open at nine."], url="https://a.test/x"
    )
    found = with_words(http, bot, "lid rope OK-6407")
    assert set(found[0]) == {
        "chunk_id", "document_id", "source_id", "title", "url", "page", "heading", "text", "score", "vector_rank",
        "lexical_rank", "taken", "reason",
    }  # fmt: skip
    first, *others = found
    assert (first["text"], first["source_id"], first["url"]) == (
        "The lid rope is part OK-6407.",
        str(source),
        "https://a.test/x",
    )
    assert (first["vector_rank"], first["lexical_rank"], first["taken"], first["reason"]) == (1, 1, True, "taken")
    assert len(others) == 2, "the threshold cuts nothing"
    assert not any(one["taken"] for one in others)
    assert {one["reason"] for one in others} <= {"below_threshold", "beyond_k"}
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert len(passages(http, bot, "lid rope", k=2)) == 2


def test_a_code_is_found_where_similarity_does_not_reach(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot(*(f"Parcel number {number} of the shop." for number in range(60)), "Replace it with ZX-9.")
    chat.rows(
        "UPDATE embeddings SET vector = (SELECT ('[' || repeat('0,', 63) || '1]')::halfvec) FROM chunks"
        " WHERE chunks.chunk_id = embeddings.chunk_id AND text = 'Replace it with ZX-9.' AND chunks.bot_id = %s",
        bot.bot_id,
    )
    first, *_ = with_words(http, bot, "zx9")
    assert first["text"] == "Replace it with ZX-9."
    assert (first["lexical_rank"], first["taken"]) == (1, True)


def test_both_scopes_may_search_and_no_other(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot("The kettle boils.")
    assert passages(http, bot, "kettle")
    assert passages(http, bot, "kettle", **OWNER)
    assert passages(http, bot, "kettle", **OWNER, bot_id=MISSING)
    assert post(http, bot, scope="usage:read").json()["code"] == "missing_scope"
    assert post(http, bot, bot_id=MISSING).json()["code"] == "forbidden_bot", "a visitor's token is for one bot"
    assert http.post("/api/search", json={}).status_code == 401


def test_another_tenants_bot_is_unknown_and_another_bot_forbidden(chat: Chat, http: httpx2.Client) -> None:
    bot, theirs = chat.add_bot("Mine."), chat.add_bot("Theirs, kettle.")
    sibling = chat.add_bot("A sibling's kettle.", org_id=bot.org_id)
    mine = {"org_id": str(bot.org_id), "bot_id": str(bot.bot_id)}
    for stranger in (theirs, TestBot(bot.org_id, uuid4())):
        answer = post(http, stranger, **mine, **OWNER)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_bot")
    assert post(http, sibling, **mine).json()["code"] == "forbidden_bot"
    assert [one["text"] for one in passages(http, bot, "kettle")] == ["Mine."]


@pytest.mark.parametrize(
    ("query", "k"), [("", 10), ("  ", 10), ("a\0b", 10), ("x" * 4001, 10), (7, 10), ("a", 0), ("a", 51), ("a", "many")]
)
def test_what_is_no_search_is_refused(chat: Chat, http: httpx2.Client, query: object, k: object) -> None:
    answer = post(http, TestBot(uuid4(), uuid4()), query, k=k)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_bot_without_passages_has_none(chat: Chat, http: httpx2.Client) -> None:
    assert passages(http, chat.add_bot(), "anything") == []


def test_a_page_that_may_not_use_the_bot_may_not_search(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot("The kettle boils.", origins=["https://shop.test"])
    body = {"bot_id": str(bot.bot_id), "query": "kettle"}
    for origin, status in (("https://shop.test", 200), ("https://evil.test", 403)):
        headers = {"Authorization": f"Bearer {bot.token()}", "Origin": origin}
        assert http.post("/api/search", json=body, headers=headers).status_code == status


def test_searches_count_as_messages(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot("The kettle boils.")
    chat.dashboard("UPDATE orgs SET limits = %s WHERE id = %s", json.dumps({"messages_per_minute": 2}), bot.org_id)
    answers = [post(http, bot) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_a_search_is_paid_from_the_bots_budget(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot("The kettle boils.", daily_token_budget=20)
    query = "w" * 40  # about ten tokens
    statuses = []

    def refused() -> bool:
        statuses.append(post(http, bot, query).status_code)
        return statuses[-1] == 429

    wait_until(refused)
    assert statuses == [200, 200, 429]
    assert used(chat, bot) == [("query", 2, 20)]
    assert chat.rows("SELECT 1 FROM budget_reservations WHERE bot_id = %s", bot.bot_id) == []


def test_a_provider_that_is_away_is_said(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot("The kettle boils.", daily_token_budget=1000)
    chat.provider.fail(400, times=9)
    visitor, owner = post(http, bot), post(http, bot, **OWNER)
    assert visitor.json()["code"] == "provider_rejected", "what is wrong inside is not for visitors"
    assert owner.json()["code"] == "embedding_rejected"
    assert chat.rows("SELECT 1 FROM budget_reservations WHERE bot_id = %s", bot.bot_id) == []


def test_a_search_that_the_database_fails_is_settled_too(chat: Chat, http: httpx2.Client) -> None:
    bot = chat.add_bot("The kettle boils.", daily_token_budget=1000)
    chat.rows(
        "CREATE FUNCTION away() RETURNS boolean LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'away' USING ERRCODE = '57P03'; END $$"
    )
    chat.rows("CREATE POLICY away ON embeddings AS RESTRICTIVE USING (away())")
    try:
        assert post(http, bot, "w" * 40).status_code == 503
    finally:
        chat.rows("DROP POLICY away ON embeddings")
    assert used(chat, bot) == [("query", 1, 10)]
    assert chat.rows("SELECT 1 FROM budget_reservations WHERE bot_id = %s", bot.bot_id) == []
    assert post(http, bot).status_code == 200


def used(chat: Chat, bot: TestBot) -> list[tuple[str, int, int]]:
    """(purpose, calls, tokens) of the bot's usage."""
    return chat.rows("SELECT purpose, calls, prompt_tokens FROM usage_days WHERE bot_id = %s", bot.bot_id)
