"""What an operator is shown and asked: a bar on a terminal, a line now and then elsewhere."""

import time
from typing import TextIO

LINE_EVERY_S = 10.0
BAR = 30


class Bar:
    """Progress towards `total`; `advance` may be told of any number of steps, also of more than were expected."""

    def __init__(self, name: str, total: int, stream: TextIO) -> None:
        self._name, self._total, self._stream = name, total, stream
        self._done, self._shown_at, self._on_terminal = 0, time.monotonic(), stream.isatty()

    def advance(self, steps: int = 1) -> None:
        """Shows that so many more are done."""
        self._done += steps
        if self._on_terminal:
            filled = BAR * min(self._done, self._total) // max(1, self._total)
            self._stream.write(f"\r{self._name} [{'#' * filled}{'.' * (BAR - filled)}] {self._said()}")
            self._stream.flush()
        elif time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            self._stream.write(f"{self._name} {self._said()}\n")
            self._stream.flush()

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        self._stream.write(f"\r\033[K{line}\n" if self._on_terminal else f"{line}\n")
        self._stream.flush()
        self.advance(0)

    def end(self) -> None:
        """Leaves the bar as it is."""
        self._stream.write("\n" if self._on_terminal else f"{self._name} {self._said()}\n")

    def _said(self) -> str:
        return f"{self._done:,}/{self._total:,}"


def agreed(question: str) -> bool:
    """Whether the operator says yes; nobody who could be asked is a no."""
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False
