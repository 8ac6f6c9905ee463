"""Web servers on loopback that behave exactly as a test says, byte for byte, and count who comes."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from threading import Event, Thread

import pytest

from chat_api.core.errors import ServiceError
from workers.fetch.addresses import AddressGuard
from workers.fetch.client import SafeClient
from workers.fetch.limits import FetchLimits
from workers.fetch.manners import Manners
from workers.fetch.network import Connect, Resolver, system_resolver

Script = Callable[[socket.socket, Event], None]
"""Writes to a connection until done or until the event says that the test is over."""

TLS_HANDSHAKE = 0x16
SHORT = FetchLimits(timeout_s=5, connect_timeout_s=5, max_bytes=100_000)
HASTY = FetchLimits(timeout_s=0.2, max_bytes=100_000)


def reply(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer; a header's name is given with `_` for `-`. Content-Length is right unless given."""
    fields = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    """An answer that leads to `location`."""
    return reply(b"moved", status, Location=location)


class Site:
    """A server with an answer per request target; 404 for all others."""

    def __init__(
        self,
        pages: Mapping[str, bytes | Script] | None = None,
        tls: ssl.SSLContext | None = None,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> None:
        self.pages = dict(pages or {})
        self.connects = 0
        self.requests: list[bytes] = []
        self._tls = tls
        self._over = Event()
        self._listener = socket.socket(family)
        self._listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The address of `path` here."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def close(self) -> None:
        """Ends the server and what it still writes."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connects += 1
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with contextlib.suppress(OSError), connection:
            stream = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with stream:
                while self._answer(stream):
                    pass

    def _answer(self, stream: socket.socket) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = stream.recv(65_536)
            if not data:
                return False
            head += data
            if head[0] == TLS_HANDSHAKE:
                stream.sendall(reply(b"", "400 Bad Request"))
                return False
        self.requests.append(head)
        answer = self.pages.get(head.split(b" ")[1].decode(), reply(b"", "404 Not Found"))
        if isinstance(answer, bytes):
            stream.sendall(answer)
            return True
        answer(stream, self._over)
        return False


@contextlib.contextmanager
def serving(
    pages: Mapping[str, bytes | Script] | None = None,
    tls: ssl.SSLContext | None = None,
    family: socket.AddressFamily = socket.AF_INET,
) -> Iterator[Site]:
    """A site for the length of a test."""
    site = Site(pages, tls, family)
    try:
        yield site
    finally:
        site.close()


def client_of(
    *sites: Site,
    limits: FetchLimits = SHORT,
    allow: str = "",
    resolve: Resolver = system_resolver,
    connect: Connect = socket.create_connection,
    trust: ssl.SSLContext | None = None,
    manners: Manners | None = None,
) -> SafeClient:
    """A client that may reach these sites at 127.0.0.1, and what `allow` says."""
    entries = [f"127.0.0.1:{site.port}" for site in sites] + ([allow] if allow else [])
    guard = AddressGuard.parse(",".join(entries))
    return SafeClient(limits, guard, resolve=resolve, connect=connect, ssl_context=trust or _TRUST, manners=manners)


def failure(answer: bytes | Script, error: type[ServiceError], limits: FetchLimits = SHORT) -> ServiceError:
    """The error, exactly of this class, that a server with this one answer ends in."""
    with serving({"/": answer}) as site, client_of(site, limits=limits) as client, pytest.raises(error) as raised:
        client.get(site.url())
    assert type(raised.value) is error
    return raised.value


# Reading the system's certificates takes longer than most tests.
_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
