"""The handshake: four ways to bring the token, whose page may talk to the bot, and the codes of those turned away."""

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from chat_api.core.settings import Settings
from tests.chat_api.chat_world import Chat, TestBot, serving
from tests.chat_api.forge import MISSING, Forge
from tests.chat_api.forged_tokens import FORGED

pytestmark = pytest.mark.stack

SHOP = "https://shop.example"


def bearer(token: str) -> dict[str, str]:
    """The header that brings a token."""
    return {"Authorization": f"Bearer {token}"}


def test_a_server_brings_its_token_in_the_header(chat: Chat) -> None:
    bot = chat.add_bot(
        welcome_message="Hi!", sample_questions=["Open on Sunday?"], disclaimer="Machines err.", theme={"colour": "red"}
    )
    with chat.dial(headers=bearer(bot.token())) as visit:
        ready = visit.receive()
        assert visit.socket.subprotocol == "chat.v1"
    assert ready["bot"] == {
        "name": "Robin",
        "welcome_message": "Hi!",
        "sample_questions": ["Open on Sunday?"],
        "disclaimer": "Machines err.",
    }
    assert ready["conversation_id"]
    assert datetime.fromisoformat(ready["expires_at"]).tzinfo


def test_a_browser_brings_its_token_in_the_first_frame(chat: Chat) -> None:
    with chat.dial() as visit:
        visit.send({"type": "auth", "token": chat.add_bot().token()})
        assert visit.receive()["type"] == "ready"


def test_a_token_among_the_subprotocols_is_not_echoed(chat: Chat) -> None:
    bot = chat.add_bot()
    with chat.dial(protocols=["chat.v1", f"bearer.{bot.token()}"]) as visit:
        assert visit.receive()["type"] == "ready"
        assert visit.socket.subprotocol == "chat.v1"
        assert visit.socket.response is not None
        assert "bearer" not in str(visit.socket.response.headers)


@pytest.mark.parametrize("size", [8193, 12_000])
def test_a_token_that_is_too_long_is_refused_however_it_is_brought(chat: Chat, size: int) -> None:
    token = Forge().token(padding="x" * 6000).ljust(size, "x")
    for brought in ({"headers": bearer(token)}, {"protocols": ["chat.v1", f"bearer.{token}"]}):
        with chat.dial(**brought) as visit:
            assert visit.close_code() == 4401


def test_the_longest_token_is_read(chat: Chat) -> None:
    token = chat.add_bot().token(padding="x" * 5660)
    assert 8000 < len(token) <= 8192
    with chat.dial(headers=bearer(token)) as visit:
        assert visit.receive()["type"] == "ready"


def test_a_token_in_the_address_counts_only_where_it_is_allowed(chat: Chat, chat_settings: Settings) -> None:
    token = chat.add_bot().token()
    with chat.dial(query=f"?token={token}") as visit:
        visit.send({"type": "ping"})
        assert visit.close_code() == 4401
    with serving(chat_settings.model_copy(update={"ws_query_token": True})) as address:
        allowing = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        with allowing.dial(query=f"?token={token}") as visit:
            assert visit.receive()["type"] == "ready"
        with allowing.dial(query=f"?token={token}", headers=bearer(Forge().token())) as visit:
            assert visit.close_code() == 4401


def test_two_different_tokens_are_refused_and_the_same_twice_is_not(chat: Chat) -> None:
    bot = chat.add_bot()
    first, second = bot.token(), bot.token(sub="visitor-2")
    with chat.dial(headers=bearer(first), protocols=["chat.v1", f"bearer.{second}"]) as visit:
        assert visit.close_code() == 4401
    with chat.dial(protocols=["chat.v1", f"bearer.{first}", f"bearer.{second}"]) as visit:
        assert visit.close_code() == 4401
    with chat.dial(headers=bearer(first), protocols=["chat.v1", f"bearer.{first}"]) as visit:
        assert visit.receive()["type"] == "ready"


@pytest.mark.timeout(20)
def test_who_says_nothing_is_closed(chat: Chat) -> None:
    with chat.dial() as visit:
        assert visit.close_code() == 4408


@pytest.mark.parametrize(
    "frame", ['{"type":"ping"}', '{"type":"ask","id":"1","text":"hi"}', "nonsense", '{"type":"auth"}', b"bytes", "[]"]
)
def test_a_first_frame_that_brings_no_token_is_refused(chat: Chat, frame: str | bytes) -> None:
    with chat.dial() as visit:
        visit.send(frame)
        assert visit.close_code() == 4401


def test_a_first_frame_that_is_too_big_is_refused(chat: Chat) -> None:
    with chat.dial() as visit:
        visit.send("x" * 33_000)
        assert visit.close_code() == 1009


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(chat: Chat, name: str) -> None:
    with chat.dial() as visit:
        token = FORGED[name](Forge())
        visit.send({"type": "auth", "token": token})
        assert visit.close_code() == (1009 if len(token) > 32_000 else 4401)


DOORS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "header": (r"[!-~]+", lambda token: {"headers": bearer(token)}),
    "subprotocol": (r"[\w.-]+", lambda token: {"protocols": ["chat.v1", f"bearer.{token}"]}),
    "query": (r"(?s).+", lambda token: {"query": f"?token={quote(token, safe='')}"}),
}
"""How a token is brought before any frame: which ones can be, and how."""


@pytest.mark.parametrize("door", DOORS)
def test_a_forged_token_is_refused_at_every_door(chat: Chat, chat_settings: Settings, door: str) -> None:
    carried, brought = DOORS[door]
    forged = {name: make(Forge()) for name, make in FORGED.items()}
    sent = {
        name: token for name, token in forged.items() if re.fullmatch(carried, token, re.ASCII) and len(token) < 12_000
    }
    assert len(sent) > 200
    with serving(chat_settings.model_copy(update={"ws_query_token": True})) as address:
        allowing = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        codes = {}
        for name, token in sent.items():
            with allowing.dial(**brought(token)) as visit:
                codes[name] = visit.close_code()
    assert codes == dict.fromkeys(sent, 4401)


def test_what_a_token_does_not_allow_is_forbidden(chat: Chat) -> None:
    bot, other = chat.add_bot(), chat.add_bot()
    for token in [
        bot.token(scope="training:write"),
        bot.token(scope=MISSING),
        bot.token(bot_id=MISSING),
        bot.token(bot_id=str(other.bot_id)),
        bot.token(org_id=str(other.org_id)),
        Forge().token(scope="chat"),
    ]:
        with chat.dial(headers=bearer(token)) as visit:
            assert visit.close_code() == 4403


def test_a_deleted_bot_is_forbidden(chat: Chat) -> None:
    bot = chat.add_bot()
    chat.dashboard("UPDATE bots SET deleted_at = now() WHERE id = %s", bot.bot_id)
    with chat.dial(headers=bearer(bot.token())) as visit:
        assert visit.close_code() == 4403


@pytest.mark.parametrize("origin", [SHOP, "https://SHOP.example:443", "https://other.example:8443"])
def test_the_bots_own_pages_may_talk_to_it(chat: Chat, origin: str) -> None:
    bot = chat.add_bot(origins=["https://shop.example/", "https://other.example:8443"])
    with chat.dial(headers=bearer(bot.token()), origin=origin) as visit:
        assert visit.receive()["type"] == "ready"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://shop.example", "https://shop.example:444", "https://shop.example.evil.example",
     "https://sub.shop.example", "null", "https://shop.example@evil.example", "shop.example"],
)  # fmt: skip
def test_other_pages_may_not(chat: Chat, origin: str) -> None:
    bot = chat.add_bot(origins=[SHOP])
    with chat.dial(headers=bearer(bot.token()), origin=origin) as visit:
        assert visit.close_code() == 4403


def test_a_domain_with_an_umlaut_is_what_browsers_say_for_it(chat: Chat) -> None:
    bot = chat.add_bot(origins=["https://münchen.example"])
    with (
        capture_logs() as lines,
        chat.dial(headers=bearer(bot.token()), origin="https://xn--mnchen-3ya.example") as visit,
    ):
        assert visit.receive()["type"] == "ready"
    assert not [line for line in lines if line["event"] == "bot_config_has_bad_values"]


def test_an_origin_that_is_none_is_told_in_the_log_and_lets_nobody_in(chat: Chat) -> None:
    bot = chat.add_bot(origins=["https://ü..example"])
    with capture_logs() as lines, chat.dial(headers=bearer(bot.token()), origin="https://xn--tda.example") as visit:
        assert visit.close_code() == 4403
    [told] = [line for line in lines if line["event"] == "bot_config_has_bad_values"]
    assert (told["bot_id"], told["options"]) == (str(bot.bot_id), ["allowed_origins"])


@pytest.mark.parametrize("origins", ["ARRAY[NULL, 'https://shop.example']", "ARRAY[ARRAY['https://shop.example']]"])
def test_an_entry_that_is_no_text_lets_nobody_in_and_harms_nobody(chat: Chat, origins: str) -> None:
    bot = chat.add_bot("Tea is green.")
    chat.dashboard(f"UPDATE bots SET allowed_origins = {origins} WHERE id = %s", bot.bot_id)
    with chat.visit(bot) as server:
        assert server.asked()[-1]["finish_reason"] == "stop"
    with chat.dial(headers=bearer(bot.token()), origin="https://other.example") as visit:
        assert visit.close_code() == 4403
    with chat.dial(headers=bearer(bot.token()), origin=SHOP) as visit:
        assert (visit.close_code() == 4403) if "ARRAY[ARRAY" in origins else visit.receive()["type"] == "ready"


def test_a_bot_without_origins_is_open_in_development_alone(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot()
    with chat.visit(bot, origin=SHOP):
        pass
    with serving(chat_settings.model_copy(update={"app_env": "production"})) as address:
        strict = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        with strict.dial(headers=bearer(bot.token()), origin=SHOP) as visit:
            assert visit.close_code() == 4403
        with strict.visit(bot):
            pass


def test_a_token_can_be_bound_to_origins(chat: Chat) -> None:
    bot = chat.add_bot(origins=[SHOP, "https://other.example"])
    with chat.visit(bot, claims={"origins": [SHOP]}, origin=SHOP):
        pass
    bound = bearer(bot.token(origins=[SHOP]))
    with chat.dial(headers=bound, origin="https://other.example") as visit:
        assert visit.close_code() == 4403
    with chat.dial(headers=bound) as visit:
        assert visit.close_code() == 4403


def _ends_in(bot: TestBot, seconds: int, **claims: object) -> str:
    now = int(time.time())
    return bot.token(iat=now - 10, exp=now + seconds, **claims)


@pytest.mark.timeout(30)
def test_an_expired_token_ends_the_socket_unless_it_is_renewed(chat: Chat) -> None:
    bot = chat.add_bot()
    with (
        chat.dial(headers=bearer(_ends_in(bot, 2))) as expiring,
        chat.dial(headers=bearer(_ends_in(bot, 2))) as renewed,
    ):
        assert expiring.receive()["type"] == renewed.receive()["type"] == "ready"
        renewed.send({"type": "auth", "token": _ends_in(bot, 60)})
        assert renewed.receive()["type"] == "ready"
        assert expiring.close_code() == 4401
        time.sleep(1)
        renewed.send({"type": "ping"})
        assert renewed.receive() == {"type": "pong"}


def test_a_renewal_is_for_the_same_visitor(chat: Chat) -> None:
    bot = chat.add_bot()
    sibling = chat.add_bot(org_id=bot.org_id)
    for token in [bot.token(sub="visitor-2"), sibling.token(), bot.token(scope="training:read")]:
        with chat.visit(bot) as visit:
            visit.send({"type": "auth", "token": token})
            assert visit.close_code() == 4403
    with chat.visit(bot) as visit:
        visit.send({"type": "auth", "token": "a.b.c"})
        assert visit.close_code() == 4401


@pytest.mark.parametrize("origin", ["https://other.example", None])
def test_a_renewal_counts_from_its_origins_alone(chat: Chat, origin: str | None) -> None:
    bot = chat.add_bot(origins=[SHOP, "https://other.example"])
    with chat.visit(bot, origin=origin) as visit:
        visit.send({"type": "auth", "token": bot.token(origins=[SHOP])})
        assert visit.close_code() == 4403
    with chat.visit(bot, origin=SHOP) as visit:
        visit.send({"type": "auth", "token": bot.token(origins=[SHOP])})
        assert visit.receive()["type"] == "ready"
