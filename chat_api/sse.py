"""Server-Sent Events: their text, a comment while there is nothing to say, and an end for who does not read."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from chat_api.chat.stream import SLOW_READER_S
from chat_api.server import cut

EVENT_STREAM = "text/event-stream"
HEARTBEAT_S = 15.0
log = structlog.get_logger(__name__)


def event(kind: str, data: str, number: int | None = None) -> str:
    """One event; `data` is one line."""
    numbered = "" if number is None else f"id: {number}\n"
    return f"{numbered}event: {kind}\ndata: {data}\n\n"


async def kept_alive(
    first: str, events: AsyncGenerator[str], *, longest_s: float, every_s: float = HEARTBEAT_S
) -> AsyncGenerator[str]:
    """The first text and then the events, with a comment whenever there was none for a while, so that no proxy ends the
    stream. Ends when they end, or the time is over; `events` is closed then, as when it is closed itself.
    """
    until = asyncio.get_running_loop().time() + longest_s
    async with contextlib.aclosing(events):
        yield first
        coming: asyncio.Future[str] | None = None
        try:
            while (left := until - asyncio.get_running_loop().time()) > 0:
                coming = coming or asyncio.ensure_future(anext(events))
                if not (await asyncio.wait((coming,), timeout=min(every_s, left)))[0]:
                    yield ": still here\n\n"
                    continue
                try:
                    text, coming = coming.result(), None
                except StopAsyncIteration:
                    return
                yield text
            yield ": the time is over\n\n"
        finally:
            if coming:
                coming.cancel()
                while not coming.done():
                    with contextlib.suppress(asyncio.CancelledError):  # AnyIO cancels again at every turn of the loop
                        await asyncio.wait((coming,))


class EventStream(StreamingResponse):
    """A stream of events that are closed when it ends. A reader that takes nothing for ten seconds is cut off."""

    media_type = EVENT_STREAM

    def __init__(
        self,
        first: str,
        events: AsyncGenerator[str],
        *,
        longest_s: float,
        headers: Mapping[str, str] | None = None,
        left: Callable[[], object] = lambda: None,
        unread: Callable[[], object] = lambda: None,
    ) -> None:
        """`left` is called when it has ended, `unread` too when its reader was cut off."""
        self._events, self._body = events, kept_alive(first, events, longest_s=longest_s)
        self._left, self._unread = left, unread
        self._cut = False
        # A proxy that buffers would hold events back.
        super().__init__(
            self._body, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Streams until the events end, or the other side goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._body.aclose()
            await self._events.aclose()  # which the body leaves open when it was never begun
            self._left()
            if self._cut:
                self._unread()
                cut(scope)

    async def stream_response(self, send: Send) -> None:
        """Sends the stream; one whose reader does not read is cut off."""

        async def within_limit(message: Any) -> None:
            async with asyncio.timeout(SLOW_READER_S):
                await send(message)

        try:
            await super().stream_response(within_limit)
        except TimeoutError:
            log.info("slow_reader_cut")
            self._cut = True
