"""The safe client with servers that don't behave: each ends in one typed error, within its limits."""

import gzip
import socket
import zlib
from dataclasses import replace
from threading import Event

import pytest

from chat_api.core.errors import BadResponse, FetchFailed, FetchTimeout, ServiceError, TooLarge
from tests.workers.fetch.loopback import HASTY, SHORT, Script, client_of, failure, redirect, reply, serving

HEAD = b"HTTP/1.1 200 OK\r\n"
BODY_OF_100 = HEAD + b"Content-Length: 100\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b"\0" * 3_000_000)


def trickle(start: bytes, drop: bytes) -> Script:
    """Sends `start`, then `drop` again and again, slowly."""

    def write(connection: socket.socket, over: Event) -> None:
        connection.sendall(start)
        while not over.wait(0.02):
            connection.sendall(drop)

    return write


def flood(start: bytes, piece: bytes) -> Script:
    """Sends `start`, then `piece` again and again, as fast as it is read."""

    def write(connection: socket.socket, over: Event) -> None:
        connection.sendall(start)
        while not over.is_set():
            connection.sendall(piece)

    return write


def silent(start: bytes = b"") -> Script:
    """Sends `start` and no more, without hanging up."""

    def write(connection: socket.socket, over: Event) -> None:
        connection.sendall(start)
        over.wait(10)

    return write


def cut(start: bytes) -> Script:
    """Sends `start` and hangs up."""

    def write(connection: socket.socket, over: Event) -> None:
        connection.sendall(start)

    return write


SLOW: dict[str, Script] = {
    "says nothing": silent(),
    "stops in the status line": silent(b"HTTP/1.1 20"),
    "stops in the headers": silent(HEAD + b"Content-Type: te"),
    "stops before the body": silent(BODY_OF_100),
    "stops in the body": silent(BODY_OF_100 + b"abc"),
    "stops in a chunk": silent(CHUNKED + b"5\r\nab"),
    "stops before the last chunk": silent(CHUNKED + b"5\r\nhello\r\n"),
    "trickles its status line": trickle(b"", b"H"),
    "trickles headers": trickle(HEAD, b"X-A: b\r\n"),
    "trickles interim answers": trickle(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "trickles a body": trickle(BODY_OF_100, b"x"),
    "trickles a body without length": trickle(HEAD + b"\r\n", b"x"),
    "trickles chunks": trickle(CHUNKED, b"1\r\nx\r\n"),
    "trickles a refusal's body": trickle(b"HTTP/1.1 404 No\r\n\r\n", b"x"),
    "trickles a redirect's body": trickle(b"HTTP/1.1 302 No\r\nLocation: /x\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("behaviour", SLOW)
def test_a_slow_server_ends_at_the_deadline(behaviour: str) -> None:
    assert "127.0.0.1" in failure(SLOW[behaviour], FetchTimeout, HASTY).message


def test_the_deadline_covers_all_redirects_together() -> None:
    def later(number: int) -> Script:
        def write(connection: socket.socket, over: Event) -> None:
            over.wait(0.1)
            connection.sendall(redirect(f"/{number + 1}"))

        return write

    pages: dict[str, bytes | Script] = {f"/{number}": later(number) for number in range(4)}
    with serving({**pages, "/4": reply(b"page")}) as site, client_of(site) as patient:
        assert patient.get(site.url("/0")).body == b"page"
        with client_of(site, limits=HASTY) as client, pytest.raises(FetchTimeout):
            client.get(site.url("/0"))


def test_a_server_that_trickles_is_given_up_before_the_deadline() -> None:
    limits = replace(SHORT, timeout_s=60, patience_s=0.1, min_rate=10_000)
    assert "slowly" in failure(trickle(BODY_OF_100, b"x"), FetchTimeout, limits).message


def test_a_name_server_that_hangs_ends_at_the_deadline() -> None:
    over = Event()

    def resolve(host: str, port: int) -> list[str]:
        over.wait(10)
        return ["127.0.0.1"]

    with client_of(limits=HASTY, resolve=resolve) as client, pytest.raises(FetchTimeout):
        client.get("http://www.example.com/")
    over.set()


def test_a_tls_handshake_that_hangs_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with client_of(limits=HASTY, allow=f"127.0.0.1:{port}") as client, pytest.raises(FetchTimeout):
            client.get(f"https://127.0.0.1:{port}/")


LARGE: dict[str, bytes | Script] = {
    "announces too much": HEAD + b"Content-Length: 100001\r\n\r\n",
    "announces far too much": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "never ends": flood(HEAD + b"\r\n", b"x" * 50_000),
    "never ends in chunks": flood(CHUNKED, b"C350\r\n" + b"x" * 50_000 + b"\r\n"),
    "never ends in tiny chunks with long extensions": flood(CHUNKED, b"1;" + b"e" * 5_000 + b"\r\nx\r\n"),
    "never ends its interim answers": flood(b"", b"HTTP/1.1 102 P\r\nX: " + b"y" * 5_000 + b"\r\n\r\n"),
    "sends a gzip bomb": reply(BOMB, Content_Encoding="gzip"),
    "sends a zlib bomb": reply(zlib.compress(b"\0" * 3_000_000), Content_Encoding="deflate"),
    "sends a bomb in many members": reply(gzip.compress(b"\0" * 900) * 200, Content_Encoding="gzip"),
    "sends too much that decodes to little": flood(
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x"), b"\0" * 50_000
    ),
}


@pytest.mark.parametrize("behaviour", LARGE)
def test_a_body_over_the_limit_is_too_large(behaviour: str) -> None:
    assert "100,000 bytes" in failure(LARGE[behaviour], TooLarge).message


def test_a_caller_s_own_limit_counts() -> None:
    with serving({"/": reply(b"x" * 1_000)}) as site, client_of(site) as client:
        assert len(client.get(site.url(), max_bytes=1_000).body) == 1_000
        with pytest.raises(TooLarge):
            client.get(site.url(), max_bytes=999)


def test_a_refusal_with_an_endless_body_is_still_that_refusal() -> None:
    pages: dict[str, bytes | Script] = {
        "/": flood(b"HTTP/1.1 503 Away\r\n\r\n", b"x" * 50_000),
        "/ok": reply(b"page"),
    }
    with serving(pages) as site, client_of(site) as client:
        assert client.answer(site.url()).fetched.status == 503
        assert client.get(site.url("/ok")).body == b"page"


BROKEN: dict[str, tuple[bytes | Script, type[ServiceError]]] = {
    "hangs up at once": (cut(b""), FetchFailed),
    "hangs up in the headers": (cut(HEAD + b"Content-"), FetchFailed),
    "sends less than it announced": (cut(BODY_OF_100 + b"abc"), FetchFailed),
    "hangs up in a chunk": (cut(CHUNKED + b"5\r\nab"), FetchFailed),
    "hangs up before the last chunk": (cut(CHUNKED + b"5\r\nhello\r\n"), FetchFailed),
    "cuts a gzip short": (reply(gzip.compress(b"x" * 999)[:-9], Content_Encoding="gzip"), FetchFailed),
    "cuts a deflate short": (reply(zlib.compress(b"x" * 999)[:-5], Content_Encoding="deflate"), FetchFailed),
    "speaks no HTTP": (cut(b"SSH-2.0-OpenSSH_9.2\r\n"), FetchFailed),
    "sends headers without end": (flood(HEAD, b"X-A: " + b"y" * 5_000 + b"\r\n"), FetchFailed),
    "sends one endless header": (flood(HEAD + b"X: ", b"y" * 5_000), FetchFailed),
    "lies about a chunk's size": (cut(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"), FetchFailed),
    "sends two lengths": (cut(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), FetchFailed),
    "sends a length that is no number": (cut(HEAD + b"Content-Length: 0x5\r\n\r\nhello"), FetchFailed),
    "sends a NUL in a header": (cut(HEAD + b"X: a\0b\r\n\r\n"), FetchFailed),
    "changes the protocol": (cut(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), FetchFailed),
    "sends what was not asked for": (reply(b"x", Content_Encoding="br"), BadResponse),
    "sends several codings": (reply(gzip.compress(BOMB), Content_Encoding="gzip, gzip"), BadResponse),
    "sends several codings in two headers": (
        cut(HEAD + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\n"), BadResponse
    ),
    "sends damaged gzip": (reply(b"\x1f\x8b\x08\x00garbage....", Content_Encoding="gzip"), BadResponse),
    "says gzip and sends text": (reply(b"plain text", Content_Encoding="gzip"), BadResponse),
}  # fmt: skip


@pytest.mark.parametrize("behaviour", BROKEN)
def test_a_broken_answer_is_one_typed_error(behaviour: str) -> None:
    assert failure(*BROKEN[behaviour]).message.endswith(".")


def test_after_a_bad_answer_the_client_goes_on() -> None:
    pages: dict[str, bytes | Script] = {"/bad": cut(BODY_OF_100 + b"abc"), "/ok": reply(b"page")}
    with serving(pages) as site, client_of(site, limits=replace(SHORT, max_connections=1)) as client:
        for _ in range(3):
            with pytest.raises(FetchFailed):
                client.get(site.url("/bad"))
            assert client.get(site.url("/ok")).body == b"page"
