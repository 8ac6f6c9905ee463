"""The routes of one source: its ledger, its generations, back to the one before, releasing one that was held."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal
from chat_api.deps import ChatSession, DashboardSession, no_store, require_scope
from chat_api.errors import PROBLEMS, problems
from chat_api.paging import Cursor, Limit
from chat_api.training.generations import Generations, list_generations, release, roll_back
from chat_api.training.known import bot_of_source
from chat_api.training.pages import MAX_GENERATION, Ledger, read_ledger
from chat_api.training.telling import tell_dashboard

router = APIRouter(
    prefix="/api/training/sources/{source_id}", tags=["training"], responses=PROBLEMS, dependencies=[Depends(no_store)]
)
CONFLICT = problems(HTTPStatus.CONFLICT)

Writer = Annotated[Principal, Depends(require_scope("training:write"))]
Reader = Annotated[Principal, Depends(require_scope("training:read"))]
Number = Annotated[int, Path(ge=0, le=MAX_GENERATION)]


@router.get("/pages")
async def pages(
    source_id: UUID,
    principal: Reader,
    chat: ChatSession,
    dashboard: DashboardSession,
    generation: Annotated[int | None, Query(ge=0, le=MAX_GENERATION, description="The live one if not given")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Ledger:
    """What came of each URL that a generation met; without a live generation, the newest one's."""
    source = await _source(chat, dashboard, principal, source_id)
    return await read_ledger(chat, source, generation, cursor, limit)


@router.get("/generations")
async def generations(
    source_id: UUID,
    principal: Reader,
    chat: ChatSession,
    dashboard: DashboardSession,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Generations:
    """The live generation, the one kept for a rollback, and those that are held back."""
    return await list_generations(chat, await _source(chat, dashboard, principal, source_id), cursor, limit)


@router.post("/rollback", responses=CONFLICT)
async def rollback(source_id: UUID, principal: Writer, chat: ChatSession, dashboard: DashboardSession) -> Generations:
    """Has the previous generation answer again, until the source is queued or edited; cancels its runs."""
    source = await _source(chat, dashboard, principal, source_id)
    await tell_dashboard(chat, dashboard, principal.org_id, await roll_back(chat, source))
    return await list_generations(chat, source)


@router.post("/generations/{number}/release", responses=CONFLICT)
async def release_generation(
    source_id: UUID, number: Number, principal: Writer, chat: ChatSession, dashboard: DashboardSession
) -> Generations:
    """Has a generation answer that was held back."""
    source = await _source(chat, dashboard, principal, source_id)
    await tell_dashboard(chat, dashboard, principal.org_id, await release(chat, source, number))
    return await list_generations(chat, source)


async def _source(
    chat: AsyncSession, dashboard: AsyncSession, principal: Principal, source_id: UUID
) -> dict[str, UUID]:
    """The source's key. Raises UnknownSource, ForbiddenBot."""
    bot_id = await bot_of_source(chat, dashboard, principal, source_id)
    return {"org_id": principal.org_id, "bot_id": bot_id, "source_id": source_id}
