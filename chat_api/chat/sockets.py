"""The sockets of this process: how many there may be, how many frames each may send, and their end at a restart."""

import asyncio
import contextlib
import enum
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chat_api.chat.bot import Bot
from chat_api.core.refusals import TooManyRequests

FRAMES_AT_ONCE = 100
FRAMES_PER_S = 20.0
CLOSED_WITHIN_S = 2.0


class TooManySockets(TooManyRequests):
    """There are too many open connections to this bot."""

    code = "too_many_sockets"


class TooManyFrames(TooManyRequests):
    """There are too many frames at once."""

    code = "too_many_frames"


class Over(enum.Enum):
    """Why the service ends a socket whose visitor has done nothing wrong."""

    SLOW = "slow"
    RESTARTING = "restarting"


class Drainable(Protocol):
    """A socket that can be told to end soon."""

    def drain(self) -> None:
        """Ends it as soon as no answer is passed on."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How many sockets may be open at once in this process: in all, of one org, of one bot."""

    process: int
    org: int
    bot: int


class Sockets:
    """Counts the open sockets."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._open = 0
        self._by_owner: Counter[UUID] = Counter()
        self._sessions: set[Drainable] = set()
        self._none_left = asyncio.Event()
        self.draining = False

    @contextlib.contextmanager
    def counted(self) -> Iterator[bool]:
        """Counts a socket from its first moment; False when there are too many already."""
        self._open += 1
        try:
            yield self._open <= self._caps.process
        finally:
            self._open -= 1

    @contextlib.contextmanager
    def admitted(self, bot: Bot) -> Iterator[None]:
        """Counts a socket of a bot and its org. Raises TooManySockets."""
        mine = {bot.org_id: self._caps.org, bot.bot_id: self._caps.bot}
        if any(self._by_owner[owner] >= cap for owner, cap in mine.items()):
            raise TooManySockets
        self._by_owner.update(mine.keys())
        try:
            yield
        finally:
            for owner in mine:
                self._by_owner[owner] -= 1
                if not self._by_owner[owner]:
                    del self._by_owner[owner]

    @contextlib.contextmanager
    def served(self, session: Drainable) -> Iterator[None]:
        """Has a session drained with the others."""
        self._sessions.add(session)
        if self.draining:
            session.drain()
        try:
            yield
        finally:
            self._sessions.discard(session)
            if not self._sessions:
                self._none_left.set()

    def drain(self) -> None:
        """Ends every socket as soon as it passes no answer on, and new ones at once."""
        self.draining = True
        self._none_left.clear()
        for session in list(self._sessions):
            session.drain()

    async def closed(self) -> None:
        """Waits a little until those that drain have told their visitors so."""
        if self._sessions:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), CLOSED_WITHIN_S)


class FrameRate:
    """How many frames one socket may send: a hundred at once, twenty a second."""

    def __init__(self) -> None:
        self._left, self._at = float(FRAMES_AT_ONCE), time.monotonic()

    def take(self) -> None:
        """Counts a frame. Raises TooManyFrames."""
        now = time.monotonic()
        self._left = min(FRAMES_AT_ONCE, self._left + (now - self._at) * FRAMES_PER_S)
        self._at = now
        if self._left < 1:
            raise TooManyFrames
        self._left -= 1
