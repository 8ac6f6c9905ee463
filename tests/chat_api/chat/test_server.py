"""What ends a connection that would otherwise stay: silence, dribbled requests, unread answers, and frames without end."""

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from chat_api.core.settings import Settings
from chat_api.server import MOST_FRAGMENTS, BoundedHttp
from tests.chat_api.chat_world import Chat, serving, wait_until
from tests.hostile.sockets_wire import CONTINUATION, PING, TEXT, framed, handshake

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]

PARCELS = "Parcels ordered by 11:30 leave on the same day."
TCP_CLOSED = 7
LIMIT = 64 * 2**20
"""Bytes, more than all buffers between two processes hold."""


class Impatient(BoundedHttp):
    """As it is served, only sooner."""

    request_within_s = 0.3


@pytest.fixture(scope="module")
def impatient(chat_settings: Settings) -> Iterator[str]:
    with serving(chat_settings, http=Impatient) as address:
        yield address


@contextlib.contextmanager
def connection(address: str, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A bare connection to the API."""
    host, port = address.split("/")[2].split(":")
    with socket.socket() as opened:
        if receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        opened.settimeout(30)
        opened.connect((host, int(port)))
        yield opened


def greeted(opened: socket.socket, token: str) -> None:
    """Makes it a visitor's socket; what is sent before the server's answer would be lost."""
    opened.sendall(handshake(token))
    read = b""
    while b'"ready"' not in read:
        read += opened.recv(4096)


def read_to_the_end(opened: socket.socket) -> bytes:
    read = b""
    with contextlib.suppress(ConnectionResetError):
        while more := opened.recv(65_536):
            read += more
    return read


@pytest.mark.parametrize(
    "said",
    [
        b"", b"GET", handshake()[:60], b"POST /api/search HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea",
    ],
)  # fmt: skip
def test_a_request_that_does_not_arrive_ends_its_connection(impatient: str, said: bytes) -> None:
    with connection(impatient) as silent:
        silent.sendall(said)
        read_to_the_end(silent)


@pytest.mark.parametrize("more", [b"X: " + b"x" * 20_000 + b"\r\n", b"X: x\r\n" * 200])
def test_a_handshake_that_can_not_be_read_is_answered_and_ends(chat: Chat, more: bytes) -> None:
    with connection(chat.ws_url) as greedy:
        greedy.sendall(handshake()[:-2] + more + b"\r\n")
        assert read_to_the_end(greedy).startswith(b"HTTP/1.1 431 ")


def test_a_request_that_arrived_has_all_the_time_it_takes(impatient: str, chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.controls.token_delay_ms = 100
    with Chat(impatient, chat.chat_dsn, chat.dashboard_dsn, chat.provider).visit(bot) as visit:
        assert visit.asked()[-1]["type"] == "done"


def test_a_reader_that_never_reads_is_rid_of(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, max_tokens=16_000)
    chat.provider.controls.answers.append(" ".join(["x" * 20_000] * 2_000))
    with connection(chat.ws_url, receive_buffer=4096) as unread:
        greeted(unread, bot.token())
        unread.sendall(framed(b'{"type":"ask","id":"q1","text":"What is it?"}'))
        wait_until(lambda: unread.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSED, 40)
    assert chat.provider.counts.client_closed == 1


def test_who_reads_no_pongs_is_not_read_from(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    pings = framed(b"x" * 125, PING) * 500
    with connection(chat.ws_url, receive_buffer=4096) as flooding:
        greeted(flooding, bot.token())
        flooding.setblocking(False)
        sent = 0
        while sent < LIMIT and select.select([], [flooding], [], 2)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += flooding.send(pings)
    assert sent < LIMIT


@pytest.mark.parametrize(
    ("pieces", "answer"), [(10 * MOST_FRAGMENTS, b"\x88\x02\x03\xf1"), (MOST_FRAGMENTS - 2, b"pong")]
)
def test_a_message_in_endless_pieces_is_too_big(chat: Chat, pieces: int, answer: bytes) -> None:
    with connection(chat.ws_url) as torn:
        greeted(torn, chat.add_bot(PARCELS).token())
        torn.sendall(framed(b"", TEXT, last=False))
        torn.sendall(framed(b"", CONTINUATION, last=False) * pieces)
        torn.sendall(framed(b'{"type":"ping"}', CONTINUATION))
        read = b""
        while answer not in read:
            more = torn.recv(4096)
            assert more, read
            read += more
