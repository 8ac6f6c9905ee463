"""Conversations in the chat database: what was said so far, and each turn as it ends."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.chat.bot import Bot
from chat_api.chat.client_frames import Frame
from chat_api.chat.journal import CLOSED, IN_CONVERSATION, Hold
from chat_api.chat.prompt import PastTurn
from chat_api.core.database import DATABASE_DOWN, Rows, Said
from chat_api.core.refusals import UnknownConversation

RECORD_EVERY_S = 0.25
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TurnRecord:
    """A turn as it is kept, with its timings in milliseconds."""

    conversation_id: UUID
    ask_id: str
    question: str
    page_url: str | None = None
    message_id: UUID = field(default_factory=uuid4)
    answer: str = ""
    finish_reason: str = "stop"
    sources: list[Frame] = field(default_factory=list)
    citations: list[int] = field(default_factory=list)
    unsupported: list[Frame] = field(default_factory=list)
    """`{start, end}` of each sentence of the answer that its citations do not say."""
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a turn needs of its conversation: the turns before it, and its own record when it was answered already."""

    history: Sequence[PastTurn]
    answered: TurnRecord | None


# One trip: whose the conversation is, the turn that this question may have had, and the last ones worth remembering.
CONVERSATION = text("""
    SELECT conversation.visitor, turn.*
    FROM conversations AS conversation LEFT JOIN LATERAL (
        SELECT message_id, ask_id, page_url, question, answer, finish_reason, sources, citations, unsupported, model,
               prompt_tokens, completion_tokens
        FROM turns
        WHERE org_id = :org_id AND bot_id = :bot_id AND conversation_id = :conversation_id
          AND error_code IS NULL
          AND (ask_id = :ask_id OR (:turns > 0 AND answer <> '' AND finish_reason <> 'no_answer'))
        ORDER BY ask_id = :ask_id DESC, created_at DESC LIMIT greatest(:turns, 1)
    ) AS turn ON true
    WHERE org_id = :org_id AND bot_id = :bot_id AND conversation_id = :conversation_id
""")


def loading(bot: Bot, conversation_id: UUID, ask_id: str) -> Said:
    """Reads a conversation: for `conversation_of`."""
    key = {"org_id": bot.org_id, "bot_id": bot.bot_id, "conversation_id": conversation_id}
    return CONVERSATION, {**key, "ask_id": ask_id, "turns": bot.config.history_length}


def conversation_of(found: Rows, visitor: str, conversation_id: UUID, ask_id: str) -> Conversation:
    """The conversation so far; empty when it is new. Raises UnknownConversation when it is another visitor's.

    A turn that failed, or whose visitor was gone before its end, has no answer: it is neither history nor repeated.
    """
    rows = [row._asdict() for row in found]
    if any(row.pop("visitor") != visitor for row in rows):
        raise UnknownConversation
    answered = next((TurnRecord(conversation_id, **row) for row in rows if row["ask_id"] == ask_id), None)
    earlier = [row for row in rows if row["ask_id"] not in {ask_id, None}]
    return Conversation([PastTurn(row["question"], row["answer"]) for row in reversed(earlier)], answered)


# What another replica has taken over is that one's to record. A conversation is its first recorder's: when two visitors
# ask in one that is new, both may claim an answer before either is on record.
KEEP_CONVERSATION = text(f"""
    INSERT INTO conversations (org_id, bot_id, conversation_id, visitor)
    SELECT :org_id, :bot_id, :conversation_id, :visitor WHERE {CLOSED}
    ON CONFLICT (org_id, bot_id, conversation_id) DO UPDATE SET last_turn_at = now()
    WHERE conversations.visitor = excluded.visitor
""")
KEEP_TURN = text(f"""
    INSERT INTO turns (org_id, bot_id, message_id, conversation_id, ask_id, page_url, question, answer, finish_reason,
                       sources, citations, unsupported, model, prompt_tokens, completion_tokens, timings, error_code)
    SELECT :org_id, :bot_id, :message_id, :conversation_id, :ask_id, :page_url, :question, :answer, :finish_reason,
           CAST(:sources AS jsonb), CAST(:citations AS bigint[]), CAST(:unsupported AS jsonb), :model, :prompt_tokens,
           :completion_tokens, CAST(:timings AS jsonb), :error_code
    WHERE {CLOSED} AND EXISTS (SELECT FROM conversations WHERE {IN_CONVERSATION} AND conversations.visitor = :visitor)
    ON CONFLICT (org_id, bot_id, conversation_id, ask_id) DO UPDATE
    SET message_id = excluded.message_id, page_url = excluded.page_url, question = excluded.question,
        answer = excluded.answer, created_at = now(), finish_reason = excluded.finish_reason, feedback = NULL, feedback_comment = NULL,
        sources = excluded.sources, citations = excluded.citations, unsupported = excluded.unsupported,
        model = excluded.model,
        prompt_tokens = turns.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = turns.completion_tokens + excluded.completion_tokens,
        timings = excluded.timings, error_code = excluded.error_code
    WHERE turns.error_code IS NOT NULL
""")  # noqa: S608


def recording(bot: Bot, visitor: str, turn: TurnRecord, holder: UUID) -> tuple[Said, Said]:
    """Records a turn and its conversation, behind the holder's CLOSE; a failed turn gives way to its repetition.

    Nothing is recorded in a conversation that is another visitor's by then.
    """
    values: dict[str, Any] = {
        "org_id": bot.org_id,
        "bot_id": bot.bot_id,
        "visitor": visitor,
        "holder": holder,
        **{name: getattr(turn, name) for name in TurnRecord.__slots__},
        "sources": json.dumps(turn.sources),
        "unsupported": json.dumps(turn.unsupported),
        "timings": json.dumps({name: round(spent, 1) for name, spent in turn.timings.items()}),
    }
    return (KEEP_CONVERSATION, values), (KEEP_TURN, values)


async def record_at_end(
    hold: Hold, state: str, last: str | None, said: Sequence[Said], settling: Callable[[Hold | None], Said]
) -> None:
    """Closes an answer, records its turn as `said`, and settles: see `Hold.close` and `Budgets.settling`.

    A database that is away for a moment is asked again, as long as the caller waits. Raises SQLAlchemyError.
    """
    again = False
    while True:
        # What another replica has taken over is that one's to record; what was used is paid all the same, and once.
        try:
            await hold.close(state, last, *said, settling(hold if again else None), again=again)
        except DATABASE_DOWN as error:
            if not hold.claimed:
                raise
            log.warning("turn_recorded_again", error=type(error).__name__)
        else:
            return
        again = True
        await asyncio.sleep(RECORD_EVERY_S)


KEEP_FEEDBACK = text("""
    UPDATE turns SET feedback = :value, feedback_comment = :comment
    FROM conversations AS conversation
    WHERE turns.org_id = :org_id AND turns.bot_id = :bot_id AND message_id = :message_id
      AND conversation.org_id = turns.org_id AND conversation.bot_id = turns.bot_id
      AND conversation.conversation_id = turns.conversation_id AND conversation.visitor = :visitor
""")


async def keep_feedback(
    connection: AsyncConnection, bot: Bot, visitor: str, message_id: UUID, value: str, comment: str | None
) -> bool:
    """Records what the visitor thinks of an answer of theirs; False when there is no such answer."""
    values = {
        **{"org_id": bot.org_id, "bot_id": bot.bot_id, "visitor": visitor, "message_id": message_id},
        **{"value": value, "comment": comment},
    }
    return (await connection.execute(KEEP_FEEDBACK, values)).rowcount == 1


BOT_OF_ANSWER = text("""
    SELECT turn.bot_id
    FROM bots JOIN turns AS turn ON turn.org_id = bots.org_id AND turn.bot_id = bots.bot_id
    JOIN conversations AS conversation ON conversation.org_id = turn.org_id AND conversation.bot_id = turn.bot_id
         AND conversation.conversation_id = turn.conversation_id
    WHERE bots.org_id = :org_id AND turn.org_id = :org_id AND conversation.org_id = :org_id
      AND turn.message_id = :message_id AND conversation.visitor = :visitor
    LIMIT 1
""")


async def bot_of_answer(connection: AsyncConnection, org_id: UUID, visitor: str, message_id: UUID) -> UUID | None:
    """The bot of the org that gave the visitor this answer; None without one."""
    values = {"org_id": org_id, "visitor": visitor, "message_id": message_id}
    found: UUID | None = (await connection.execute(BOT_OF_ANSWER, values)).scalar_one_or_none()
    return found
