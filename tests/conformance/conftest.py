"""The server that the kit is run against here: our own, with the loopback provider behind it."""

import pytest

from tests.chat_api.chat.conftest import _running, chat, chat_provider, chat_settings
from tests.chat_api.chat_world import Chat
from tests.chat_api.conftest import key_file
from tests.conformance.target import Target

__all__ = ["_running", "chat", "chat_provider", "chat_settings", "key_file"]


@pytest.fixture
def target(chat: Chat) -> Target:
    """Our own server, with a bot that knows when parcels leave."""
    bot = chat.add_bot("Parcels ordered by 11:30 leave on the same day.")

    def make_token(subject: str = "visitor-1", scope: str = "chat") -> str:
        return bot.token(sub=subject, scope=scope)

    return Target(chat.ws_url, make_token)
