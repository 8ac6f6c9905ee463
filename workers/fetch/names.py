"""What an address is called: one name for the spellings of a page, so that twins are met once."""

import re
from dataclasses import replace
from typing import Final

from chat_api.core.errors import InvalidUrl
from workers.fetch.urls import DEFAULT_PORTS, Url, parse_url

# Where a visitor came from, and the visit itself: neither says which page is meant.
_PASSING: Final = re.compile(
    r"(utm_.*|_ga|_gl|_hsenc|_hsmi|dclid|fbclid|gbraid|gclid|igshid|mc_[ce]id|mkt_tok|msclkid|srsltid|ttclid|twclid"
    r"|wbraid|yclid|phpsessid|jsessionid|aspsessionid\w*|cfid|cftoken|session_?id|zenid|oscsid)(=|\Z)"
    r"|(sid|s)=[0-9a-z]{24,}\Z",
    re.IGNORECASE,
)
_SESSION_IN_PATH: Final = re.compile(r";(jsessionid|phpsessid|sid)=[^/;]*|/\([SAF]\([0-9a-z]{24}\)\)", re.IGNORECASE)


def plain(url: Url) -> Url:
    """`url` without what only says where a visitor came from, or which visit this is."""
    kept = [pair for pair in url.query.split("&") if not _PASSING.match(pair)]
    return replace(url, path=_SESSION_IN_PATH.sub("", url.path) or "/", query="&".join(kept))


def identity(url: Url) -> str:
    """What all spellings of an address have in common.

    They differ in http or https, in `www.`, in a slash at the end, and in what `plain` drops.
    """
    host, port = url.site
    clean = plain(url)
    return f"{host}:{port}{replace(clean, path=_slashes(clean.path)[0]).target}"


def spellings(url: Url) -> list[str]:
    """All plain addresses that have the identity of `url`."""
    host, port = url.site
    ports = DEFAULT_PORTS if port == 0 else dict.fromkeys(DEFAULT_PORTS, port)
    clean = plain(url)
    return [
        str(replace(clean, scheme=scheme, host=name, port=number, path=path))
        for scheme, number in ports.items()
        for name in (host, f"www.{host}")
        for path in _slashes(clean.path)
    ]


def link_of(text: str) -> Url | None:
    """A link as the ledger names it; None for what is no address."""
    try:
        return plain(parse_url(text))
    except InvalidUrl:
        return None


def _slashes(path: str) -> list[str]:
    """The path without and with one slash at its end; an empty segment there, or the root, has no twin."""
    if path == "/" or path.endswith("//"):
        return [path]
    bare = path.removesuffix("/")
    return [bare, f"{bare}/"]
