"""Sends an answer's frames: numbered, one after the other, and never longer than a slow reader is waited for."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from chat_api.chat.messages import Frame

SLOW_READER_S = 10.0


class SlowReaderError(Exception):
    """The client did not take a frame within ten seconds."""


class Wire:
    """One client's end of the socket; several tasks may send."""

    def __init__(self, send_text: Callable[[str], Awaitable[None]], *, patience_s: float = SLOW_READER_S) -> None:
        self._send_text, self._patience_s = send_text, patience_s
        self._lock = asyncio.Lock()

    async def send(self, frame: Frame) -> None:
        """Sends one frame. Raises SlowReaderError."""
        text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
        try:
            async with asyncio.timeout(self._patience_s), self._lock:
                await self._send_text(text)
        except TimeoutError:
            raise SlowReaderError from None


class AnswerStream:
    """The frames of one answer, numbered from 1."""

    def __init__(self, wire: Wire, ask_id: str) -> None:
        self._wire, self._ask_id = wire, ask_id
        self._seq = 0

    async def send(self, kind: str, **content: Any) -> None:
        """Sends the answer's next frame. Raises SlowReaderError."""
        self._seq += 1
        await self._wire.send({"type": kind, "id": self._ask_id, "seq": self._seq, **content})
