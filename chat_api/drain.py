"""SIGTERM: the service ends its work with visitors first; only then does the server hear of it, which cuts all sockets."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType

import structlog

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def drained_before_the_end(drain: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Has SIGTERM run `drain` before the handler that was there; a second one reaches that at once.

    Uvicorn installs its handler before the lifespan begins. Off the main thread, and without a handler, nothing changes.
    """
    servers = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(servers):
        yield
        return
    loop = asyncio.get_running_loop()
    draining: set[asyncio.Task[None]] = set()

    async def drain_first(number: int) -> None:
        try:
            await drain()
        except Exception:  # the process ends in any case
            log.exception("drain_failed")
        servers(number, None)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if draining:
            servers(number, frame)
        else:
            loop.call_soon_threadsafe(lambda: draining.add(loop.create_task(drain_first(number))))

    signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, servers)
