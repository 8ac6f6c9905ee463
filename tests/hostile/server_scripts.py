"""Servers that don't behave, byte for byte: slow, endless, lying, broken."""

import gzip
import socket
import zlib
from threading import Event

from chat_api.core.errors import BadResponse, FetchFailed, InvalidUrl, ServiceError, TooManyRedirects
from tests.workers.fetch.loopback import Script, redirect, reply

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
    "sends brotli that was not asked for": (reply(b"\x1b\x03\x00\xf8\xff", Content_Encoding="br"), BadResponse),
    "sends zstd that was not asked for": (reply(b"\x28\xb5\x2f\xfd\x04\x00", Content_Encoding="zstd"), BadResponse),
    "sends zstd in gzip": (reply(gzip.compress(b"\x28\xb5\x2f\xfd"), Content_Encoding="zstd, gzip"), BadResponse),
    "sends damaged gzip": (reply(b"\x1f\x8b\x08\x00garbage....", Content_Encoding="gzip"), BadResponse),
    "says gzip and sends text": (reply(b"plain text", Content_Encoding="gzip"), BadResponse),
}  # fmt: skip

REDIRECTING: dict[str, tuple[bytes | Script, type[ServiceError]]] = {
    "redirects to itself": (redirect("/"), TooManyRedirects),
    "redirects to itself by a fragment": (redirect("#a"), TooManyRedirects),
    "redirects to nowhere": (redirect(""), TooManyRedirects),
    "redirects without saying where": (reply(b"", "302 Found"), BadResponse),
    "redirects to a script": (redirect("javascript:alert(1)"), InvalidUrl),
    "redirects to a file": (redirect("file:///etc/passwd"), InvalidUrl),
    "redirects to a user": (redirect("http://user:pass@www.example.com/"), InvalidUrl),
    "redirects to a name with a gap": (redirect("http://exa mple/"), InvalidUrl),
    "redirects to an endless name": (redirect("http://" + "a" * 30_000), InvalidUrl),
    "chooses not to choose": (reply(b"a b c", "300 Multiple Choices"), BadResponse),
    "has not been modified unasked": (reply(b"", "304 Not Modified"), BadResponse),
}
SPEAKING: dict[str, tuple[bytes | Script, type[ServiceError]]] = {
    "speaks HTTP/0.9": (cut(b"<html>hello</html>\r\n"), FetchFailed),
    "speaks HTTP/x.y": (cut(b"HTTP/x.y 200 OK\r\n\r\nhello"), FetchFailed),
    "says a status that is no number": (cut(b"HTTP/1.1 abc OK\r\n\r\n"), FetchFailed),
    "says a status beyond all": (cut(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), FetchFailed),
    "folds its headers": (cut(HEAD + b"X: a\r\n\tb\r\n: c\r\n\r\n"), FetchFailed),
    "names a header twice as long as all may be": (cut(HEAD + b"X" * 200_000 + b": a\r\n\r\n"), FetchFailed),
    "sends thirty thousand headers": (cut(HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(30_000)) + b"\r\n"), FetchFailed),
    "sends a chunk that is too large to be": (cut(CHUNKED + b"f" * 20 + b"\r\nx\r\n0\r\n\r\n"), FetchFailed),
    "sends a chunk without a size": (cut(CHUNKED + b"\r\nx\r\n0\r\n\r\n"), FetchFailed),
    "sends a size and chunks": (
        cut(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello"), FetchFailed
    ),
    "sends a coding of the transfer that nobody knows": (
        cut(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), FetchFailed
    ),
}  # fmt: skip
