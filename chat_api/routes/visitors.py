"""Erases what a visitor asked and was answered."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel
from starlette.convertors import PathConvertor, register_url_convertor

from chat_api.auth import MAX_SUB_CHARS, Principal
from chat_api.chat.access import bot_asked_for
from chat_api.chat.erasure import erase_visitor
from chat_api.chat.services import ChatServices
from chat_api.deps import no_store, require_scope
from chat_api.errors import PROBLEMS


class _AnyText(PathConvertor):
    """The rest of a path, line breaks and all."""

    regex = r"[\s\S]*"


register_url_convertor("text", _AnyText())
router = APIRouter(prefix="/api/visitors", tags=["visitors"], responses=PROBLEMS, dependencies=[Depends(no_store)])
# A visitor may be named with a slash, which arrives here decoded.
Sub = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_SUB_CHARS,
        pattern=r"^[^\x00]*$",
        description="The visitor, as the tokens' `sub` says; percent-encoded",
    ),
]


class ErasedAnswer(BaseModel):
    """How much there was; zeros when it is asked again."""

    conversations: int
    messages: int


@router.delete("/{sub:text}")
async def erase(
    sub: Sub,
    request: Request,
    principal: Annotated[Principal, Depends(require_scope("conversations:erase"))],
    bot_id: UUID | None = None,
) -> ErasedAnswer:
    """Erases a visitor's conversations with all bots of the org, or with the one that the token or the request names."""
    services: ChatServices = request.app.state.chat
    bot = await bot_asked_for(services.bots, principal, bot_id)
    erased = await erase_visitor(services.engines, principal.org_id, bot.bot_id if bot else None, sub)
    return ErasedAnswer(conversations=erased.conversations, messages=erased.messages)
