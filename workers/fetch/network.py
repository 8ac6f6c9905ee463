"""The one place that dials: resolves, refuses forbidden answers, connects to that very address, checks the peer."""

# ruff: noqa: ARG002  (httpcore's interface has timeouts; here the exchange's deadline stands in for them)

import select
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

import httpcore2

from chat_api.core.errors import BadResponse, BlockedAddress, FetchFailed, ServiceError, UnknownHost
from workers.fetch.addresses import Address, AddressGuard, parse_address
from workers.fetch.limits import CURRENT, Exchange, FetchLimits

Resolver = Callable[[str, int], Sequence[str]]
"""Name and port to addresses, every one of them; raises socket.gaierror."""

Connect = Callable[[tuple[str, int], float], socket.socket]
"""Address and port, and seconds, to a connected socket; raises OSError."""

_DIALLED_AT_MOST: Final = 4
_NO_SUCH_NAME: Final = {socket.EAI_NONAME, socket.EAI_NODATA}


def system_resolver(host: str, port: int) -> list[str]:
    """What the operating system's resolver says."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class GuardedBackend(httpcore2.NetworkBackend):
    """Connects for httpcore, under the guard and within the current exchange; its own timeouts are not used."""

    def __init__(self, guard: AddressGuard, limits: FetchLimits, resolve: Resolver, connect: Connect) -> None:
        self._guard = guard
        self._limits = limits
        self._resolve = resolve
        self._connect = connect

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """A stream to `host`.

        Raises BlockedAddress before anything is dialled, UnknownHost, FetchFailed or FetchTimeout.
        """
        exchange = CURRENT.get()
        literal = parse_address(host)
        addresses = [literal] if literal else self._look_up(host, port, exchange)
        if not self._guard.permits(host, port, addresses):
            raise _blocked(host)
        return _GuardedStream(self._dial(host, port, addresses, exchange), host)

    def _look_up(self, host: str, port: int, exchange: Exchange) -> list[Address]:
        answers: SimpleQueue[Sequence[str] | OSError] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolve(host, port))
            except OSError as error:
                answers.put(error)

        # A thread of its own: getaddrinfo has no timeout, and one that hangs must not hold up anything else.
        Thread(target=ask, daemon=True, name="resolve").start()
        try:
            answer = answers.get(timeout=exchange.remaining(self._limits.connect_timeout_s))
        except Empty:
            raise exchange.timed_out() from None
        if isinstance(answer, OSError):
            raise _unresolved(host, answer) from answer
        parsed = [parse_address(text) for text in answer]
        if None in parsed:
            raise _blocked(host)
        return [address for address in parsed if address]

    def _dial(self, host: str, port: int, addresses: list[Address], exchange: Exchange) -> socket.socket:
        failure: OSError | None = None
        for address in addresses[:_DIALLED_AT_MOST]:
            try:
                connected = self._connect((str(address), port), exchange.remaining(self._limits.connect_timeout_s))
            except OSError as error:
                failure = error
                continue
            _check_peer(connected, address, host)
            exchange.dialled()
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        if isinstance(failure, TimeoutError):
            raise exchange.timed_out() from failure
        reason = failure.strerror if failure else "no address"
        raise FetchFailed(f"{host} could not be reached ({reason}). It is tried again by itself.") from failure


def _check_peer(connected: socket.socket, address: Address, host: str) -> None:
    if parse_address(connected.getpeername()[0]) != address:
        connected.close()
        raise _blocked(host)


def _blocked(host: str) -> BlockedAddress:
    # Names what the owner wrote, never what it resolved to: the answers of our resolver are not theirs to read.
    return BlockedAddress(f"{host} leads to a private or reserved network and is never fetched.")


def _unresolved(host: str, error: OSError) -> ServiceError:
    if error.errno in _NO_SUCH_NAME:
        return UnknownHost(f"There is no website named {host}. Check the address for a typing mistake.")
    return FetchFailed(f"The name {host} could not be looked up. It is tried again by itself.")


class _GuardedStream(httpcore2.NetworkStream):
    """A connection whose every wait ends with the current exchange's deadline."""

    def __init__(self, connected: socket.socket, host: str) -> None:
        self._socket = connected
        self._host = host

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = CURRENT.get()
        self._socket.settimeout(exchange.remaining())
        try:
            data = self._socket.recv(max_bytes)
        except TimeoutError:
            raise exchange.timed_out() from None
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error
        exchange.received(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        exchange = CURRENT.get()
        self._socket.settimeout(exchange.remaining())
        try:
            self._socket.sendall(buffer)
        except TimeoutError:
            raise exchange.timed_out() from None
        except OSError as error:
            # httpcore goes on to read after a WriteError: a server may have answered before it hung up.
            raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        exchange = CURRENT.get()
        self._socket.settimeout(exchange.remaining())
        try:
            return _GuardedStream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._host)
        except TimeoutError:
            raise exchange.timed_out() from None
        except ssl.SSLCertVerificationError as error:
            problem = error.verify_message.rstrip(".")
            raise BadResponse(f"The certificate of {self._host} is not valid: {problem}.") from error
        except OSError as error:
            raise FetchFailed(
                f"{self._host} could not agree on a secure connection. It is tried again by itself."
            ) from error

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return None
