"""Every REST route of the chat with every kind of token: what each may, and the same answers for what it may not."""

from uuid import uuid4

import httpx2
import pytest

from tests.chat_api.chat.rest_world import Rest
from tests.chat_api.chat_world import TestBot
from tests.chat_api.forge import MISSING, Forge

pytestmark = pytest.mark.stack

SCOPES = ("chat", "conversations:read", "conversations:erase", "usage:read", "training:read training:write", "")
ROUTES: dict[tuple[str, str], set[str]] = {
    ("GET", "/api/chat/conversations"): {"chat", "conversations:read"},
    ("GET", "/api/chat/conversations/{conversation_id}"): {"chat", "conversations:read"},
    ("GET", "/api/chat/conversations/{conversation_id}/messages"): {"chat", "conversations:read"},
    ("GET", "/api/chat/unanswered"): {"conversations:read"},
    ("POST", "/api/chat/messages"): {"chat"},
    ("POST", "/api/chat/messages/{message_id}/feedback"): {"chat"},
    ("GET", "/api/usage"): {"usage:read"},
    ("DELETE", "/api/visitors/visitor-9"): {"conversations:erase"},
}
LISTS = [path for method, path in ROUTES if method == "GET" and "{conversation_id}" not in path]
everywhere = pytest.mark.parametrize(("method", "path"), ROUTES)


class World:
    """A bot with a turn of `visitor-1`, and whoever calls."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self.bot = rest.chat.add_bot("Tea is green.")
        self.sibling = rest.chat.add_bot(org_id=self.bot.org_id)
        self.stranger = rest.chat.add_bot()
        self._conversation_id, self._message_id = rest.add_turn(self.bot)

    def call(self, method: str, path: str, token: str | None, query: str = "") -> httpx2.Response:
        """The route, with the ids of the bot's turn."""
        bodies = {
            "/api/chat/messages": {"id": str(uuid4()), "text": "Tea?"},
            "/api/chat/messages/{message_id}/feedback": {"value": "up"},
        }
        address = path.format(conversation_id=self._conversation_id, message_id=self._message_id)
        return self.rest.call(method, address + query, token, json=bodies.get(path))

    def refused(self, method: str, path: str, token: str | None, query: str = "") -> tuple[int, str]:
        """Status and code."""
        answer = self.call(method, path, token, query)
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        return answer.status_code, answer.json()["code"]


@pytest.fixture
def world(rest: Rest) -> World:
    """A bot with something to see."""
    return World(rest)


def unbound(bot: TestBot, scope: str) -> str:
    return Forge().token(org_id=str(bot.org_id), bot_id=MISSING, scope=scope, sub="visitor-1")


@everywhere
def test_without_a_good_token(world: World, method: str, path: str) -> None:
    bad = [None, "nonsense", Forge().token(exp=1_000, iat=900), Forge().token(alg="none") + "x"]
    answers = [world.call(method, path, token) for token in bad]
    assert {(one.status_code, one.content) for one in answers} == {(401, answers[0].content)}


@everywhere
def test_each_scope(world: World, method: str, path: str) -> None:
    for scope in SCOPES:
        token = world.bot.token(scope=scope)
        if scope in ROUTES[method, path]:
            assert world.call(method, path, token).status_code == 200, scope
        else:
            assert world.refused(method, path, token) == (403, "missing_scope"), scope


@everywhere
def test_another_bots_token(world: World, method: str, path: str) -> None:
    for scope in ROUTES[method, path]:
        token = world.sibling.token(scope=scope)
        if "{" in path:
            assert world.refused(method, path, token) == (403, "forbidden_bot")
        if method != "POST":
            assert world.refused(method, path, token, f"?bot_id={world.bot.bot_id}") == (403, "forbidden_bot")


@everywhere
def test_another_orgs_token(world: World, method: str, path: str) -> None:
    for scope in ROUTES[method, path]:
        bound = world.stranger.token(scope=scope)
        if "{" in path:
            assert world.refused(method, path, bound)[0] == 404
        for token in (bound, unbound(world.stranger, scope)) if method != "POST" else ():
            assert world.refused(method, path, token, f"?bot_id={world.bot.bot_id}") == (404, "unknown_bot")
            assert world.refused(method, path, token, f"?bot_id={uuid4()}") == (404, "unknown_bot")


@everywhere
def test_a_token_for_a_bot_of_another_org(world: World, method: str, path: str) -> None:
    for scope in ROUTES[method, path]:
        token = world.stranger.token(scope=scope, bot_id=str(world.bot.bot_id))
        assert world.refused(method, path, token) == (403, "forbidden_bot")


@everywhere
def test_a_token_for_no_bot(world: World, method: str, path: str) -> None:
    for scope in ROUTES[method, path]:
        token = unbound(world.bot, scope)
        if scope == "chat":
            assert world.refused(method, path, token) == (403, "forbidden_bot")
        else:
            assert world.call(method, path, token).status_code == 200


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "cursor=x", "bot_id=x"])
def test_bad_parameters(world: World, path: str, query: str) -> None:
    scope = min(ROUTES["GET", path])
    assert world.refused("GET", path, world.bot.token(scope=scope), f"?{query}") == (422, "invalid_request")


@pytest.mark.parametrize("path", [path for _, path in ROUTES if "{" in path])
def test_bad_and_unknown_ids(world: World, path: str) -> None:
    method = "POST" if "feedback" in path else "GET"
    for bad, status in (("x", 422), (f"{uuid4()}x", 422), (str(uuid4()), 404)):
        address = path.replace("{conversation_id}", bad).replace("{message_id}", bad)
        body = {"value": "up"} if method == "POST" else None
        assert world.rest.call(method, address, world.bot.token(), json=body).status_code == status
