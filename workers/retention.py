"""Removes conversations, and the frames of answers, that are older than they may be kept: one org at a time, unread."""

import time
from uuid import UUID

from sqlalchemy import Engine, text

from chat_api.core.database import of_org

EVERY_S = 3600.0
DUTY_S = 5.0
"""How long one sweep may collect; the next one goes on."""
AT_ONCE = 1_000

ORGS = text("SELECT DISTINCT org_id FROM bots")
OLD_ANSWERS = text("""
    WITH old AS MATERIALIZED (
        SELECT bot_id, conversation_id, ask_id FROM answers
        WHERE org_id = :org_id AND created_at < now() - make_interval(hours => :hours) LIMIT :limit
    )
    DELETE FROM answers USING old
    WHERE answers.org_id = :org_id AND answers.bot_id = old.bot_id
      AND answers.conversation_id = old.conversation_id AND answers.ask_id = old.ask_id
      AND created_at < now() - make_interval(hours => :hours)
""")
# A conversation that gets another turn in this moment stays, with that turn.
OLD_CONVERSATIONS = text("""
    WITH old AS MATERIALIZED (
        SELECT bots.bot_id, conversation.conversation_id FROM bots CROSS JOIN LATERAL (
            SELECT conversation_id FROM conversations
            WHERE org_id = :org_id AND bot_id = bots.bot_id AND last_turn_at < now() - make_interval(days => :days)
            LIMIT :limit
        ) AS conversation WHERE bots.org_id = :org_id LIMIT :limit
    ), forgotten AS (
        DELETE FROM turns USING old
        WHERE turns.org_id = :org_id AND turns.bot_id = old.bot_id AND turns.conversation_id = old.conversation_id
    )
    DELETE FROM conversations USING old
    WHERE conversations.org_id = :org_id AND conversations.bot_id = old.bot_id
      AND conversations.conversation_id = old.conversation_id
      AND last_turn_at < now() - make_interval(days => :days)
""")


class Retention:
    """Goes through all orgs once an hour, in batches, a few seconds at a time."""

    def __init__(self, engine: Engine, *, conversation_days: int, journal_hours: int, at_once: int = AT_ONCE) -> None:
        """`at_once`: rows that one transaction removes of an org's answers, and of its conversations."""
        self._engine, self._at_once = engine, at_once
        self._limits = {"days": conversation_days, "hours": journal_hours, "limit": at_once}
        self._due_at = time.monotonic()
        self._left: list[UUID] = []

    def collect(self) -> int:
        """Removes what is too old, for five seconds at most; how many answers and conversations."""
        until, removed = time.monotonic() + DUTY_S, 0
        if not self._left and time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + EVERY_S
            with self._engine.connect() as connection:
                self._left = list(connection.execute(ORGS).scalars())
        while self._left and time.monotonic() < until:
            batch = self._collect_of(self._left[-1])
            removed += sum(batch)
            if max(batch) < self._at_once:
                self._left.pop()
        return removed

    def _collect_of(self, org_id: UUID) -> tuple[int, int]:
        values = {"org_id": org_id, **self._limits}
        with of_org(self._engine, org_id).begin() as connection:
            answers, conversations = (connection.execute(old, values) for old in (OLD_ANSWERS, OLD_CONVERSATIONS))
        return answers.rowcount, conversations.rowcount
