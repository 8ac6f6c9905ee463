"""Waits for what may hang, and leaves it to itself when that takes too long."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Got = TypeVar("Got")


async def within(seconds: float, work: Coroutine[Any, Any, Got]) -> Got:
    """What the work gives. Raises TimeoutError after `seconds`, however long the work's own cancellation takes."""
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    finally:
        leave(task)
    if not done:
        raise TimeoutError
    return task.result()


def leave(task: asyncio.Task[Any]) -> None:
    """Ends a task, unless it is done, that nobody asks for what came of it."""
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
