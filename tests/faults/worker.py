"""The pool as the bench starts it: documents that open doors or kill their worker, a shorter lease, a mechanism taken out.

Importing it prepares the process: the pool's children are spawned, and import it as their main module.
"""

import http.client
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from chat_api.core.errors import TrainingError
from chat_api.core.settings import Settings
from tests.faults import breaks
from tests.faults.signs import AT_DOOR, BREAK, DEATHS, DOORS, KILLER, LEASE_S, SITE

_killer = re.compile(KILLER.format(name=r"(\w+)").encode())
_door = re.compile(AT_DOOR.format(stage="(extract|chunk)", name=r"(\w+)").encode())

breaks.prepare(os.environ.get(BREAK, ""), float(os.environ.get(LEASE_S) or 60))

# Only now: from here on modules keep what they import.
from workers import jobs  # noqa: E402
from workers.__main__ import main  # noqa: E402
from workers.bootstrap import Collaborators, bootstrap  # noqa: E402
from workers.documents import Block, Document, Fetched  # noqa: E402
from workers.extract.sandbox import Sandbox  # noqa: E402


class Tampering(Sandbox):
    """The sandbox, for documents that say what befalls the worker that reads them."""

    def extract_many(
        self, items: Sequence[tuple[Fetched, str | None]], *, check: Callable[[], None] | None = None
    ) -> list[Document | TrainingError]:
        """The documents; behind a door when one says so, or never."""
        doors = [_door.search(fetched.body) for fetched, _ in items]
        for fetched, _ in items:
            if killer := _killer.search(fetched.body):
                tell(f"{DEATHS}{killer[1].decode()}/{os.getpid()}")
                os.kill(os.getpid(), signal.SIGKILL)
        for door in doors:
            if door and door[1] == b"extract":
                tell(DOORS + door[2].decode())
        outcomes = super().extract_many(items, check=check)
        return [_guarded(outcome, door) for outcome, door in zip(outcomes, doors, strict=True)]


def _guarded(outcome: Document | TrainingError, door: re.Match[bytes] | None) -> Document | TrainingError:
    if isinstance(outcome, TrainingError) or not door or door[1] != b"chunk":
        return outcome
    return replace(outcome, blocks=Guarded(outcome.blocks, DOORS + door[2].decode()))


class Guarded(tuple[Block, ...]):
    """A document's blocks behind a door: whoever begins to cut them waits there."""

    path: str

    def __new__(cls, blocks: tuple[Block, ...], path: str) -> "Guarded":
        """The same blocks."""
        made = super().__new__(cls, blocks)
        made.path = path
        return made

    def __iter__(self) -> Iterator[Block]:
        tell(self.path)
        return super().__iter__()


def tell(path: str) -> None:
    """Ask the bench's own site for a path, and wait for as long as it makes us wait."""
    host, _, port = os.environ[SITE].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=900)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except OSError:
        time.sleep(0.1)  # the bench has ended
    finally:
        connection.close()


def tampered(settings: Settings, **options: Any) -> Collaborators:
    """The worker's collaborators with a sandbox that can be tampered with."""
    sandbox = Tampering(memory_mb=settings.parser_memory_mb, timeout_s=settings.parser_timeout_s)
    return bootstrap(settings, extractor=sandbox, **options)


vars(jobs)["bootstrap"] = tampered

if __name__ == "__main__":
    sys.exit(main())
