"""An answer in flight as one process has it: its frames, who reads them, and how it is ended before its end."""

import asyncio
import enum

from chat_api.chat.bot import Bot
from chat_api.chat.error_frames import error_of
from chat_api.chat.journal import AnswerKey, Hold
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
        self.hold: Hold | None = None
        """The turn's hold on it."""
        self.task: asyncio.Task[None] | None = None
        self.heard_at = 0.0
        """When the journal last said whether it is read elsewhere."""
        self._grace_s, self._cut = grace_s, False
        self._ended_by: Why | None = None

    @property
    def finished(self) -> bool:
        """Whether its last frame was `done` or `error`; one that only ended can be resumed elsewhere."""
        return self.stream.finished

    @property
    def made_here(self) -> bool:
        """Whether this process is known to make it: it has all its frames."""
        return bool(self.hold and self.hold.claimed)

    @property
    def deserted(self) -> bool:
        """Whether nobody has read it here for the grace period, or nobody does and it was cut."""
        return self.stream.unread_s > (0 if self._cut else self._grace_s)

    @property
    def joinable(self) -> bool:
        """Whether who joins it now gets it to its end."""
        return not self.finished and (not self.stream.unwanted or self._ended_by is Why.STOPPED)

    def followed(self, after: int = 0) -> Reader:
        """The frames after the seq `after` as JSON texts, to the end. Without readers it goes on for the grace period."""
        self._cut = False
        return Reader(self.stream, after)

    def cut(self) -> None:
        """Ends the grace for who reads it next. Its visitor may have come back to it elsewhere, which the journal knows."""
        self._cut = True

    def end(self, why: Why) -> None:
        """Ends the answer before its end, unless it is there already."""
        if self.task and not self._ended_by and not (self.turn and self.turn.ending):
            self._ended_by = why
            self.stream.unwanted = True
            self.task.cancel()

    def stop(self) -> bool:
        """Ends the answer with what was streamed; False when it is not made here.

        While it is not known yet who makes it, or whether it is on record, it goes on: `claimed` ends it then.
        """
        self.stop_wanted = True
        if self.made_here:
            self.end(Why.STOPPED)
        return self.turn is not None

    def claimed(self) -> None:
        """The turn, which runs this, has found that the answer is made here. Raises CancelledError when it was stopped."""
        if self.stop_wanted:
            self._ended_by, self.stream.unwanted = Why.STOPPED, True
            raise asyncio.CancelledError

    async def wind_up(self, turn: Turn) -> None:
        """Ends a turn that was cancelled, as was said."""
        if task := asyncio.current_task():
            task.uncancel()
        await (turn.stopped(self.stream) if self._ended_by is Why.STOPPED else turn.left())

    def fail(self, error: ServiceError) -> None:
        """Ends the answer with an error that is not recorded."""
        self.error = error
        self.stream.finish(encoded(error_of(error, self.key.ask_id)))
