"""The loopback provider with a memory: which worker had which inputs embedded, when, and whether it got the answer."""

import time
from dataclasses import dataclass
from typing import Any

from tests.provider import Provider
from tests.provider_wire import Exchange

KEY = "sk-"


@dataclass(slots=True)
class Call:
    """One embedding request. `caller` is named by its API key; times are of the monotonic clock."""

    caller: str
    texts: tuple[str, ...]
    began: float
    billed: bool = False
    open: bool = True
    cut: bool = False
    """Whether half of the answer was all that the caller got."""


class RecordingProvider(Provider):
    """A provider that remembers every embedding request that reached its model."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        super().__init__()

    async def _embed(self, exchange: Exchange, body: dict[str, Any]) -> None:
        caller = exchange.headers["authorization"].removeprefix(f"Bearer {KEY}")
        given = body.get("input")
        texts = tuple(given) if isinstance(given, list) else (str(given),)
        call = Call(caller, texts, time.monotonic(), cut=exchange.cut_after is not None)
        self.calls.append(call)
        try:
            await super()._embed(exchange, body)
            call.billed = True
        finally:
            call.open = False
