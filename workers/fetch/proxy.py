"""A proxy for a browser that renders a tenant's page: what it asks for goes through the address guard."""

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from threading import Lock, Thread
from types import TracebackType
from typing import Final, Self

import httpcore2

from chat_api.core.errors import InvalidUrl, ServiceError, TooLarge
from workers.fetch.limits import CURRENT, Exchange
from workers.fetch.network import GuardedBackend
from workers.fetch.urls import normal_host, parse_url

MAX_CONNECTIONS: Final = 200
"""Of one page with all that it loads."""
HEAD_BYTES: Final = 32 * 1024
PIECE: Final = 64 * 1024
IDLE_S: Final = 5.0

_CONNECT = re.compile(r"CONNECT ([^\s/]+):(\d{1,5}) HTTP/1\.[01]")
_REQUEST = re.compile(r"([A-Z]{3,7}) (http://\S+) HTTP/1\.[01]")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$")
_HOP_BY_HOP = re.compile(rb"(?im)^(?:proxy-[\w-]+|connection|keep-alive|te|upgrade):[^\n]*\n")
_OPENED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class GuardedProxy:
    """Serves one rendering, within one exchange's time and bytes; ends every connection when it is closed."""

    def __init__(self, listener: socket.socket, backend: GuardedBackend, exchange: Exchange) -> None:
        """`listener` is where the browser finds it; it is closed at the end."""
        self._listener, self._backend, self._exchange = listener, backend, exchange
        self._open: set[socket.socket] = set()
        self._lock = Lock()
        self._accepted = 0
        self.refused: dict[tuple[str, int], ServiceError] = {}
        """By host and port, why it was not dialled or not reached."""

    def __enter__(self) -> Self:
        Thread(target=self._accept, name="render-proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._accepted += 1
                if self._accepted > MAX_CONNECTIONS:
                    connection.close()
                    continue
                Thread(target=self._serve, args=(connection,), name="render-proxy", daemon=True).start()

    def _serve(self, browser: socket.socket) -> None:
        CURRENT.set(self._exchange)
        with self._lock:
            self._open.add(browser)
        try:
            with browser, contextlib.suppress(OSError, ServiceError, httpcore2.NetworkError):
                browser.settimeout(self._exchange.remaining())
                self._answer(browser)
        finally:
            with self._lock:
                self._open.discard(browser)

    def _answer(self, browser: socket.socket) -> None:
        head, rest = _read_head(lambda: browser.recv(PIECE))
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        if tunnel := _CONNECT.fullmatch(line):
            with self._dialled(browser, normal_host(tunnel[1]), int(tunnel[2])) as server:
                browser.sendall(_OPENED)
                self._relay(browser, server, one_way=False)
        elif plain := _REQUEST.fullmatch(line):
            url = parse_url(plain[2])
            with self._dialled(browser, url.host, url.port) as server:
                fields = _HOP_BY_HOP.sub(b"", head.split(b"\r\n", 1)[1])
                server.write(f"{plain[1]} {url.target} HTTP/1.1\r\nConnection: close\r\n".encode() + fields)
                self._send_body(browser, server, rest, int(found[1]) if (found := _LENGTH.search(head)) else 0)
                _send_head(server, browser)
                self._relay(browser, server, one_way=True)
        else:
            browser.sendall(_REFUSED)

    @contextlib.contextmanager
    def _dialled(self, browser: socket.socket, host: str, port: int) -> Iterator[httpcore2.NetworkStream]:
        try:
            server = self._backend.connect_tcp(host, port)
        except ServiceError as error:
            self.refused.setdefault((host, port), error)
            browser.sendall(_REFUSED)
            raise
        try:
            yield server
        finally:
            server.close()

    def _send_body(self, browser: socket.socket, server: httpcore2.NetworkStream, rest: bytes, length: int) -> None:
        if length > self._exchange.max_bytes:
            raise TooLarge
        server.write(rest[:length])
        left = length - len(rest)
        while left > 0 and (piece := browser.recv(min(left, PIECE))):
            server.write(piece)
            left -= len(piece)

    def _relay(self, browser: socket.socket, server: httpcore2.NetworkStream, *, one_way: bool) -> None:
        """Carries bytes until either side ends; `one_way` ones alone from the server, whose answer is under way."""
        back = Thread(target=self._pump_back, args=(server, browser), name="render-proxy", daemon=True)
        back.start()
        with contextlib.suppress(OSError, ServiceError, httpcore2.NetworkError):
            while piece := browser.recv(PIECE):
                if not one_way:
                    server.write(piece)
        server.close()
        back.join(IDLE_S)

    def _pump_back(self, server: httpcore2.NetworkStream, browser: socket.socket) -> None:
        CURRENT.set(self._exchange)
        with contextlib.suppress(OSError, ServiceError, httpcore2.NetworkError):
            while piece := server.read(PIECE):
                browser.sendall(piece)
        with contextlib.suppress(OSError):
            browser.shutdown(socket.SHUT_RDWR)


def _send_head(server: httpcore2.NetworkStream, browser: socket.socket) -> None:
    """Passes an answer's head on, said to be the connection's last: the next request may be for another server."""
    head, rest = _read_head(lambda: server.read(PIECE))
    status, _, fields = head.partition(b"\r\n")
    browser.sendall(status + b"\r\nConnection: close\r\n" + _HOP_BY_HOP.sub(b"", fields) + rest)


def _read_head(receive: Callable[[], bytes]) -> tuple[bytes, bytes]:
    """A message's head with its empty line, and what came after it. Raises InvalidUrl for none, or a huge one."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = receive()
        if not piece or len(data) > HEAD_BYTES:
            raise InvalidUrl
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest
