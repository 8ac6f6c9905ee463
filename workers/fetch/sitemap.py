"""Reads sitemaps: lists of pages and lists of lists, plain or gzipped, as XML or as lines of text."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lxml import etree

from chat_api.core.errors import InvalidUrl, MalformedDocument, TrainingError
from workers.fetch.client import SafeClient
from workers.fetch.decoding import GZIP_MAGIC, decode
from workers.fetch.urls import Url, join_url, parse_url

SITEMAPS: Final = "application/xml,text/xml;q=0.9,text/plain;q=0.8,*/*;q=0.5"
MAX_BYTES: Final = 50 * 1024 * 1024
"""Of one sitemap, decompressed: the protocol's own limit."""

_MAX_FILES: Final = 1_000
_MAX_DEPTH: Final = 2
_MAX_ENTRIES: Final = 50_000
_MOST_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Sitemap:
    """What one sitemap lists, in its order, once each, as written."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """All pages of some sitemaps and of those they list, in order, once each, and what could not be read."""

    pages: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Sitemaps of other sites, which are not read."""


class _Locations:
    """lxml's parser target: collects `loc` by its parent's name, and refuses document types."""

    def __init__(self) -> None:
        self.pages: dict[str, None] = {}
        self.sitemaps: dict[str, None] = {}
        self._path: list[str] = []
        self._text: list[str] = []

    def doctype(self, _name: str | None, _public_id: str | None, _system_url: str | None) -> None:
        raise MalformedDocument("This is not a sitemap: it has a DOCTYPE, as web pages do.")

    def start(self, tag: str, _attributes: Any) -> None:
        self._path.append(tag.rpartition("}")[2])
        self._text.clear()

    def data(self, text: str) -> None:
        if self._path[-1:] == ["loc"]:
            self._text.append(text)

    def end(self, _tag: str) -> None:
        found = {"url/loc": self.pages, "sitemap/loc": self.sitemaps}.get("/".join(self._path[-2:]))
        location = "".join(self._text).strip()
        if found is not None and location and len(found) <= _MAX_ENTRIES:
            found[location] = None
        self._path.pop()
        self._text.clear()

    def close(self) -> Sitemap:
        return Sitemap(tuple(self.pages), tuple(self.sitemaps))


def parse_sitemap(body: bytes, max_bytes: int = MAX_BYTES) -> Sitemap:
    """What `body` lists: a urlset, a sitemapindex or lines of text, gzipped or not; 50,001 entries where it has too many.

    Raises MalformedDocument when it is none of them, TooLarge when it unpacks to more than `max_bytes`.
    """
    if body.startswith(GZIP_MAGIC):
        body = decode([body], "gzip", max_bytes)
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        lines = (line.strip() for line in body.decode("utf-8-sig", "replace").splitlines())
        return Sitemap(tuple(dict.fromkeys(line for line in lines if line))[: _MAX_ENTRIES + 1])
    parser = etree.XMLParser(target=_Locations(), resolve_entities=False, no_network=True, huge_tree=False)
    try:
        parsed: Sitemap = etree.fromstring(body.lstrip(), parser)
    except etree.XMLSyntaxError as error:
        raise MalformedDocument(f"The sitemap is not well-formed XML: {error.msg}.") from error
    return parsed


def read_sitemaps(
    client: SafeClient,
    urls: Sequence[str],
    *,
    site: Url | None = None,
    most_s: float = _MOST_S,
    check: Callable[[], None] = lambda: None,
) -> Listing:
    """The first 50,000 pages that the sitemaps at `urls`, and those of the same site that they list, name.

    Where `site` is given they are only what that site is said to have: whatever can't be read is a warning. Else raises
    what `SafeClient.get` and `parse_sitemap` raise for `urls`, and for a listed sitemap where a retry can help; one that
    is gone or damaged is a warning. After `most_s` seconds the rest is left out. What is left out is said first among
    the warnings. Raises what `check` raises.
    """
    reader = _Reading(client, site or parse_url(urls[0]), forgiving=site is not None)
    until = time.monotonic() + most_s
    reader.queue(reader.site, urls, 0)
    left_out = []
    while reader.waiting and len(reader.pages) <= _MAX_ENTRIES:
        check()
        if time.monotonic() >= until:
            left_out.append(f"{len(reader.waiting)} sitemaps were left out: reading the others took too long.")
            break
        reader.read_next()
    if len(reader.pages) > _MAX_ENTRIES:
        left_out.append(f"Of the addresses that the sitemaps list those beyond {_MAX_ENTRIES:,} were left out.")
    if reader.cut:
        left_out.append(f"Sitemaps beyond {_MAX_FILES:,}, or more than {_MAX_DEPTH} levels down, were left out.")
    return Listing(tuple(reader.pages)[:_MAX_ENTRIES], (*left_out, *reader.warnings), tuple(reader.elsewhere))


@dataclass(slots=True)
class _Reading:
    """Sitemaps of one site on their way: those that wait, and what those that were read list."""

    client: SafeClient
    site: Url
    forgiving: bool
    waiting: deque[tuple[Url, int]] = field(default_factory=deque)
    met: set[Url] = field(default_factory=set)
    pages: dict[str, None] = field(default_factory=dict)
    elsewhere: dict[str, None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    cut: bool = False
    """Whether some are too many or too deep to be read."""

    def queue(self, base: Url, references: Sequence[str], depth: int) -> None:
        """Has sitemaps wait that were not met yet, as far as they are to be read; those of other sites are only named."""
        for reference in references:
            try:
                child = join_url(base, reference)
            except InvalidUrl:
                continue
            if child.site != self.site.site:
                self.elsewhere[str(child)] = None
            elif child not in self.met:
                if depth > _MAX_DEPTH or len(self.met) >= _MAX_FILES:
                    self.cut = True
                    continue
                self.met.add(child)
                self.waiting.append((child, depth))

    def read_next(self) -> None:
        """Takes what the next sitemap lists, or why it lists nothing."""
        here, depth = self.waiting.popleft()
        try:
            listed = parse_sitemap(self.client.get(str(here), max_bytes=MAX_BYTES, accept=SITEMAPS).body)
        except TrainingError as error:
            full = len(self.pages) >= _MAX_ENTRIES  # then what is left is looked at for the warning alone
            if not self.forgiving and not full and (depth == 0 or error.retryable):
                raise
            self.warnings.append(f"{here} was left out: {error.message}")
            return
        self.pages |= dict.fromkeys(listed.pages)
        self.queue(here, listed.sitemaps, depth + 1)
