"""The events stream: an org's jobs as they change, as Server-Sent Events."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal
from chat_api.core.database import DATABASE_DOWN, of_org
from chat_api.deps import require_scope
from chat_api.errors import PROBLEMS, problems
from chat_api.sse import EVENT_STREAM, EventStream, event
from chat_api.training.events import Feed, Feeds, Watcher
from chat_api.training.jobs import Change
from chat_api.training.known import require_known_bot

LONGEST_S = 3600.0
MAX_EVENT_ID = 2**63 - 1

router = APIRouter(prefix="/api/training", tags=["training"], responses=PROBLEMS)


@router.get(
    "/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {"description": "`job` events", "content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
        **problems(HTTPStatus.TOO_MANY_REQUESTS),
    },
)
async def events(
    request: Request,
    principal: Annotated[Principal, Depends(require_scope("training:read"))],
    bot_id: Annotated[UUID | None, Query()] = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_EVENT_ID)] = None,
) -> EventStream:
    """Every job of the org, or of one bot, whenever it changes: `event: job`, `id:` a number that grows with changes,
    `data:` the job object. Begins with what waits or runs; with `Last-Event-ID` with what came after that event.
    """
    engines = request.app.state.engines
    async with (
        AsyncSession(of_org(engines.chat, principal.org_id)) as chat,
        AsyncSession(engines.dashboard) as dashboard,
    ):
        bot_id = await require_known_bot(chat, dashboard, principal, bot_id)
    feeds: Feeds = request.app.state.feeds
    feed, watcher = await feeds.watch(principal.org_id, bot_id)
    return EventStream(
        ": following\n\n",
        _stream(feed, watcher, bot_id, last_event_id),
        longest_s=_seconds_left(principal),
        left=lambda: feed.watchers.discard(watcher),
    )


def _seconds_left(principal: Principal) -> float:
    """Until the token ends, an hour at most."""
    now = datetime.now(UTC)
    return min(LONGEST_S, (principal.ends_at(now) - now).total_seconds())


async def _stream(feed: Feed, watcher: Watcher, bot_id: UUID | None, after: int | None) -> AsyncGenerator[str]:
    try:
        async for changes in feed.standing(bot_id, after):
            for change in watcher.unsent(changes):
                yield _event(change)
    except DATABASE_DOWN:
        watcher.lose()
    while not watcher.lost:
        for change in await watcher.news():
            yield _event(change)
    yield ": the database does not answer, or too much has changed\n\n"


def _event(change: Change) -> str:
    return event("job", change.job.model_dump_json(), change.version)
