"""The chat's REST routes under test: calls with any token, and conversations written by SQL."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import httpx2

from tests.chat_api.chat_world import Chat, TestBot
from tests.chat_api.forge import MISSING, Forge

Row = dict[str, Any]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = {"scope": "conversations:read", "sub": "owner"}
"""Claims of a token that may read all of its bot."""


def org_token(bot: TestBot, scope: str = "conversations:read") -> str:
    """A token of the bot's org that is for no bot."""
    return Forge().token(org_id=str(bot.org_id), bot_id=MISSING, scope=scope, sub="owner")


@dataclass
class Rest:
    """The deployment, by its REST routes."""

    chat: Chat
    http: httpx2.Client
    _minutes: int = field(default=0)

    def call(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx2.Response:
        """One request."""
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **options)

    def get(self, path: str, bot: TestBot, **claims: object) -> Row:
        """What a route answers with 200 to a visitor of the bot, or whoever the claims say."""
        answer = self.call("GET", path, bot.token(**claims))
        assert answer.status_code == 200, answer.text
        return cast(Row, answer.json())

    def pages(self, path: str, name: str, bot: TestBot, limit: int, **claims: object) -> list[Row]:
        """All items of a list, read in pages of that size."""
        found: list[Row] = []
        cursor = ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}", bot, **claims)
            assert len(page[name]) <= limit
            found += page[name]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def add_turn(
        self, bot: TestBot, question: str = "Why?", *, conversation_id: UUID | None = None, visitor: str = "visitor-1",
        at: datetime | None = None, **columns: Any,
    ) -> tuple[UUID, UUID]:  # fmt: skip
        """A turn on record, later than all before unless `at` says when; its conversation's id and its own."""
        self._minutes += 1
        at = at or LONG_AGO + timedelta(minutes=self._minutes)
        conversation_id, message_id = conversation_id or uuid4(), uuid4()
        key = [bot.org_id, bot.bot_id]
        self.chat.rows("INSERT INTO bots (org_id, bot_id, name) VALUES (%s, %s, 'Robin') ON CONFLICT DO NOTHING", *key)
        self.chat.rows(
            "INSERT INTO conversations (org_id, bot_id, conversation_id, visitor, created_at, last_turn_at)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (org_id, bot_id, conversation_id) DO UPDATE"
            " SET last_turn_at = excluded.last_turn_at",
            *[*key, conversation_id, visitor, at, at],
        )
        turn = {"answer": "Because.", "finish_reason": "stop", "ask_id": str(message_id), **columns}
        names = ["org_id", "bot_id", "message_id", "conversation_id", "question", "created_at", *turn]
        values = [json.dumps(value) if isinstance(value, list) else value for value in turn.values()]
        self.chat.rows(
            f"INSERT INTO turns ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})",
            *[*key, message_id, conversation_id, question, at, *values],
        )
        return conversation_id, message_id


@contextmanager
def rest_of(chat: Chat) -> Iterator[Rest]:
    """The REST routes of a deployment."""
    address = chat.ws_url.replace("ws://", "http://").removesuffix("/api/chat/ws")
    with httpx2.Client(base_url=address, timeout=20, trust_env=False) as http:
        yield Rest(chat, http)
