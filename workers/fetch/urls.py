"""Web addresses as strangers write them: one strict parser, and one spelling for each address."""

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna

from chat_api.core.errors import InvalidUrl

MAX_URL: Final = 2_000
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_ABSOLUTE = re.compile(r"(https?)://([^/?]*)([^?]*)(\?.*)?", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+\]")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_PORT = re.compile(r"[0-9]{1,5}")
_ESCAPED_OR_UNSAFE = re.compile(rb"%([0-9A-Fa-f]{2})|[^!$&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address in its one spelling; `str()` gives it back, and parsing that gives an equal `Url`."""

    scheme: str
    host: str
    """Lower-case ASCII name, dotted IPv4 or compressed IPv6 without brackets."""
    port: int
    path: str
    """Begins with `/`."""
    query: str = ""
    """Without its `?`."""

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them: IPv6 in brackets, no default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    @property
    def site(self) -> tuple[str, int]:
        """What counts as one website: http and https, with and without `www.`, on their default ports or on one other."""
        port = 0 if self.port == DEFAULT_PORTS[self.scheme] else self.port
        return self.host.removeprefix("www."), port

    @property
    def target(self) -> str:
        """Path and query: what the request line asks for."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return self.origin + self.target


def parse_url(text: str) -> Url:
    """The address in its one spelling, without fragment.

    Percent-escapes, dot segments, international names and odd IPv4 spellings (octal, hexadecimal, short) are resolved.
    Raises InvalidUrl with a sentence for the source's owner.
    """
    return _parsed(text.partition("#")[0].strip(" "))


@lru_cache(maxsize=2048)  # a crawl asks for some thirty with each page, most of them again and again
def _parsed(text: str) -> Url:
    if len(text) > 3 * MAX_URL:
        raise InvalidUrl(f"The address is longer than {MAX_URL:,} characters.")
    if _FORBIDDEN.search(text):
        raise InvalidUrl("The address contains a backslash or an invisible control character. Type it anew.")
    parts = _ABSOLUTE.fullmatch(text)
    if parts is None:
        raise InvalidUrl("Only addresses that begin with http:// or https:// can be read.")
    scheme = parts[1].lower()
    host, port = _authority(parts[2], scheme)
    url = Url(scheme, host, port, _without_dots(normal_escapes(parts[3])), normal_escapes((parts[4] or "?")[1:]))
    if len(str(url)) > MAX_URL:
        raise InvalidUrl(f"The address is longer than {MAX_URL:,} characters.")
    return url


def join_url(base: Url, reference: str) -> Url:
    """The address that `reference` (absolute or relative: a redirect's Location, a link) means on the page `base`.

    Raises InvalidUrl as `parse_url` does.
    """
    reference = reference.partition("#")[0].strip(" ")
    if _SCHEME.match(reference):
        return parse_url(reference)
    if reference.startswith("//"):
        return parse_url(f"{base.scheme}:{reference}")
    if reference.startswith("/"):
        return parse_url(base.origin + reference)
    if reference.startswith("?"):
        return parse_url(base.origin + base.path + reference)
    if not reference:
        return base
    return parse_url(base.origin + base.path.rpartition("/")[0] + "/" + reference)


def matches(pattern: str, text: str) -> bool:
    """Whether `text`, from its beginning to its end, is `pattern`, in which `*` stands for any characters or none."""
    head, *parts = pattern.split("*")
    if not parts:
        return text == pattern
    if not text.startswith(head):
        return False
    position = len(head)
    for part in parts[:-1]:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return text.endswith(parts[-1]) and len(text) - position >= len(parts[-1])


def normal_escapes(text: str) -> str:
    """A path or query with one spelling per character: what needs no escape has none, all else is `%XX` in capitals."""
    return _ESCAPED_OR_UNSAFE.sub(_normal_escape, text.encode()).decode("ascii")


def _normal_escape(found: re.Match[bytes]) -> bytes:
    byte = int(found[1], 16) if found[1] else found[0][0]
    return bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte


def _without_dots(path: str) -> str:
    segments = path.split("/")[1:] or [""]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            kept[-1:] = []
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


def _authority(text: str, scheme: str) -> tuple[str, int]:
    if "@" in text:
        raise InvalidUrl("The address contains a user name or password. Remove everything up to the @.")
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, ""
    if not port:
        return normal_host(host), DEFAULT_PORTS[scheme]
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65_536:
        raise InvalidUrl("The number after the colon is not a port between 1 and 65535.")
    return normal_host(host), int(port)


def normal_host(text: str) -> str:
    """A name, IPv4 or bracketed IPv6 address in its one spelling (IPv6 without brackets).

    Raises InvalidUrl for what is none of them.
    """
    if text.startswith("["):
        return _ipv6(text)
    name = _ascii_name(text).removesuffix(".")
    if not _NAME.fullmatch(name):
        raise InvalidUrl("The website's name in the address is not valid.")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return str(_ipv4(name))
    return name


def _ascii_name(text: str) -> str:
    if text.isascii() or len(text) > 253:
        return text.lower()
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidUrl("The website's name in the address is not valid.") from error


def _ipv6(text: str) -> str:
    with suppress(AddressValueError):
        if _BRACKETED.fullmatch(text):
            return str(IPv6Address(text[1:-1]))
    raise InvalidUrl("The IPv6 address in the address is not valid.")


def _ipv4(name: str) -> IPv4Address:
    """The address behind 1 to 4 numbers, each decimal, octal (0…) or hexadecimal (0x…), the last filling what is left."""
    with suppress(ValueError):
        *heads, last = [_number(label) for label in name.split(".")]
        if len(heads) <= 3 and all(head <= 255 for head in heads) and last < 256 ** (4 - len(heads)):
            return IPv4Address(last + sum(head << 8 * (3 - place) for place, head in enumerate(heads)))
    raise InvalidUrl("The IPv4 address in the address is not valid.")


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label):
        raise ValueError
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8) if label.startswith("0") else int(label)
