"""Passes an answer on that another replica makes: what is kept of it, then what is told of it, to its end."""

import asyncio
import enum
import time
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chat_api.chat.journal import FOLLOW_EVERY_S, AnswerKey, Batch, Journal, Kept
from chat_api.chat.relay import Listener, Relay
from chat_api.chat.stream import AnswerStream

LOOK_EVERY_S = 0.5
"""How often the journal is looked at, for what was not heard and for a lease that is over."""
LOOK_AGAIN_S = 0.1
UNREAD_S = 1.0
"""For how long an answer is passed on that nobody reads: one reader may give way to another."""
AWAY_S = 60.0
"""For how long a journal that can't be read is waited for while nothing is told."""
log = structlog.get_logger(__name__)


class Passed(enum.Enum):
    """How passing on came to its end."""

    WHOLE = "whole"
    """The last frame was passed on."""
    ABANDONED = "abandoned"
    """Nobody makes the answer any more."""
    DIVERGED = "diverged"
    """Another replica makes it anew, with numbers that were given to other frames here."""
    UNKNOWN = "unknown"
    """The visitor has no such answer."""
    UNREAD = "unread"
    """Nobody reads it here any more."""
    AWAY = "away"
    """The journal could not be read, and nothing was told."""


class Passing:
    """Passes one answer on into a stream."""

    def __init__(self, journal: Journal, relay: Relay, key: AnswerKey, visitor: str, stream: AnswerStream) -> None:
        self._journal, self._relay, self._key, self._visitor, self._stream = journal, relay, key, visitor, stream
        self._holder: UUID | None = None
        self._follow_at = 0.0
        self._heard_at = time.monotonic()

    async def run(self) -> Passed:
        """Passes frames on until there are no more. A database that is away is waited for, though not for ever."""
        async with self._relay.listening(self._key) as listener:
            while True:
                try:
                    if passed := await self._look():
                        return passed
                    self._heard_at = time.monotonic()
                except (SQLAlchemyError, TimeoutError) as error:
                    log.warning("journal_away", error=type(error).__name__)
                    if time.monotonic() - self._heard_at > AWAY_S:
                        return Passed.AWAY
                if await self._hear(listener):
                    return Passed.WHOLE

    async def _look(self) -> Passed | None:
        """Takes what the journal has; how it ended, if it did."""
        stream = self._stream
        # Who leaves cancels nothing, and a library may lose the cancellation of an answer that is not wanted.
        stream.unwanted = stream.unwanted or stream.unread_s > UNREAD_S
        if stream.unwanted:
            return Passed.UNREAD
        while kept := await self._journal.read(self._key, self._visitor, len(stream.frames)):
            if not self._agrees(kept):
                return Passed.DIVERGED
            for batch in kept.batches:
                self._take(batch)
            if kept.more:
                continue
            if kept.state != "streaming":
                stream.finish()
                return Passed.WHOLE
            if not kept.held:
                return Passed.ABANDONED
            await self._follow()
            return None
        return Passed.UNKNOWN

    def _agrees(self, kept: Kept) -> bool:
        """Whether what a new holder numbered goes on from what was passed on."""
        before, self._holder = self._holder, kept.holder
        return before in {None, kept.holder} or not kept.batches or kept.batches[0].first_seq > len(self._stream.frames)

    async def _follow(self) -> None:
        if time.monotonic() >= self._follow_at:
            self._follow_at = time.monotonic() + FOLLOW_EVERY_S
            await self._journal.follow(self._key, self._visitor)

    async def _hear(self, listener: Listener) -> bool:
        """Takes what is told, until it is time to look, or something was missed; True after the last frame."""
        look_at = time.monotonic() + LOOK_EVERY_S
        while (left := look_at - time.monotonic()) > 0:
            news = await listener.next(left)
            if news is None or news.holder != self._holder:
                continue
            if news.batch.first_seq > len(self._stream.frames) + 1:
                await asyncio.sleep(LOOK_AGAIN_S)
                break
            self._take(news.batch)
            if news.last:
                self._stream.finish()
                return True
        return False

    def _take(self, batch: Batch) -> None:
        """Adds what is new of a batch; what nobody has any more is skipped."""
        stream = self._stream
        self._heard_at = time.monotonic()
        stream.skip_to(batch.first_seq - 1)
        stream.add(*batch.frames[len(stream.frames) - batch.first_seq + 1 :])
