"""What an org's bots used of their models, and what that cost."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from chat_api.auth import Principal
from chat_api.chat.access import bot_asked_for
from chat_api.chat.services import ChatServices
from chat_api.chat.usage import UsagePage, Window, read_usage
from chat_api.deps import SettingsDep, no_store, require_scope
from chat_api.errors import PROBLEMS
from chat_api.paging import Cursor, Limit

router = APIRouter(prefix="/api", tags=["usage"], responses=PROBLEMS, dependencies=[Depends(no_store)])


@router.get("/usage")
async def usage(
    request: Request,
    principal: Annotated[Principal, Depends(require_scope("usage:read"))],
    settings: SettingsDep,
    window: Annotated[Window, Query(description="Whole days (UTC) are counted: all that the window touches")] = "30d",
    bot_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> UsagePage:
    """Tokens and cost by bot, purpose and model: of the org, or of the bot that the token or the request names.

    `cost` is null for a model without a price, never 0.
    """
    services: ChatServices = request.app.state.chat
    bot = await bot_asked_for(services.bots, principal, bot_id)
    async with request.app.state.engines.tenant(principal.org_id) as connection:
        return await read_usage(
            connection,
            principal.org_id,
            bot.bot_id if bot else None,
            window,
            settings.prices,
            cursor=cursor,
            limit=limit,
        )
