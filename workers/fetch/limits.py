"""What one fetch may spend: time, bytes on the wire, and how slow a server may be."""

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from chat_api.core.errors import FetchTimeout
from workers.fetch.decoding import too_large

_FRAMING: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The caps of one `SafeClient`; each holds for a whole fetch, redirects included."""

    timeout_s: float = 30
    connect_timeout_s: float = 10
    max_bytes: int = 20 * 1024 * 1024
    """Of a body, before and after decompression."""
    max_redirects: int = 5
    min_rate: int = 512
    """Bytes per second that a server must have sent on average, once it has been sending for `patience_s`."""
    patience_s: float = 10
    max_connections: int = 8


class Exchange:
    """One fetch under way: its deadline and what it has received."""

    def __init__(self, limits: FetchLimits, max_bytes: int, host: str) -> None:
        self.max_bytes = max_bytes
        self.host = host
        self._limits = limits
        self._ends_at = time.monotonic() + limits.timeout_s
        self._first_byte_at: float | None = None
        self._received = 0
        self._dialled = 0

    @property
    def progress(self) -> tuple[int, int]:
        """Connections dialled and bytes received so far."""
        return self._dialled, self._received

    def remaining(self, at_most: float | None = None) -> float:
        """Seconds until the deadline, more than 0 and no more than `at_most`; FetchTimeout after it."""
        seconds = self._ends_at - time.monotonic()
        if seconds <= 0:
            raise self.timed_out()
        return seconds if at_most is None else min(seconds, at_most)

    def pause(self, seconds: float) -> None:
        """Leaves out of account what was waited for before the server was asked."""
        self._ends_at += seconds
        if self._first_byte_at is not None:
            self._first_byte_at += seconds

    def timed_out(self) -> FetchTimeout:
        """The error for a deadline that has passed."""
        return FetchTimeout(f"{self.host} took too long to answer. It is tried again by itself.")

    def dialled(self) -> None:
        """Counts a connection that was made for this fetch."""
        self._dialled += 1

    def received(self, size: int) -> None:
        """Counts `size` bytes from the wire.

        Raises TooLarge when framing and headers make an answer far larger than any body may be, FetchTimeout when the
        server trickles.
        """
        now = time.monotonic()
        self._first_byte_at = self._first_byte_at or now
        self._received += size
        if self._received > 2 * self.max_bytes + _FRAMING:
            raise too_large(self.max_bytes)
        sending = now - self._first_byte_at
        if sending > self._limits.patience_s and self._received < self._limits.min_rate * sending:
            raise FetchTimeout(f"{self.host} sends too slowly to be read. It is tried again by itself.")


CURRENT: Final[ContextVar[Exchange]] = ContextVar("current_exchange")
"""The fetch that this thread is in: connections outlive a fetch, so their reads and writes look it up here."""
