"""A bare WebSocket client: bytes as a hostile peer may send them, and just enough reading to see how it is answered."""

import asyncio
import struct
from collections.abc import Iterator
from typing import NamedTuple

TEXT, CONTINUATION, CLOSE, PING, PONG = 1, 0, 8, 9, 10
CONNECT_WITHIN_S = 30.0
GONE = 1006
"""The code of a connection that ends without one."""


class Received(NamedTuple):
    """A frame from the server."""

    opcode: int
    payload: bytes


def handshake(token: str | None = None) -> bytes:
    """The request for a chat socket; without a token the first frame is to bring it."""
    identity = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        "GET /api/chat/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: chat.v1\r\n{identity}\r\n"
    ).encode()


def framed(payload: bytes, opcode: int = TEXT, *, last: bool = True, declared: int | None = None) -> bytes:
    """A client's frame, masked with zeros; `declared`: the length that it claims to have."""
    length = len(payload) if declared is None else declared
    head = bytes([opcode | (0x80 if last else 0)])
    if length < 126:
        return head + bytes([0x80 | length]) + bytes(4) + payload
    if length < 2**16:
        return head + b"\xfe" + struct.pack("!H", length) + bytes(4) + payload
    return head + b"\xff" + struct.pack("!Q", length) + bytes(4) + payload


def parsed(buffer: bytearray) -> Iterator[Received]:
    """The whole frames at the buffer's start, which are taken out of it."""
    while len(buffer) >= 2:
        length, start = buffer[1] & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(buffer[2 : 2 + size]), 2 + size
        if len(buffer) < start + length:
            return
        frame = Received(buffer[0] & 0x0F, bytes(buffer[start : start + length]))
        del buffer[: start + length]
        yield frame


class Peer(asyncio.Protocol):
    """One connection to the API. It answers pings unless it is `silent`, and keeps nothing of what it reads."""

    __slots__ = ("_buffer", "_upgraded", "closed", "code", "greeted", "silent", "transport")

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.greeted: asyncio.Event = asyncio.Event()
        self.closed: asyncio.Event = asyncio.Event()
        self.code: int | None = None
        self._buffer, self._upgraded = bytearray(), False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Reads what the server says."""
        self._buffer += data
        if not self._upgraded:
            _, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._upgraded, self._buffer = True, rest
        for frame in parsed(self._buffer):
            self._take(frame)

    def _take(self, frame: Received) -> None:
        if frame.opcode == TEXT:
            self.greeted.set()
        elif frame.opcode == PING and not self.silent:
            self.transport.write(framed(frame.payload, PONG))
        elif frame.opcode == CLOSE:
            self.code = int.from_bytes(frame.payload[:2])
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes the end."""
        self.code = self.code or GONE
        self.closed.set()

    async def ended(self, within_s: float) -> int | None:
        """The code with which the server ended it; None when it has not."""
        try:
            async with asyncio.timeout(within_s):
                await self.closed.wait()
        except TimeoutError:
            return None
        return self.code


async def connected(port: int, source: str = "127.0.0.1", *, silent: bool = False) -> Peer:
    """A TCP connection from an address of the loopback net, with nothing said yet. Raises OSError, TimeoutError."""
    async with asyncio.timeout(CONNECT_WITHIN_S):
        _, peer = await asyncio.get_running_loop().create_connection(
            lambda: Peer(silent=silent), "127.0.0.1", port, local_addr=(source, 0)
        )
    return peer


async def visiting(port: int, token: str, source: str = "127.0.0.1", *, silent: bool = False) -> Peer:
    """A visitor's socket that was greeted. Raises OSError, TimeoutError; ConnectionError when it is refused."""
    peer = await connected(port, source, silent=silent)
    peer.transport.write(handshake(token))
    waiting = [asyncio.create_task(event.wait()) for event in (peer.greeted, peer.closed)]
    try:
        await asyncio.wait(waiting, timeout=CONNECT_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    if not peer.greeted.is_set():
        peer.transport.abort()
        raise ConnectionError(f"not greeted: {peer.code}")
    return peer
