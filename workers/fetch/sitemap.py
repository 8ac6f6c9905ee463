"""Reads sitemaps: lists of pages and lists of lists, plain or gzipped, as XML or as lines of text."""

from collections import deque
from dataclasses import dataclass
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
_MAX_DEPTH: Final = 3
_MAX_ENTRIES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Sitemap:
    """What one sitemap lists, in its order, once each, as written."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """All pages of a sitemap and of the sitemaps it lists, in order, once each, and what could not be read."""

    pages: tuple[str, ...]
    warnings: tuple[str, ...] = ()


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
        if found is not None and location and len(found) < _MAX_ENTRIES:
            found[location] = None
        self._path.pop()
        self._text.clear()

    def close(self) -> Sitemap:
        return Sitemap(tuple(self.pages), tuple(self.sitemaps))


def parse_sitemap(body: bytes, max_bytes: int = MAX_BYTES) -> Sitemap:
    """What `body` lists: a urlset, a sitemapindex or lines of text, gzipped or not.

    Raises MalformedDocument when it is none of them, TooLarge when it unpacks to more than `max_bytes`.
    """
    if body.startswith(GZIP_MAGIC):
        body = decode([body], "gzip", max_bytes)
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        lines = (line.strip() for line in body.decode("utf-8-sig", "replace").splitlines())
        return Sitemap(tuple(dict.fromkeys(line for line in lines if line))[:_MAX_ENTRIES])
    parser = etree.XMLParser(target=_Locations(), resolve_entities=False, no_network=True, huge_tree=False)
    try:
        parsed: Sitemap = etree.fromstring(body.lstrip(), parser)
    except etree.XMLSyntaxError as error:
        raise MalformedDocument(f"The sitemap is not well-formed XML: {error.msg}.") from error
    return parsed


def read_sitemaps(client: SafeClient, url: str, max_pages: int = _MAX_ENTRIES) -> Listing:
    """The first `max_pages` pages that the sitemap at `url` and the sitemaps of the same site that it lists name.

    Raises what `SafeClient.get` and `parse_sitemap` raise for `url` itself, and for a listed sitemap where a retry can
    help; a listed sitemap that is gone or damaged is a warning.
    """
    first = parse_url(url)
    waiting = deque([(first, 0)])
    met, pages, warnings = {first}, dict[str, None](), list[str]()
    while waiting and len(pages) < max_pages:
        here, depth = waiting.popleft()
        try:
            listed = parse_sitemap(client.get(str(here), max_bytes=MAX_BYTES, accept=SITEMAPS).body)
        except TrainingError as error:
            if depth == 0 or error.retryable:
                raise
            warnings.append(f"{here} was left out: {error.message}")
            continue
        pages |= dict.fromkeys(listed.pages)
        below = _below(here, listed.sitemaps) if depth < _MAX_DEPTH else []
        fresh = [child for child in dict.fromkeys(below) if child not in met][: _MAX_FILES - len(met)]
        met.update(fresh)
        waiting.extend((child, depth + 1) for child in fresh)
    return Listing(tuple(pages)[:max_pages], tuple(warnings))


def _below(sitemap: Url, references: tuple[str, ...]) -> list[Url]:
    found = []
    for reference in references:
        try:
            child = join_url(sitemap, reference)
        except InvalidUrl:
            continue
        if child.site == sitemap.site:
            found.append(child)
    return found
