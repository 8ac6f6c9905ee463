"""Which stack the stand-in dashboard works on: the one that stack.json describes at the moment."""

from pathlib import Path
from threading import Lock
from typing import Annotated

from fastapi import Depends, Request

from deploy.local.client import DashboardClient, read_stack


class StackFile:
    """The client for the present stack: a process that moved to another port is followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._seen: tuple[int, int] | None = None
        self._client: DashboardClient

    def client(self) -> DashboardClient:
        """A client of the present stack; OSError or ValueError while there is none."""
        with self._lock:
            stat = self._path.stat()
            if self._seen != (stat.st_mtime_ns, stat.st_ino):
                self._client = DashboardClient(read_stack(self._path))
                self._seen = (stat.st_mtime_ns, stat.st_ino)
            return self._client


def present_client(request: Request) -> DashboardClient:
    """The client of the application's `state.stack_file`."""
    stack_file: StackFile = request.app.state.stack_file
    return stack_file.client()


Client = Annotated[DashboardClient, Depends(present_client)]
