"""Uvicorn's protocols, bounded against peers that send without end, never read, or fall silent: for `--http` and `--ws`."""

import asyncio
import socket
import struct
from functools import partial

import h11
from starlette.types import Scope
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

CUT = "chat_api.cut"
ACKNOWLEDGED_WITHIN_S = 20
"""How long a peer may leave bytes unacknowledged before the connection counts as lost, where the system can tell."""
MOST_FRAGMENTS = 64
"""Into which a client may break one message."""
http11.MAX_LINE_LENGTH = 16 * 1024
"""Of a handshake, in bytes: a header with a token that is too long is read, for whoever verifies it to refuse."""
NO_LINGER = struct.pack("ii", 1, 0)


def cut(scope: Scope) -> None:
    """Ends a request's connection at once, with what was not sent yet. Under other protocols it does nothing."""
    if found := scope.get("extensions", {}).get(CUT):
        found["end"]()


def _end(transport: asyncio.Transport) -> None:
    """Closes a connection at once; what its peer does not take is not left to the system to send either."""
    connection = transport.get_extra_info("socket")
    if connection and transport.get_write_buffer_size():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()


class _Deadline:
    """Ends a connection unless it is met in time."""

    def __init__(self, seconds: float, transport: asyncio.Transport) -> None:
        self._seconds, self._transport = seconds, transport
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """The time runs, from when it was first set."""
        if self._timer is None and not self._transport.is_closing():
            self._timer = asyncio.get_running_loop().call_later(self._seconds, _end, self._transport)

    def met(self) -> None:
        """The time stops."""
        if self._timer:
            self._timer.cancel()
            self._timer = None


class BoundedHttp(H11Protocol):
    """HTTP/1.1. A connection ends when a request does not arrive in time, or its answer is not read."""

    request_within_s = 20.0
    """How long a request may take to arrive, its body included."""
    read_within_s = 15.0
    """How long an answer may wait for a client that does not read; streams have a shorter limit of their own."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self._arrival = _Deadline(self.request_within_s, transport)
        self._reading = _Deadline(self.read_within_s, transport)
        connection = transport.get_extra_info("socket")
        if connection and hasattr(socket, "TCP_USER_TIMEOUT"):
            limit_ms = 1000 * ACKNOWLEDGED_WITHIN_S
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)
        self._arrival.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        self._arrival.met()
        self._reading.met()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Waits while a request is on its way; between two of them uvicorn's own limit holds."""
        super().data_received(data)
        if self.transport.get_protocol() is self:
            arriving = self.conn.their_state in {h11.IDLE, h11.SEND_BODY}
            (self._arrival.set if arriving else self._arrival.met)()

    def handle_events(self) -> None:
        """Has what serves a request know how to end the connection."""
        super().handle_events()
        if self.scope:
            self.scope.setdefault("extensions", {})[CUT] = {"end": partial(_end, self.transport)}

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leaves the connection to the WebSocket."""
        self._arrival.met()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """Begins to wait for a client that does not read."""
        super().pause_writing()
        self._reading.set()

    def resume_writing(self) -> None:
        """The client reads."""
        self._reading.met()
        super().resume_writing()


class BoundedSocket(WebSocketsSansIOProtocol):
    """A WebSocket that does not read from a peer that does not read, and that ends in time when it is closed."""

    def data_received(self, data: bytes) -> None:
        """Takes what came. A handshake that can't be read is answered, which ends its connection."""
        super().data_received(data)
        if self.conn.handshake_exc and not self.handshake_initiated:
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Has what serves the socket know how to end the connection."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][CUT] = {"end": partial(_end, self.transport)}
        # Headers are in the scope by now; here an idle socket would keep them for hours.
        event.headers.clear()

    def pause_writing(self) -> None:
        """Reads no more: each ping would make another pong that waits to be sent."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Reads on, unless messages wait to be taken."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message."""
        message = await super().receive()
        if not self.writable.is_set():
            self.transport.pause_reading()
        return message

    def handle_cont(self, event: Frame) -> None:
        """Takes a piece of a message. One in too many pieces, which may be empty, closes the socket as too big."""
        if len(self.frames) < MOST_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.send_close(CloseCode.MESSAGE_TOO_BIG)
            self.handle_parser_exception()

    async def send(self, message: ASGISendEvent) -> None:
        """Sends a message. After a close frame the connection ends in time, read or not."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.response.headers.clear()
        elif message["type"] == "websocket.close":
            self._end_in_time()

    async def run_asgi(self) -> None:
        """Serves the socket. What is left to be sent at its end is sent in time or not at all."""
        await super().run_asgi()
        self._end_in_time()

    def keepalive_timeout(self) -> None:
        """Ends a connection whose peer does not answer pings."""
        super().keepalive_timeout()
        _end(self.transport)

    def _end_in_time(self) -> None:
        if self.close_timer:
            self.close_timer.cancel()
        if not self.disconnected:
            self.close_timer = self.loop.call_later(self.close_timeout, _end, self.transport)
