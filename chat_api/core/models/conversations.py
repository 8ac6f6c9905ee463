"""The chat database's other half: conversations and their turns."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.core.models.chat import ChatBase


class Conversation(ChatBase):
    """A visitor's conversation with a bot."""

    __tablename__ = "conversations"
    __table_args__ = (Index("conversations_visitor", "org_id", "bot_id", "visitor", "last_turn_at"),)

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(primary_key=True)
    visitor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_turn_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Turn(ChatBase):
    """A question and its answer, with the sources offered to the model, tokens and timings (milliseconds)."""

    __tablename__ = "turns"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "bot_id", "conversation_id"],
            ["conversations.org_id", "conversations.bot_id", "conversations.conversation_id"],
        ),
        UniqueConstraint("org_id", "bot_id", "conversation_id", "ask_id"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID]
    ask_id: Mapped[str]
    page_url: Mapped[str | None]
    question: Mapped[str]
    answer: Mapped[str]
    finish_reason: Mapped[str]
    sources: Mapped[list[dict[str, Any]]] = mapped_column(server_default="[]")
    citations: Mapped[list[int]] = mapped_column(server_default="{}")
    unsupported: Mapped[list[dict[str, Any]]] = mapped_column(server_default="[]")
    """`{start, end}` of each sentence of the answer that its citations do not say."""
    model: Mapped[str | None]
    prompt_tokens: Mapped[int] = mapped_column(server_default="0")
    completion_tokens: Mapped[int] = mapped_column(server_default="0")
    timings: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    error_code: Mapped[str | None]
    feedback: Mapped[str | None]
    feedback_comment: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
