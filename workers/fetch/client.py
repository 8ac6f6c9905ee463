"""The one HTTP client for addresses that come from a tenant: guarded, bounded, without cookies, proxies or state."""

import re
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

import httpcore2

from chat_api.core.errors import (
    BadResponse,
    FetchFailed,
    Forbidden,
    InvalidUrl,
    NotFound,
    TooManyRedirects,
    TrainingError,
)
from workers.documents import Fetched
from workers.fetch.addresses import AddressGuard
from workers.fetch.decoding import ACCEPT_ENCODING, decode, too_large
from workers.fetch.limits import CURRENT, Exchange, FetchLimits
from workers.fetch.manners import Manners
from workers.fetch.network import Connect, GuardedBackend, Resolver, system_resolver
from workers.fetch.urls import Url, join_url, parse_url

USER_AGENT: Final = "chat_api/0.1 (+website chatbot training)"
PAGES: Final = "text/html,application/xhtml+xml,application/pdf;q=0.9,text/*;q=0.8,*/*;q=0.5"

_REDIRECTS: Final = {301, 302, 303, 307, 308}
_BUSY: Final = {408, 425, 429}
_HURRIED: Final = {429, 503}
_LONGEST_WAIT_S: Final = 86_400.0
_IDLE_S: Final = 4.0  # below the 5 s after which common servers hang up
_DRAINED_AT_MOST: Final = 64 * 1024
_BETWEEN: Final = {"x-robots-tag": "\n"}  # a robot's name counts to the end of its line
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:+-]{1,40})""", re.IGNORECASE)
_LINK = re.compile(r"""<([^<>]*)>((?:[^<>",]|"[^"]*")*)""")
_REL = re.compile(r""";\s*rel\s*=\s*"?([^";]*)""", re.IGNORECASE)
_VALIDATOR = re.compile(r"[\x21-\x7e ]{1,512}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer of a redirect chain, whatever its status."""

    fetched: Fetched
    retry_after: float | None = None
    """Seconds the server asks us to wait."""


class SafeClient:
    """Fetches tenants' addresses. Keeps connections alive; one instance may be shared by a few threads."""

    def __init__(
        self,
        limits: FetchLimits,
        guard: AddressGuard,
        *,
        resolve: Resolver = system_resolver,
        connect: Connect = socket.create_connection,
        ssl_context: ssl.SSLContext | None = None,
        manners: Manners | None = None,
    ) -> None:
        self.manners = manners or Manners()
        self._limits = limits
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context or httpcore2.default_ssl_context(),
            max_connections=limits.max_connections,
            keepalive_expiry=_IDLE_S,
            network_backend=GuardedBackend(guard, limits, resolve, connect),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections."""
        self._pool.close()

    def get(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        max_bytes: int | None = None,
        accept: str = PAGES,
    ) -> Fetched:
        """The page behind `url`, after at most `max_redirects` redirects; with a validator given, maybe a bodyless 304.

        Raises InvalidUrl, BlockedAddress, UnknownHost, TooManyRedirects, TooLarge, FetchTimeout, FetchFailed,
        BadResponse, and for the status codes NotFound (404, 410), Forbidden (401, 403), FetchFailed (429, 5xx),
        BadResponse (any other).
        """
        answer = self.answer(url, etag=etag, last_modified=last_modified, max_bytes=max_bytes, accept=accept)
        conditional = answer.fetched.status == 304 and bool(etag or last_modified)
        if not (200 <= answer.fetched.status < 300 or conditional):
            raise status_error(answer)
        return answer.fetched

    def answer(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        max_bytes: int | None = None,
        accept: str = PAGES,
    ) -> Answer:
        """As `get`, but an answer of any status is returned: with its body for 2xx, without it for all else."""
        start = parse_url(url)
        headers = {"User-Agent": USER_AGENT, "Accept": accept, "Accept-Encoding": ACCEPT_ENCODING}
        validators = {"If-None-Match": _validator(etag), "If-Modified-Since": _validator(last_modified)}
        headers |= {name: value for name, value in validators.items() if value}
        exchange = Exchange(self._limits, self._limits.max_bytes if max_bytes is None else max_bytes, start.host)
        token = CURRENT.set(exchange)
        try:
            return self._follow(start, headers, exchange)
        finally:
            CURRENT.reset(token)

    def _follow(self, url: Url, headers: dict[str, str], exchange: Exchange) -> Answer:
        met: set[Url] = set()
        for _ in range(self._limits.max_redirects + 1):
            met.add(url)
            exchange.host = url.host
            answer, location = self._request(url, headers, exchange)
            if location is None:
                return answer
            url = _redirect(url, location)
            if url in met:
                raise TooManyRedirects(f"The page redirects in a circle, back to {url}.")
        raise TooManyRedirects

    def _request(self, url: Url, headers: dict[str, str], exchange: Exchange) -> tuple[Answer, str | None]:
        """One request, when it is our turn with the server: the answer, and the Location it redirects to.

        Asks again where the server ended a kept connection just as the request was sent: each time uses one up.
        """
        with self.manners.turn(url.authority) as waited_s:
            exchange.pause(waited_s)
            answer, location = self._asked(url, headers, exchange)
        if answer.fetched.status in _HURRIED and answer.retry_after:
            self.manners.hold(url.authority, answer.retry_after)
        return answer, location

    def _asked(self, url: Url, headers: dict[str, str], exchange: Exchange) -> tuple[Answer, str | None]:
        while True:
            before = exchange.progress
            try:
                return self._ask(url, headers, exchange)
            except httpcore2.TimeoutException as error:
                raise exchange.timed_out() from error
            except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
                if exchange.progress != before:
                    raise FetchFailed(
                        f"{url.host} broke off or sent an unreadable answer. It is tried again by itself."
                    ) from error

    def _ask(self, url: Url, headers: dict[str, str], exchange: Exchange) -> tuple[Answer, str | None]:
        host, target = url.host.encode("ascii"), url.target.encode("ascii")
        address = httpcore2.URL(scheme=url.scheme, host=host, port=url.port, target=target)
        patience = {"timeout": {"pool": exchange.remaining()}}
        with self._pool.stream(
            "GET", address, headers=[("Host", url.authority), *headers.items()], extensions=patience
        ) as response:
            fields = _fields(response.headers)
            fetched = _described(url, response.status, fields)
            if 200 <= response.status < 300:
                return Answer(replace(fetched, body=_body(response, fields, exchange.max_bytes))), None
            _drain(response)
            location = fields.get("location") if response.status in _REDIRECTS else None
            return Answer(fetched, _retry_after(fields)), location


def status_error(answer: Answer) -> TrainingError:
    """The typed error for an answer that brought no page, with its `http_status`."""
    error = _error_of(answer.fetched.status, parse_url(answer.fetched.url).host, answer.retry_after)
    error.http_status = answer.fetched.status
    return error


def _error_of(status: int, host: str, retry_after: float | None) -> TrainingError:
    if status in {404, 410}:
        return NotFound(f"The page does not exist: {host} answered {status}. Check the address.")
    if status in {401, 403}:
        return Forbidden(f"The page needs a login ({host} answered {status}). Make it public or upload its text.")
    if status in _BUSY or status >= 500:
        return FetchFailed(
            f"{host} answered with an error ({status}). It is tried again by itself.", retry_after=retry_after
        )
    return BadResponse(f"{host} refused to send the page ({status}). Check that it opens in a browser.")


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header fields by lower-case name; repeated ones are joined by commas, or as lines where commas may not be shared."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        fields[name] = f"{fields[name]}{_BETWEEN.get(name, ', ')}{value}" if name in fields else value
    return fields


def _described(url: Url, status: int, fields: dict[str, str]) -> Fetched:
    content_type = fields.get("content-type", "")
    charset = _CHARSET.search(content_type)
    return Fetched(
        url=str(url),
        status=status,
        body=b"",
        media_type=content_type.partition(";")[0].strip().lower() or None,
        charset=charset[1].lower() if charset else None,
        etag=_validator(fields.get("etag")),
        last_modified=_validator(fields.get("last-modified")),
        fetched_at=datetime.now(UTC),
        robots=fields.get("x-robots-tag"),
        canonical_url=_canonical(url, fields.get("link", "")),
    )


def _canonical(url: Url, links: str) -> str | None:
    """The address that Link fields name as the canonical one (RFC 6596); the first counts."""
    for target, parameters in _LINK.findall(links):
        relation = _REL.search(parameters)
        if relation and "canonical" in relation[1].lower().split():
            with suppress(InvalidUrl):
                return str(_meant(url, target))
    return None


def _validator(value: str | None) -> str | None:
    return value if value and _VALIDATOR.fullmatch(value) else None


def _body(response: httpcore2.Response, fields: dict[str, str], max_bytes: int) -> bytes:
    announced = fields.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large(max_bytes)
    return decode(response.iter_stream(), fields.get("content-encoding", ""), max_bytes)


def _drain(response: httpcore2.Response) -> None:
    """Reads a short body that nobody needs, so that the connection can be used again."""
    drained = 0
    for chunk in response.iter_stream():
        drained += len(chunk)
        if drained > _DRAINED_AT_MOST:
            break


def _redirect(url: Url, location: str) -> Url:
    try:
        return _meant(url, location)
    except InvalidUrl as error:
        raise InvalidUrl(f"{url.host} redirects to an address that can't be read. {error.message}") from error


def _meant(url: Url, reference: str) -> Url:
    """The address that a header means. Its bytes were read as Latin-1; servers that send other than ASCII mean UTF-8."""
    return join_url(url, reference.encode("latin-1").decode("utf-8", "replace"))


def _retry_after(fields: dict[str, str]) -> float | None:
    """Seconds, from either form of Retry-After (RFC 9110, section 10.2.3)."""
    value = fields.get("retry-after", "")
    try:
        at = None if value.isdecimal() else parsedate_to_datetime(value)
        seconds = float(value) if at is None else (at.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)
