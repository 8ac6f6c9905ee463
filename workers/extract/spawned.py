"""Owns the processes that OCR starts: what they are given, what they print, and their end."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN, poll
from typing import IO

from chat_api.core.errors import TooLarge
from workers.extract.children import Pulse
from workers.extract.wire import Frames

ROOT = Path(__file__).parents[2]
MEMORY_MB = 1024
PYTHON = (sys.executable, "-s", "-m")
_READ = 1 << 20


class Ended(Exception):
    """A child ended, or its time did, before it said all."""


@contextmanager
def memory(body: bytes) -> Iterator[int]:
    """A descriptor, at its beginning, of a file that lives in memory."""
    descriptor = os.memfd_create("page", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(body)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def child_of(
    command: Sequence[str], *, file: int | None = None, stdin: int = subprocess.DEVNULL
) -> Iterator[IO[bytes]]:
    """What a command prints, whose process is gone afterwards."""
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
        pass_fds=[] if file is None else [file],
    )
    assert process.stdout  # noqa: S101  # it was asked for
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def confined(seconds: float) -> list[str]:
    """The command that becomes the program behind it, for so many seconds of CPU time."""
    return [*PYTHON, "workers.extract.program", str(MEMORY_MB), str(int(seconds) + 1)]


def environment() -> dict[str, str]:
    """Of our own, where Tesseract's data is; more threads than one it could not start."""
    known = {name: os.environ[name] for name in ("TESSDATA_PREFIX",) if name in os.environ}
    return {**known, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"}


def output(child: IO[bytes], until: float, pulse: Pulse, most: int) -> Iterator[bytes]:
    """What the child prints, as it comes. Raises Ended when time is over, TooLarge, and what the pulse raises."""
    ready, size = poll(), 0
    ready.register(child, POLLIN)
    while True:
        while not ready.poll(pulse.beat(until) * 1000):
            if time.monotonic() >= until:
                raise Ended
        part = os.read(child.fileno(), _READ)
        size += len(part)
        if size > most:
            raise TooLarge
        if not part:
            return
        yield part


def frames_of(child: IO[bytes], until: float, pulse: Pulse, most: int) -> Iterator[bytes]:
    """The frames that the child writes; at least one. Raises Ended, TooLarge, and what the pulse raises."""
    frames, met = Frames(most), 0
    for part in output(child, until, pulse, sys.maxsize):
        frames.feed(part)
        while (frame := frames.take()) is not None:
            met += 1
            yield frame
    if not met:
        raise Ended
