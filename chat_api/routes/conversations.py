"""What was said: a visitor's own conversations or a whole bot's, their messages, and the questions without an answer."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from chat_api.auth import Principal
from chat_api.chat.access import (
    READ,
    View,
    admit_owner,
    admit_visitor,
    bot_asked_for,
    require_reader,
    view_of,
)
from chat_api.chat.conversations import (
    ConversationPage,
    ConversationSummary,
    MessagePage,
    find_conversation,
    list_conversations,
    list_messages,
)
from chat_api.chat.services import ChatServices
from chat_api.chat.unanswered import UnansweredPage, list_unanswered
from chat_api.deps import CurrentPrincipal, no_store, require_scope
from chat_api.errors import PROBLEMS
from chat_api.paging import Cursor, Limit

router = APIRouter(prefix="/api/chat", tags=["chat"], responses=PROBLEMS, dependencies=[Depends(no_store)])


async def _reader(principal: CurrentPrincipal) -> Principal:
    require_reader(principal)
    return principal


Reader = Annotated[Principal, Depends(_reader)]
Owner = Annotated[Principal, Depends(require_scope(READ))]


async def _view(request: Request, principal: Reader, bot_id: UUID | None = None) -> View:
    """What the token may see of the bot that the request names, or of its own."""
    services: ChatServices = request.app.state.chat
    bot = await bot_asked_for(services.bots, principal, bot_id)
    view = view_of(principal, bot, bot_named=bot_id is not None)
    origin, production = request.headers.get("origin"), request.app.state.settings.in_production
    if view.visitor is not None and bot is not None:
        request.state.readable_by = admit_visitor(origin, principal, bot, production=production)
    else:
        request.state.readable_by = admit_owner(origin, bot, production=production)
    return view


InView = Annotated[View, Depends(_view)]


@router.get("/conversations")
async def conversations(request: Request, view: InView, cursor: Cursor = None, limit: Limit = 50) -> ConversationPage:
    """With `chat` the visitor's own; with `conversations:read` the bot's, or the org's where neither token nor request
    names a bot. A token that has both shows the visitor's own, unless `bot_id` is given. The latest first.
    """
    async with request.app.state.engines.tenant(view.org_id) as connection:
        return await list_conversations(connection, view, cursor, limit)


@router.get("/conversations/{conversation_id}")
async def conversation(conversation_id: UUID, request: Request, principal: Reader, view: InView) -> ConversationSummary:
    """One conversation. 404 for another visitor's."""
    async with request.app.state.engines.tenant(view.org_id) as connection:
        return await find_conversation(connection, view, principal, conversation_id)


@router.get("/conversations/{conversation_id}/messages")
async def messages(
    conversation_id: UUID,
    request: Request,
    principal: Reader,
    view: InView,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> MessagePage:
    """What was said in a conversation, the oldest first: each question with its answer and sources."""
    async with request.app.state.engines.tenant(view.org_id) as connection:
        found = await find_conversation(connection, view, principal, conversation_id)
        return await list_messages(connection, view, found, cursor, limit)


@router.get("/unanswered")
async def unanswered(
    request: Request,
    principal: Owner,
    bot_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> UnansweredPage:
    """The questions that got no answer, of the bot or of all of the org's; equal ones together, the most asked first."""
    services: ChatServices = request.app.state.chat
    bot = await bot_asked_for(services.bots, principal, bot_id)
    production = request.app.state.settings.in_production
    request.state.readable_by = admit_owner(request.headers.get("origin"), bot, production=production)
    view = View(principal.org_id, bot.bot_id if bot else None, None)
    async with request.app.state.engines.tenant(view.org_id) as connection:
        return await list_unanswered(connection, view, cursor, limit)
