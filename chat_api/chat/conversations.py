"""Conversations as they are read again: a list of them, one of them, and what was said in it."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.auth import Principal, require_bot
from chat_api.chat.access import View
from chat_api.chat.server_frames import Usage
from chat_api.core.refusals import UnknownConversation
from chat_api.paging import cursor_at, place_of

TITLE_CHARS = 200
CONVERSATION_PLACE = TypeAdapter(tuple[AwareDatetime, UUID, UUID])
MESSAGE_PLACE = TypeAdapter(tuple[AwareDatetime, UUID])


class ConversationSummary(BaseModel):
    """A visitor's conversation with a bot; `title` is the beginning of its first question."""

    conversation_id: UUID
    bot_id: UUID
    visitor: str
    title: str
    messages: int
    created_at: datetime
    last_turn_at: datetime


class ConversationPage(BaseModel):
    """Conversations, the one that was last spoken in first."""

    conversations: list[ConversationSummary]
    next_cursor: str | None


class KeptMessage(BaseModel):
    """A question and its answer. `model` and `error_code` are the owner's to see, null for visitors."""

    message_id: UUID
    id: str
    question: str
    page_url: str | None
    answer: str
    finish_reason: str
    sources: list[dict[str, Any]]
    citations: list[int]
    unsupported: list[dict[str, Any]]
    usage: Usage
    feedback: Literal["up", "down"] | None
    feedback_comment: str | None
    model: str | None
    error_code: str | None
    created_at: datetime


class MessagePage(BaseModel):
    """What was said, the oldest first."""

    messages: list[KeptMessage]
    next_cursor: str | None


# By bot, so that each bot's newest come from its index; the conversations of a bot that is gone are not shown.
LISTED = text(f"""
    SELECT shown.*, coalesce(first.title, '') AS title,
           (SELECT count(*) FROM turns WHERE org_id = :org_id AND bot_id = shown.bot_id
            AND conversation_id = shown.conversation_id) AS messages
    FROM (
        SELECT found.* FROM bots AS bot CROSS JOIN LATERAL (
            SELECT conversation_id, bot_id, visitor, created_at, last_turn_at FROM conversations
            WHERE org_id = :org_id AND bot_id = bot.bot_id
              AND (CAST(:visitor AS text) IS NULL OR visitor = :visitor)
              AND (CAST(:only AS uuid) IS NULL OR conversation_id = :only)
              AND (CAST(:before AS timestamptz) IS NULL OR (last_turn_at, conversation_id, bot_id)
                   < (:before, CAST(:before_id AS uuid), CAST(:before_bot AS uuid)))
            ORDER BY last_turn_at DESC, conversation_id DESC LIMIT :limit
        ) AS found
        WHERE bot.org_id = :org_id AND bot.deleted_at IS NULL
          AND (CAST(:bot_id AS uuid) IS NULL OR bot.bot_id = :bot_id)
        ORDER BY found.last_turn_at DESC, found.conversation_id DESC, found.bot_id DESC LIMIT :limit
    ) AS shown
    LEFT JOIN LATERAL (
        SELECT left(question, {TITLE_CHARS}) AS title FROM turns
        WHERE org_id = :org_id AND bot_id = shown.bot_id AND conversation_id = shown.conversation_id
        ORDER BY turns.created_at, message_id LIMIT 1
    ) AS first ON true
    ORDER BY last_turn_at DESC, conversation_id DESC, bot_id DESC
""")  # noqa: S608  # a number of this module's own
MESSAGES = text("""
    SELECT message_id, ask_id AS id, question, page_url, answer, finish_reason, sources, citations, unsupported,
           prompt_tokens, completion_tokens, feedback, feedback_comment, model, error_code, created_at
    FROM turns
    WHERE org_id = :org_id AND bot_id = :bot_id AND conversation_id = :conversation_id
      AND (CAST(:after AS timestamptz) IS NULL OR (created_at, message_id) > (:after, CAST(:after_id AS uuid)))
    ORDER BY created_at, message_id LIMIT :limit
""")


async def list_conversations(
    connection: AsyncConnection, view: View, cursor: str | None, limit: int
) -> ConversationPage:
    """A page of the conversations in view. Raises InvalidRequest for a cursor that is not ours."""
    before, before_id, before_bot = place_of(cursor, CONVERSATION_PLACE) if cursor else (None, None, None)
    place = {"only": None, "before": before, "before_id": before_id, "before_bot": before_bot}
    rows = (await connection.execute(LISTED, {**view.values, **place, "limit": limit + 1})).all()
    found = [ConversationSummary.model_validate(row, from_attributes=True) for row in rows[:limit]]
    last = found[-1] if len(rows) > limit else None
    more = cursor_at(last.last_turn_at.isoformat(), last.conversation_id, last.bot_id) if last else None
    return ConversationPage(conversations=found, next_cursor=more)


async def find_conversation(
    connection: AsyncConnection, view: View, principal: Principal, conversation_id: UUID
) -> ConversationSummary:
    """One of the conversations in view. Ids are the visitors' own: where several bots have it, the newest.

    Raises UnknownConversation, also for another visitor's; ForbiddenBot for one of another bot than the token's.
    """
    place = {"only": conversation_id, "before": None, "before_id": None, "before_bot": None}
    for bot_id in dict.fromkeys((view.bot_id, None)):
        row = (await connection.execute(LISTED, {**view.values, **place, "bot_id": bot_id, "limit": 1})).one_or_none()
        if row is not None:
            require_bot(principal, row.bot_id)
            if view.bot_id in {None, row.bot_id}:
                return ConversationSummary.model_validate(row, from_attributes=True)
    raise UnknownConversation


async def list_messages(
    connection: AsyncConnection, view: View, conversation: ConversationSummary, cursor: str | None, limit: int
) -> MessagePage:
    """A page of what was said in a conversation. Raises InvalidRequest for a cursor that is not ours."""
    after, after_id = place_of(cursor, MESSAGE_PLACE) if cursor else (None, None)
    values = {"org_id": view.org_id, "bot_id": conversation.bot_id, "conversation_id": conversation.conversation_id}
    place = {"after": after, "after_id": after_id, "limit": limit + 1}
    rows = [row._asdict() for row in await connection.execute(MESSAGES, {**values, **place})]
    messages = [_message(row, for_owner=view.visitor is None) for row in rows[:limit]]
    last = messages[-1] if len(rows) > limit else None
    more = cursor_at(last.created_at.isoformat(), last.message_id) if last else None
    return MessagePage(messages=messages, next_cursor=more)


def _message(row: dict[str, Any], *, for_owner: bool) -> KeptMessage:
    owners = {} if for_owner else {"model": None, "error_code": None}
    usage = {name: row.pop(name) for name in Usage.model_fields}
    return KeptMessage.model_validate({**row, **owners, "usage": usage})
