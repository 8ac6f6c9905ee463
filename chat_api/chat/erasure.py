"""Erases a visitor: all that they asked and were answered, a bounded part in each transaction."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.core.database import TIME_LIMITS, AsyncEngines

AT_ONCE = 100
"""Conversations that one transaction holds."""
TURNS_AT_ONCE = 2_000


@dataclass(slots=True)
class Erased:
    """How much there was."""

    conversations: int = 0
    messages: int = 0


# A turn is recorded after its conversation's row was written: while that is held, none is added.
HOLD = text("""
    SELECT bot_id, conversation_id FROM conversations
    WHERE org_id = :org_id AND visitor = :visitor AND (CAST(:bot_id AS uuid) IS NULL OR bot_id = :bot_id)
    ORDER BY bot_id, conversation_id LIMIT :at_once FOR UPDATE
""")
HELD = """
    unnest(CAST(:bot_ids AS uuid[]), CAST(:conversation_ids AS uuid[])) AS held (bot_id, conversation_id)
"""
ERASE_TURNS = text(f"""
    DELETE FROM turns USING (
        SELECT turn.bot_id, turn.message_id FROM {HELD} JOIN turns AS turn USING (bot_id, conversation_id)
        WHERE turn.org_id = :org_id LIMIT :at_once
    ) AS chosen
    WHERE org_id = :org_id AND turns.bot_id = chosen.bot_id AND turns.message_id = chosen.message_id
""")  # noqa: S608  # a part of this module's own
ERASE_CONVERSATIONS = text(f"""
    DELETE FROM conversations USING {HELD}
    WHERE org_id = :org_id AND conversations.bot_id = held.bot_id
      AND conversations.conversation_id = held.conversation_id
""")  # noqa: S608

ERASE_ANSWERS = text("""
    DELETE FROM answers USING (
        SELECT bot_id, conversation_id, ask_id FROM answers
        WHERE org_id = :org_id AND visitor = :visitor AND (CAST(:bot_id AS uuid) IS NULL OR bot_id = :bot_id)
        LIMIT :at_once
    ) AS chosen
    WHERE org_id = :org_id AND answers.bot_id = chosen.bot_id
      AND answers.conversation_id = chosen.conversation_id AND answers.ask_id = chosen.ask_id
""")
"""Their frames go with them."""


async def erase_visitor(engines: AsyncEngines, org_id: UUID, bot_id: UUID | None, visitor: str) -> Erased:
    """Erases the visitor's conversations with one bot, or with all of the org's. What is gone stays gone if it breaks off.

    An answer in flight loses its lease, so that it is not recorded. Raises SQLAlchemyError.
    """
    erased = Erased()
    values = {"org_id": org_id, "bot_id": bot_id, "visitor": visitor}
    more = True
    while more:
        async with engines.tenant(org_id) as connection:
            await connection.exec_driver_sql(TIME_LIMITS)
            more = await _erase_answers(connection, values) or await _erase_some(connection, values, erased)
    return erased


async def _erase_answers(connection: AsyncConnection, values: dict[str, Any]) -> bool:
    """Erases frames that can be resumed, and answers in flight; whether there may be more."""
    return (await connection.execute(ERASE_ANSWERS, {**values, "at_once": AT_ONCE})).rowcount == AT_ONCE


async def _erase_some(connection: AsyncConnection, values: dict[str, Any], erased: Erased) -> bool:
    """Erases a part in the caller's transaction; False when there is nothing left."""
    held = (await connection.execute(HOLD, {**values, "at_once": AT_ONCE})).all()
    if not held:
        return False
    chosen = {
        "org_id": values["org_id"],
        "bot_ids": [row.bot_id for row in held],
        "conversation_ids": [row.conversation_id for row in held],
    }
    turns = (await connection.execute(ERASE_TURNS, {**chosen, "at_once": TURNS_AT_ONCE})).rowcount
    erased.messages += turns
    if turns < TURNS_AT_ONCE:
        erased.conversations += (await connection.execute(ERASE_CONVERSATIONS, chosen)).rowcount
    return True
