"""Asks a provider again that is away or busy for a moment, as long as nobody has seen any of its answer."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from chat_api.core.errors import DependencyError, ProviderUnavailable

TRIES = 3
LONGEST_WAIT_S = 5.0
Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


async def persist(call: Callable[[], Awaitable[Answer]], within_s: float) -> Answer:
    """What `call` gives; it is tried three times when its provider is away, and waits as long as that asks for.

    Raises what the last try raised: at once when no later try can help, or when the provider wants more than 5 s;
    ProviderUnavailable when all of it takes longer than `within_s`.
    """
    try:
        async with asyncio.timeout(within_s):
            for failures in range(1, TRIES):
                try:
                    return await call()
                except DependencyError as error:
                    await _pause(error, failures)
            return await call()
    except TimeoutError:
        raise ProviderUnavailable("The language model did not answer in time. Please ask again in a moment.") from None


async def _pause(error: DependencyError, failures: int) -> None:
    wait = error.retry_after or 0.25 * 2**failures * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
    if wait > LONGEST_WAIT_S:
        raise error
    log.warning("provider_tried_again", code=error.code, failures=failures, wait_s=round(wait, 2))
    await asyncio.sleep(wait)
