"""An answer's frames: numbered, kept, and read by any number of readers, none of whom is waited for too long."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from chat_api.chat.client_frames import Frame
from chat_api.core.storable import encodable

SLOW_READER_S = 10.0
AHEAD = 64
"""Frames that an answer may be ahead of its fastest reader; then the model's stream is left to wait."""


class SlowReaderError(Exception):
    """The client did not take a frame within ten seconds."""


class ClientGoneError(Exception):
    """The client's connection is gone."""


class Wire:
    """One client's end of the socket; several tasks may send."""

    def __init__(self, send_text: Callable[[str], Awaitable[None]]) -> None:
        self._send_text = send_text
        self._lock = asyncio.Lock()

    async def send(self, frame: Frame) -> None:
        """Sends one frame. Raises SlowReaderError, ClientGoneError."""
        await self.send_text(encoded(frame))

    async def send_text(self, text: str) -> None:
        """Sends one frame that is JSON already. Raises SlowReaderError, ClientGoneError."""
        try:
            async with asyncio.timeout(SLOW_READER_S), self._lock:
                await self._send_text(text)
        except TimeoutError:
            raise SlowReaderError from None


def encoded(frame: Frame) -> str:
    """The frame as JSON on one line; a question mark is in the place of what UTF-8 has no bytes for."""
    return encodable(json.dumps(frame, ensure_ascii=False, separators=(",", ":")))


class AnswerStream:
    """The frames of one answer; the one at index n has the `seq` n + 1.

    A frame that nobody has any more, because the replica that sent it died, is None: an empty delta is read in its
    place. After such a loss the answer begins again, with another `sources`.
    """

    def __init__(self, ask_id: str) -> None:
        self.ask_id = ask_id
        self.frames: list[str | None] = []
        self.ended = self.finished = False
        self.unwanted = False
        """Whether nobody wants more of it: a task's cancellation alone may get lost on its way (see `send`)."""
        self.readers: set[Reader] = set()
        self._watches: set[asyncio.Event] = set()
        self._room = asyncio.Event()
        self._left_at = time.monotonic()

    @property
    def unread_s(self) -> float:
        """For how many seconds nobody has read it."""
        return 0.0 if self.readers else time.monotonic() - self._left_at

    async def send(self, kind: str, **content: Any) -> None:
        """Adds the answer's next frame. Waits while all who read are far behind. Raises CancelledError when unwanted.

        Before Python 3.12 `asyncio.wait_for`, which libraries use, drops a cancellation that comes as its wait ends.
        """
        if self.unwanted:
            raise asyncio.CancelledError
        self.add(self.next(kind, **content))
        while self.readers and len(self.frames) - max(reader.position for reader in self.readers) > AHEAD:
            self._room.clear()
            await self._room.wait()

    def next(self, kind: str, **content: Any) -> str:
        """The answer's next frame, which is not added yet."""
        return encoded({"type": kind, "id": self.ask_id, "seq": len(self.frames) + 1, **content})

    def add(self, *frames: str | None) -> None:
        """Adds frames."""
        self.frames += frames
        self._wake()

    def skip_to(self, length: int) -> None:
        """Has the next frame be the one after `length`, whatever is missing up to there."""
        self.frames += [None] * (length - len(self.frames))

    def finish(self, *last: str) -> None:
        """Adds the answer's last frame, `done` or `error`, unless it is there."""
        self.frames += last
        self.finished = True
        self.end()

    def end(self) -> None:
        """No frame follows. Unless it is `finished`, the answer goes on elsewhere, or anew."""
        self.ended = True
        self._wake()

    def text_of(self, index: int) -> str:
        """The frame at `index` as it is sent."""
        found = self.frames[index]
        return encoded({"type": "delta", "id": self.ask_id, "seq": index + 1, "text": ""}) if found is None else found

    def watch(self) -> asyncio.Event:
        """An event that is set whenever frames came or the end, until it is given to `unwatch`."""
        event = asyncio.Event()
        self._watches.add(event)
        return event

    def unwatch(self, event: asyncio.Event) -> None:
        """Ends a watch."""
        self._watches.discard(event)

    def made_room(self) -> None:
        """A reader has read, or left."""
        self._room.set()

    def leave(self, reader: "Reader") -> None:
        """A reader reads no more."""
        self.readers.discard(reader)
        self._left_at = time.monotonic()
        self.made_room()

    def _wake(self) -> None:
        for event in self._watches:
            event.set()


class Reader:
    """Reads a stream's frames after the seq `after`, as they come, to its end. Use it as a context."""

    def __init__(self, stream: AnswerStream, after: int = 0) -> None:
        self._stream = stream
        self.position = after
        """How many frames are read."""

    def __enter__(self) -> Self:
        self._grew = self._stream.watch()
        self._stream.readers.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.unwatch(self._grew)
        self._stream.leave(self)

    async def __aiter__(self) -> AsyncIterator[str]:
        """The frames as JSON texts."""
        stream = self._stream
        while True:
            while self.position < len(stream.frames):
                text = stream.text_of(self.position)
                self.position += 1
                yield text
                stream.made_room()
            if stream.ended:
                return
            self._grew.clear()
            await self._grew.wait()


def told_by(stream: AnswerStream) -> tuple[list[Frame], str]:
    """The sources and the text that the stream's frames told since the answer last began."""
    sources: list[Frame] = []
    text = ""
    for frame in (json.loads(each) for each in stream.frames if each):
        if frame["type"] == "sources":
            sources, text = frame["sources"], ""
        text += frame.get("text", "")
    return sources, text
