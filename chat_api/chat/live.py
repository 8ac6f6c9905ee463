"""An answer in flight as one process has it: its frames, who reads them, and how it is ended before its end."""

import asyncio
import contextlib
import enum
from collections.abc import Iterator

from chat_api.chat.bot import Bot
from chat_api.chat.journal import AnswerKey
from chat_api.chat.messages import error_of
from chat_api.chat.stream import AnswerStream, Reader, encoded
from chat_api.chat.turn import Turn
from chat_api.core.errors import ServiceError


class Why(enum.Enum):
    """Why an answer is ended before its end."""

    STOPPED = "stopped"
    LEFT = "left"
    """Nobody reads it, or it is handed to another replica."""


class LiveAnswer:
    """An answer in flight. `error` is why it failed, where it was made here."""

    def __init__(self, key: AnswerKey, bot: Bot, visitor: str, grace_s: float) -> None:
        self.key, self.bot, self.visitor = key, bot, visitor
        self.stream = AnswerStream(key.ask_id)
        self.error: ServiceError | None = None
        self.stop_wanted = False
        self.turn: Turn | None = None
        """The turn that makes it; None while it is another replica's."""
        self.task: asyncio.Task[None] | None = None
        self._grace_s = grace_s
        self._left_at = asyncio.get_running_loop().time()
        self._ended_by: Why | None = None

    @property
    def finished(self) -> bool:
        """Whether its last frame was `done` or `error`; one that only ended can be resumed elsewhere."""
        return self.stream.finished

    @property
    def deserted(self) -> bool:
        """Whether nobody has read it here for the grace period."""
        return not self.stream.readers and asyncio.get_running_loop().time() - self._left_at > self._grace_s

    @contextlib.contextmanager
    def followed(self, after: int = 0) -> Iterator[Reader]:
        """The frames after the seq `after` as JSON texts, to the end. Without readers it goes on for the grace period."""
        with Reader(self.stream, after) as reader:
            try:
                yield reader
            finally:
                self._left_at = asyncio.get_running_loop().time()
        if self.turn is None:
            # It is made elsewhere, and lasts there as long as somebody wants it.
            self.cut()

    def cut(self) -> None:
        """Ends the answer if nobody reads it, without grace."""
        if not self.stream.readers:
            self.end(Why.LEFT)

    def end(self, why: Why) -> None:
        """Ends the answer before its end, unless it is there already."""
        if self.task and not self._ended_by and not (self.turn and self.turn.ending):
            self._ended_by = why
            self.stream.unwanted = True
            self.task.cancel()

    async def wind_up(self, turn: Turn) -> None:
        """Ends a turn that was cancelled, as was said."""
        if task := asyncio.current_task():
            task.uncancel()
        await (turn.stopped(self.stream) if self._ended_by is Why.STOPPED else turn.left())

    def fail(self, error: ServiceError) -> None:
        """Ends the answer with an error that is not recorded."""
        self.error = error
        self.stream.finish(encoded(error_of(error, self.key.ask_id)))
