"""A change of keys under a running API: while tokens of both are sent without a pause, no good one is refused."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from chat_api.core.settings import Settings
from chat_api.keyring import RECHECK_S
from tests.chat_api.chat.rest_world import Rest, rest_of
from tests.chat_api.chat_world import Chat, TestBot, serving
from tests.chat_api.forge import Forge, private_key, public_pem

pytestmark = pytest.mark.stack

SEEN_S = RECHECK_S + 1
"""By then a change of the file has been seen, as long as tokens are sent."""


def token(bot: TestBot, key: str) -> str:
    """A visitor's token, signed by the key of that name."""
    claims = Forge().claims(org_id=str(bot.org_id), bot_id=str(bot.bot_id), scope="chat")
    return Forge().signed(json.dumps(claims).encode(), key=private_key(key))


def sent(door: Callable[[str], str], bot: TestBot, keys: Sequence[str], seconds: float) -> list[str]:
    """What became of tokens of these keys that were sent by turns for so long."""
    until, outcomes = time.monotonic() + seconds, []
    while time.monotonic() < until:
        outcomes += [door(token(bot, key)) for key in keys]
    return outcomes


def by_http(rest: Rest, given: str) -> str:
    """What is answered to a request with this token."""
    return str(rest.call("GET", "/api/chat/conversations", given).status_code)


def by_socket(chat: Chat, given: str) -> str:
    """What is said to a socket with this token."""
    with chat.dial(headers={"Authorization": f"Bearer {given}"}) as visit:
        try:
            return str(visit.receive()["type"])
        except ConnectionClosed as closed:
            return str(closed.rcvd and closed.rcvd.code)


def test_no_good_token_is_refused_while_keys_change(chat: Chat, chat_settings: Settings, tmp_path: Path) -> None:
    file, bot = tmp_path / "public.pem", chat.add_bot()
    old, new = (public_pem(private_key(name)) for name in ("old", "new"))
    file.write_bytes(old)
    with serving(chat_settings.model_copy(update={"jwt_public_key_path": str(file)})) as address:
        here = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        with rest_of(here) as rest, ThreadPoolExecutor() as threads:

            def outcomes(*keys: str, under: bytes, seconds: float = SEEN_S) -> set[str]:
                doors = (lambda given: by_http(rest, given)), (lambda given: by_socket(here, given))
                sending = [threads.submit(sent, door, bot, keys, seconds) for door in doors]
                file.write_bytes(under)  # in the midst of them
                return {outcome for one in sending for outcome in one.result()}

            with here.dial(headers={"Authorization": f"Bearer {token(bot, 'old')}"}) as visit:
                assert visit.receive()["type"] == "ready"
                assert outcomes("new", under=old, seconds=0.1) == {"401", "4401"}
                good = [
                    outcomes("old", under=old + new),
                    outcomes("old", "new", under=old + new, seconds=0.5),
                    outcomes("new", under=new),
                ]
                assert good == [{"200", "ready"}] * 3
                assert outcomes("old", under=new, seconds=0.1) == {"401", "4401"}
                visit.send({"type": "ping"})
                assert visit.receive() == {"type": "pong"}
