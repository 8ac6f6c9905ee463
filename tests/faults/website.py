"""The fake websites: hosts on loopback whose pages change when told, and doors at which a request waits to be let in."""

import contextlib
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.faults.signs import DEATHS, DOORS

DOOR_S = 600
"""A door opens by itself after this, so that no thread waits for ever."""


@dataclass(slots=True)
class Door:
    """Holds the first request that comes to its path; later ones pass."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)


class Site:
    """One host: what it serves by path, with an ETag; whatever is not there, or switched to a status, says so."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, str]] = {}
        """path → (body, media type)"""
        self.statuses: dict[str, int] = {}
        """Paths that answer with this status instead."""
        self.doors: dict[str, Door] = {}
        self.hits: Counter[str] = Counter()
        self.on_death: Callable[[str], None] = lambda _: None
        """Told who says that it is about to die; it lives until this returns."""
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": self}))
        threading.Thread(target=self._server.serve_forever, name="website", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.server_address[1])

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def put(self, path: str, body: bytes, media_type: str = "text/html; charset=utf-8") -> str:
        """Serve this from now on; its address."""
        self.pages[path] = (body, media_type)
        return self.url(path)

    def door(self, path: str) -> Door:
        """Have the next request of this path wait."""
        door = self.doors[path] = Door()
        return door

    def close(self) -> None:
        """Open all doors and end."""
        for door in list(self.doors.values()):
            door.opened.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed are the bench's daily bread."""


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_GET(self) -> None:
        path = self.path
        self.site.hits[path] += 1
        door = self.site.doors.pop(path, None)
        if door:
            door.reached.set()
            door.opened.wait(DOOR_S)
        if path.startswith(DEATHS):
            self.site.on_death(path.removeprefix(DEATHS))
        if path.startswith((DOORS, DEATHS)):
            self._answer(204, b"", "text/plain")
        elif status := self.site.statuses.get(path):
            self._answer(status, b"", "text/plain")
        elif path in self.site.pages:
            self._page(*self.site.pages[path])
        else:
            self._answer(404, b"", "text/plain")

    def _page(self, body: bytes, media_type: str) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == etag:
            self._answer(304, b"", media_type, etag)
        else:
            self._answer(200, body, media_type, etag)

    def _answer(self, status: int, body: bytes, media_type: str, etag: str | None = None) -> None:
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
        if status not in {204, 304}:
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a run asks thousands of times."""


@contextlib.contextmanager
def websites(count: int) -> Iterator[list[Site]]:
    """This many hosts."""
    sites = [Site() for _ in range(count)]
    try:
        yield sites
    finally:
        for site in sites:
            site.close()
