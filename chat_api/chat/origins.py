"""Which web pages may talk to a bot: browser origins, compared as scheme, host and port."""

from collections.abc import Iterable
from urllib.parse import urlsplit

import idna

from chat_api.core.refusals import ForbiddenOrigin

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HOST_CHARS = 253


def check_origin(
    origin: str | None, bot_origins: Iterable[str], token_origins: Iterable[str] | None, *, production: bool
) -> None:
    """Raises ForbiddenOrigin unless the handshake's `origin` is allowed by the bot, and by the token where it says so.

    A bot without origins allows none in production and all elsewhere. A handshake without an origin (a server's) passes
    unless the token is bound to origins.
    """
    check_token_origin(origin, token_origins)
    bot_origins = list(bot_origins)
    if origin is not None and not (among(origin, bot_origins) if bot_origins else not production):
        raise ForbiddenOrigin


def check_token_origin(origin: str | None, token_origins: Iterable[str] | None) -> None:
    """Raises ForbiddenOrigin when the token is bound to origins, and this is none of them, or none at all."""
    if token_origins is not None and (origin is None or not among(origin, token_origins)):
        raise ForbiddenOrigin


def among(origin: str, allowed: Iterable[str]) -> bool:
    """Whether `origin` is one of `allowed`; what is no http(s) origin never is."""
    wanted = parts_of(origin)
    return wanted is not None and any(parts_of(one) == wanted for one in allowed)


def are_origins(allowed: Iterable[str]) -> bool:
    """Whether each of `allowed` can be some page's origin."""
    return all(parts_of(one) for one in allowed)


def ascii_host(name: str) -> str:
    """A host's name as browsers say it: `xn--…` for other letters than ASCII. Raises ValueError for what is none."""
    if len(name) > MAX_HOST_CHARS:
        raise ValueError("longer than a host's name can be")
    return name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")


def parts_of(address: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an http(s) address, as browsers say them; None for what is none, or names a user."""
    try:
        parts = urlsplit(address.strip())
        host, port = ascii_host(parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not host or parts.username is not None:
        return None
    return parts.scheme, host, port or DEFAULT_PORTS[parts.scheme]
