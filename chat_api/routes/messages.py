"""One turn without a WebSocket, answered as JSON or as Server-Sent Events; and what a visitor thinks of an answer."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from http import HTTPStatus
from typing import Annotated, Literal, NamedTuple, TypeVar
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from chat_api.auth import Principal
from chat_api.chat.access import admitted_bot
from chat_api.chat.answers import Answers
from chat_api.chat.bot import Bot
from chat_api.chat.budget import BudgetExhausted
from chat_api.chat.client_frames import Ask, Frame, Storable
from chat_api.chat.error_frames import for_visitors
from chat_api.chat.limits import RateLimited
from chat_api.chat.live import LiveAnswer
from chat_api.chat.record import bot_of_answer, keep_feedback
from chat_api.chat.server_frames import FinishReason, Source, Span, Usage
from chat_api.chat.services import ChatServices
from chat_api.core.errors import (
    DatabaseUnavailable,
    DependencyError,
    ProviderRejected,
    ProviderUnavailable,
    ServiceError,
)
from chat_api.core.refusals import ForbiddenBot, UnknownResource
from chat_api.deps import TokenFirst, no_store, require_scope
from chat_api.errors import PROBLEMS, problems
from chat_api.sse import EVENT_STREAM, EventStream, event

LONGEST_S = 600.0
CLIENT_GONE = 499
CONVERSATION_HEADER = "X-Conversation-ID"
Result = TypeVar("Result")

router = APIRouter(
    prefix="/api/chat",
    tags=["chat"],
    responses=PROBLEMS,
    dependencies=[Depends(no_store)],
    route_class=TokenFirst,
)


class UnknownMessage(UnknownResource):
    """There is no answer of yours with this message_id."""

    code = "unknown_message"


class Question(Ask):
    """A question, as the socket's `ask`. Sent again with the same `id` it gets the same answer, which is paid once.

    Without `conversation_id` it begins a conversation: the same one when the same question is sent again.
    """

    type: Literal["ask"] = "ask"


class WholeAnswer(BaseModel):
    """What the socket's `sources` and `done` frames say."""

    id: str
    conversation_id: UUID
    message_id: UUID
    text: str
    sources: list[Source]
    citations: list[int]
    finish_reason: FinishReason
    usage: Usage
    unsupported: list[Span] = []
    sample_questions: list[str] = []


class Opinion(BaseModel):
    """What the visitor thinks of an answer; the latest word counts."""

    value: Literal["up", "down"]
    comment: Annotated[str, StringConstraints(max_length=2_000), Storable] | None = Field(None)


class KeptOpinion(BaseModel):
    """What was kept."""

    message_id: UUID
    value: Literal["up", "down"]
    comment: str | None


class Visitor(NamedTuple):
    """Who asks, and whom."""

    principal: Principal
    bot: Bot


async def _visitor(request: Request, principal: Annotated[Principal, Depends(require_scope("chat"))]) -> Visitor:
    """The visitor, admitted as the socket admits. Raises ForbiddenBot, ForbiddenOrigin."""
    services: ChatServices = request.app.state.chat
    origin, production = request.headers.get("origin"), request.app.state.settings.in_production
    bot = await admitted_bot(services.bots, principal, origin, production=production)
    request.state.readable_by = origin
    return Visitor(principal, bot)


AdmittedVisitor = Annotated[Visitor, Depends(_visitor)]


@router.post(
    "/messages",
    response_model=WholeAnswer,
    responses={
        200: {"description": "The answer; as events where `Accept` says so", "content": {EVENT_STREAM: {}}},
        **problems(HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY),
    },
)
async def ask(question: Question, request: Request, visitor: AdmittedVisitor) -> Response:
    """Asks the bot. Answers as JSON when all is said; with `Accept: text/event-stream` by the socket's frames, as they
    come: events `sources`, `delta`, `done`, `error`, their `id` being the frame's `seq`.
    """
    services: ChatServices = request.app.state.chat
    answers: Answers = request.app.state.answers
    if answers.draining:
        raise _restarting()
    principal, bot = visitor
    address = request.client.host if request.client else None
    await services.rates.take(bot, principal.sub, address)
    conversation_id = question.conversation_id or _conversation_of(visitor, question)
    answer = answers.ask(bot, principal.sub, question, conversation_id)
    if EVENT_STREAM in request.headers.get("accept", ""):
        events = _events(answer)
        first = await _unless_gone(request, _first(events))
        if first is None:
            return Response(status_code=CLIENT_GONE)
        headers = {CONVERSATION_HEADER: str(conversation_id)}
        return EventStream(first, events, longest_s=LONGEST_S, headers=headers, unread=answer.cut)
    whole = await _unless_gone(request, _whole(answer))
    return Response(status_code=CLIENT_GONE) if whole is None else JSONResponse(whole.model_dump(mode="json"))


def _conversation_of(visitor: Visitor, question: Question) -> UUID:
    """The conversation that a question begins: the same when it is sent again."""
    principal, bot = visitor
    return uuid5(bot.bot_id, json.dumps([str(bot.org_id), principal.sub, question.id, question.text]))


async def _whole(answer: LiveAnswer) -> WholeAnswer:
    """The answer when all of it is there. Raises ServiceError."""
    sources: list[Frame] = []
    with answer.followed() as frames:
        async for text in frames:
            frame = json.loads(text)
            if frame["type"] == "sources":
                sources = frame["sources"]
            elif frame["type"] == "error":
                raise _error_of(answer, frame)
            elif frame["type"] == "done":
                whole = {**frame, "sources": sources, "conversation_id": answer.key.conversation_id}
                return WholeAnswer.model_validate(whole)
    raise _restarting()


async def _events(answer: LiveAnswer) -> AsyncGenerator[str]:
    """The answer's frames as events. Raises ServiceError when the first is an error."""
    with answer.followed() as frames:
        started = False
        async for text in frames:
            frame = json.loads(text)
            if frame["type"] == "error" and not started:
                raise _error_of(answer, frame)
            started = True
            yield event(frame["type"], text, frame.get("seq"))


async def _first(events: AsyncGenerator[str]) -> str:
    try:
        return await anext(events)
    except StopAsyncIteration:
        raise _restarting() from None


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result | None:
    """What the work gives; None when the client leaves before, which ends the work."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.create_task(left())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def _restarting() -> DependencyError:
    return DependencyError(
        "The answer was not finished here. Ask again with the same id, and it goes on.", retry_after=1
    )


def _error_of(answer: LiveAnswer, frame: Frame) -> ServiceError:
    """The error that an answer ended with, as a visitor may read it; by its frame when another replica met it."""
    if answer.error:
        return answer.error if isinstance(answer.error, DatabaseUnavailable) else for_visitors(answer.error)
    kinds: dict[str, type[ServiceError]] = {
        kind.code: kind for kind in (RateLimited, BudgetExhausted, ProviderUnavailable, ProviderRejected)
    }
    return kinds.get(frame["code"], ServiceError)(frame["message"], retry_after=frame.get("retry_after"))


@router.post("/messages/{message_id}/feedback")
async def feedback(message_id: UUID, opinion: Opinion, request: Request, visitor: AdmittedVisitor) -> KeptOpinion:
    """Keeps what the visitor thinks of an answer of theirs. 404 for another visitor's."""
    principal, bot = visitor
    async with request.app.state.engines.tenant(bot.org_id) as connection:
        if not await keep_feedback(connection, bot, principal.sub, message_id, opinion.value, opinion.comment):
            elsewhere = await bot_of_answer(connection, bot.org_id, principal.sub, message_id)
            raise ForbiddenBot if elsewhere else UnknownMessage
    return KeptOpinion(message_id=message_id, value=opinion.value, comment=opinion.comment)
