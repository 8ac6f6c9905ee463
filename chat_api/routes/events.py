"""The events stream: an org's jobs as they change, as Server-Sent Events."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from chat_api.auth import LEEWAY_S, Principal
from chat_api.core.database import DATABASE_DOWN, of_org
from chat_api.deps import require_scope
from chat_api.errors import PROBLEMS, problems
from chat_api.server import cut
from chat_api.training.events import Feed, Feeds, Watcher
from chat_api.training.jobs import Change
from chat_api.training.known import require_known_bot

LONGEST_S = 3600.0
HEARTBEAT_S = 15.0
READ_WITHIN_S = 10.0
MAX_EVENT_ID = 2**63 - 1
EVENT_STREAM = "text/event-stream"

router = APIRouter(prefix="/api/training", tags=["training"], responses=PROBLEMS)
log = structlog.get_logger(__name__)


class EventStream(StreamingResponse):
    """A stream that leaves its feed when it ends, and that ends when its reader takes nothing for ten seconds."""

    media_type = EVENT_STREAM

    def __init__(self, feed: Feed, watcher: Watcher, content: AsyncIterator[str]) -> None:
        # A proxy that buffers would hold events back.
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._feed, self._watcher = feed, watcher
        self._unread = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Streams until the content ends, or the other side goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.watchers.discard(self._watcher)
            if self._unread:
                cut(scope)

    async def stream_response(self, send: Send) -> None:
        """Sends the stream; one whose reader does not read is cut off."""

        async def within_limit(message: object) -> None:
            async with asyncio.timeout(READ_WITHIN_S):
                await send(message)  # type: ignore[arg-type]  # what Starlette sends, handed on

        try:
            await super().stream_response(within_limit)
        except TimeoutError:
            log.info("slow_reader_cut")
            self._unread = True


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
    return EventStream(feed, watcher, _stream(feed, watcher, bot_id, last_event_id, _seconds_left(principal)))


def _seconds_left(principal: Principal) -> float:
    """Until the token expires, an hour at most; one that was taken in its leeway lasts to that one's end."""
    left = (principal.expires_at - datetime.now(UTC)).total_seconds()
    return min(LONGEST_S, left if left > 0 else left + LEEWAY_S)


async def _stream(
    feed: Feed, watcher: Watcher, bot_id: UUID | None, after: int | None, seconds: float
) -> AsyncIterator[str]:
    until = time.monotonic() + seconds
    yield ": following\n\n"
    try:
        async for changes in feed.standing(bot_id, after):
            for change in watcher.unsent(changes):
                yield _event(change)
    except DATABASE_DOWN:
        watcher.lose()
    while not watcher.lost and (left := until - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(min(HEARTBEAT_S, left)):
                changes = await watcher.news()
        except TimeoutError:
            yield ": still here\n\n"
            continue
        for change in changes:
            yield _event(change)
    yield f": {'the database does not answer, or too much has changed' if watcher.lost else 'the time is over'}\n\n"


def _event(change: Change) -> str:
    return f"id: {change.version}\nevent: job\ndata: {change.job.model_dump_json()}\n\n"
