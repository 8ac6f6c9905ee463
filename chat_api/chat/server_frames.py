"""The frames that chat.v1's servers send: what its JSON Schema is made from, beside the clients' in client_frames.py."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chat_api.chat.client_frames import FrameId

Seq = Annotated[int, Field(ge=1)]
FinishReason = Literal["stop", "length", "stopped", "no_answer", "curated", "cached", "budget"]


class _ServerFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")


class About(_ServerFrame):
    """What a visitor is shown of a bot."""

    name: str
    welcome_message: str
    sample_questions: list[str]
    disclaimer: str


class Ready(_ServerFrame):
    """After authentication, and after each renewal of the token."""

    type: Literal["ready"]
    bot: About
    conversation_id: UUID
    expires_at: datetime


class Source(_ServerFrame):
    """A passage that the answer may cite as [n]."""

    n: Annotated[int, Field(ge=1)]
    source_id: UUID
    document_id: UUID
    chunk_id: UUID
    title: str | None
    url: str | None
    page: int | None
    heading: str | None
    snippet: str
    score: float


class Sources(_ServerFrame):
    """Begins an answer; a second one begins it again: what its client has of the text and the sources is void."""

    type: Literal["sources"]
    id: FrameId
    seq: Seq
    sources: list[Source]


class Delta(_ServerFrame):
    """The next piece of the text; an empty one stands for a frame that was lost."""

    type: Literal["delta"]
    id: FrameId
    seq: Seq
    text: str


class Usage(_ServerFrame):
    """Tokens of the model's call."""

    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]


class Span(_ServerFrame):
    """A sentence of the answer, by characters of its text."""

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]


class Done(_ServerFrame):
    """Ends an answer; `text` is the whole of it."""

    type: Literal["done"]
    id: FrameId
    seq: Seq
    message_id: UUID
    text: str
    citations: list[int]
    finish_reason: FinishReason
    usage: Usage
    unsupported: list[Span] = []
    sample_questions: list[str] = []


class Error(_ServerFrame):
    """Ends an answer where it has an `id`; without, a frame could not be taken."""

    type: Literal["error"]
    id: FrameId | None = None
    code: Literal[
        "bad_frame", "busy", "too_long", "rate_limited", "budget_exhausted", "provider_unavailable", "provider_rejected",
        "cannot_resume", "internal",
    ]  # fmt: skip
    message: str
    retry_after: float | None = None


class Pong(_ServerFrame):
    """Answers a ping."""

    type: Literal["pong"]


ServerFrame = Ready | Sources | Delta | Done | Error | Pong
