"""The chat database's other half: conversations, their turns, and the frames of answers in flight or given lately."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, SmallInteger, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.core.models.chat import ChatBase


class Conversation(ChatBase):
    """A visitor's conversation with a bot."""

    __tablename__ = "conversations"
    __table_args__ = (
        Index("conversations_visitor", "org_id", "bot_id", "visitor", "last_turn_at"),
        Index("conversations_latest", "org_id", "bot_id", "last_turn_at", "conversation_id"),
    )

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
        Index(
            "turns_unanswered",
            *("org_id", "bot_id", "created_at"),
            postgresql_where=text("finish_reason = 'no_answer' AND error_code IS NULL"),
        ),
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


class Answer(ChatBase):
    """An answer in flight, or of the last hours: who makes it (a lease), and what is needed to make it anew.

    It is made by whoever is its `holder`, a fence too: frames are kept for the holder alone. A lease that is over,
    with the answer still `streaming`, may be taken by any replica.
    """

    __tablename__ = "answers"
    __table_args__ = (
        Index("answers_created", "org_id", "created_at"),
        Index("answers_streaming", "org_id", "bot_id", "visitor", postgresql_where=text("state = 'streaming'")),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(primary_key=True)
    ask_id: Mapped[str] = mapped_column(primary_key=True)
    visitor: Mapped[str]
    question: Mapped[str]
    page_url: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="streaming")
    """`streaming`; `done` and `failed` once its last frame is kept."""
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    """How often it was begun."""
    holder: Mapped[UUID]
    expires_at: Mapped[datetime]
    """When the lease is over, unless it is renewed."""
    followed_at: Mapped[datetime | None]
    """When another replica last passed its frames on to the visitor."""
    stop_requested: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AnswerFrames(ChatBase):
    """The frames `first_seq` to `last_seq` of an answer as they were sent, one JSON text a line."""

    __tablename__ = "answer_frames"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "bot_id", "conversation_id", "ask_id"],
            ["answers.org_id", "answers.bot_id", "answers.conversation_id", "answers.ask_id"],
            ondelete="CASCADE",
        ),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(primary_key=True)
    ask_id: Mapped[str] = mapped_column(primary_key=True)
    first_seq: Mapped[int] = mapped_column(primary_key=True)
    last_seq: Mapped[int]
    frames: Mapped[str]
