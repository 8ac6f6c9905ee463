"""Whose pages may read the chat's REST answers: the bot's own, in every answer, and nobody else's."""

import httpx2
import pytest

from chat_api.core.settings import Settings
from tests.chat_api.chat.rest_world import OWNER, Rest, org_token, rest_of
from tests.chat_api.chat_world import Chat, serving

pytestmark = pytest.mark.stack

SHOP, OTHER, DASHBOARD = "https://shop.example", "https://other.example", "https://dashboard.example"
LIST, ASK = "/api/chat/conversations", "/api/chat/messages"


def readers(answer: httpx2.Response) -> str | None:
    """The origin that may read an answer; which one depends on who asks, and no cookie is ever let through."""
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers
    return answer.headers.get("access-control-allow-origin")


def preflight(
    rest: Rest, path: str, origin: str, method: str = "POST", headers: str = "authorization"
) -> httpx2.Response:
    asking = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return rest.call("OPTIONS", path, headers=asking)


def test_a_page_of_the_bots_may_read_all_answers(rest: Rest) -> None:
    bot = rest.chat.add_bot("Tea is green.", origins=[SHOP])
    page = {"Origin": SHOP}
    body = {"id": "q1", "text": "Tea?"}
    whole = rest.call("POST", ASK, bot.token(), headers=page, json=body)
    events = rest.call("POST", ASK, bot.token(), headers={**page, "Accept": "text/event-stream"}, json=body)
    assert readers(whole) == readers(events) == SHOP
    assert "x-conversation-id" in events.headers["access-control-expose-headers"].lower()
    listed = rest.call("GET", LIST, bot.token(), headers=page)
    bad = rest.call("GET", f"{LIST}?limit=0", bot.token(), headers=page)
    unknown = rest.call("GET", f"{LIST}/{bot.bot_id}", bot.token(), headers=page)
    assert [one.status_code for one in (whole, events, listed, bad, unknown)] == [200, 200, 200, 422, 404]
    assert readers(listed) == readers(bad) == readers(unknown) == SHOP


def test_other_pages_may_not(rest: Rest) -> None:
    bot = rest.chat.add_bot(origins=[SHOP])
    for origin in (OTHER, f"{SHOP}.evil", "http://shop.example", f"{SHOP}:8443", "null", ""):
        answer = rest.call("GET", LIST, bot.token(), headers={"Origin": origin})
        assert (answer.status_code, readers(answer)) == (403, None), origin
    of_another = rest.chat.add_bot(origins=[OTHER], org_id=bot.org_id)
    assert readers(rest.call("GET", LIST, of_another.token(), headers={"Origin": SHOP})) is None
    assert readers(rest.call("GET", LIST, bot.token())) is None, "a server is no page"


def test_an_owner_is_answered_whatever_the_page_and_only_the_bots_page_may_read_it(rest: Rest) -> None:
    bot = rest.chat.add_bot(origins=[SHOP])
    for path in (LIST, "/api/chat/unanswered"):
        found = {
            origin: rest.call("GET", path, bot.token(**OWNER), headers={"Origin": origin})
            for origin in (SHOP, DASHBOARD)
        }
        assert [one.status_code for one in found.values()] == [200, 200]
        assert [readers(one) for one in found.values()] == [SHOP, None]
        bound = {**OWNER, "origins": [SHOP]}
        refused = rest.call("GET", path, bot.token(**bound), headers={"Origin": DASHBOARD})
        assert (refused.status_code, readers(refused)) == (403, None)
        assert rest.call("GET", path, bot.token(**bound)).status_code == 403
        whole = rest.call("GET", path, org_token(bot), headers={"Origin": SHOP})
        assert (whole.status_code, readers(whole)) == (200, None), "no bot, no page"


def test_a_page_learns_that_its_token_is_not_good(rest: Rest) -> None:
    for origin in (SHOP, OTHER):
        answer = rest.call("GET", LIST, "nonsense", headers={"Origin": origin})
        assert (answer.status_code, readers(answer)) == (401, origin)
    assert readers(rest.call("GET", LIST, "nonsense", headers={"Origin": "null"})) is None


@pytest.mark.parametrize("path", [LIST, ASK, f"{ASK}/x/feedback", "/api/chat/nothing"])
def test_a_preflight_may_be_asked_by_any_page(rest: Rest, path: str) -> None:
    for origin in (SHOP, OTHER, "http://localhost:3000"):
        answer = preflight(rest, path, origin, headers="authorization, content-type, x-request-id")
        assert (answer.status_code, readers(answer)) == (200, origin)
        assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert preflight(rest, path, "null").status_code == 400
    assert preflight(rest, path, SHOP, "DELETE").status_code == 400
    assert preflight(rest, path, SHOP, headers="x-secret").status_code == 400


def test_a_preflight_does_nothing_else(rest: Rest) -> None:
    bot = rest.chat.add_bot(origins=[SHOP])
    answer = rest.call(
        "OPTIONS", ASK, bot.token(), json={"id": "q1", "text": "Tea?"},
        headers={"Origin": SHOP, "Access-Control-Request-Method": "POST"},
    )  # fmt: skip
    assert answer.status_code == 200
    assert rest.chat.turns(bot) == []
    assert rest.call("OPTIONS", ASK, headers={"Origin": SHOP}).status_code == 405, "it is none"


def test_the_rest_is_the_operators(rest: Rest, chat_settings: Settings) -> None:
    bot = rest.chat.add_bot(origins=[SHOP])
    settings = Settings.model_validate({**chat_settings.model_dump(), "cors_origins": DASHBOARD})
    with (
        serving(settings) as address,
        rest_of(Chat(address, rest.chat.chat_dsn, rest.chat.dashboard_dsn, rest.chat.provider)) as operated,
    ):
        for method, path, scope in (
            ("GET", "/api/usage", "usage:read"),
            ("DELETE", "/api/visitors/nobody", "conversations:erase"),
        ):
            allowed = {
                origin: operated.call(method, path, bot.token(scope=scope), headers={"Origin": origin}).headers.get(
                    "access-control-allow-origin"
                )
                for origin in (SHOP, DASHBOARD)
            }
            assert allowed == {SHOP: None, DASHBOARD: DASHBOARD}
        chat = operated.call("GET", LIST, bot.token(**OWNER), headers={"Origin": DASHBOARD})
        assert readers(chat) is None


def test_an_empty_list_allows_no_page_in_production(rest: Rest, chat_settings: Settings) -> None:
    bot = rest.chat.add_bot()
    assert readers(rest.call("GET", LIST, bot.token(), headers={"Origin": SHOP})) == SHOP
    with (
        serving(chat_settings.model_copy(update={"app_env": "production"})) as address,
        rest_of(Chat(address, rest.chat.chat_dsn, rest.chat.dashboard_dsn, rest.chat.provider)) as production,
    ):
        refused = production.call("GET", LIST, bot.token(), headers={"Origin": SHOP})
        assert (refused.status_code, readers(refused)) == (403, None)
        of_owner = production.call("GET", LIST, bot.token(**OWNER), headers={"Origin": SHOP})
        assert (of_owner.status_code, readers(of_owner)) == (200, None)
