"""Owns what an HTML page says of itself: title, language, canonical address, links."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urljoin, urlsplit

from lxml import etree, html

from workers.extract.clean import clean_line
from workers.extract.html_forms import flat

_SEPARATOR = re.compile(r"\s+(?:[|–—·»•:]|::|-)\s+")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{1,8})*")
_MAX_LINK = 2048
MOST_LINKS = 10_000
"""Of one page: what lists more of them is no page for readers."""
_REFRESH = re.compile(r"\s*[\d.]+\s*[;,]\s*(?:url\s*=\s*)?(?:'([^']*)|\"([^\"]*)|([^'\"].*))", re.IGNORECASE)
_NUMBERS = etree.XPath("descendant::*[self::sup or self::sub]")
_BEFORE = etree.XPath("string(preceding::text()[1])")
_NUMBER = re.compile(r"[+−–-]?\d")
_ROBOTS = frozenset(["robots", "chat_api"])
# lxml reads characters that it refuses to write, and writing is needed wherever an element goes.
_UNWRITABLE = bytes([*range(9), *range(0xE, 0x20)])
_BLANKS = bytes.maketrans(b"\v\f", b"  ")
_NO_CHARACTERS = ("\ufffe".encode(), "\uffff".encode())
_UNWRITABLE_REFERENCE = re.compile(
    rb"&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01]|6553[45])(?!\d)|x0*(?:[0-8bcef]|1[\da-f]|fff[ef])(?![\da-f]));?",
    re.IGNORECASE,
)


class Page(NamedTuple):
    """What the page declares; addresses are absolute."""

    title: str
    language: str | None
    canonical_url: str | None
    links: tuple[str, ...]
    more_links: bool
    """Whether it has more than are looked at."""
    directives: tuple[str, ...]


def parse(markup: str) -> Any | None:
    """The page's element tree (lxml), or None when there is no element in it.

    Raised and lowered numbers stand apart from those beside them: cents, exponents and footnotes are not their digits.
    """
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        tree = html.document_fromstring(writable(markup), parser=parser)
    except etree.ParserError:
        return None
    for element in _NUMBERS(tree):
        _part(element)
    return tree


def writable(markup: str) -> bytes:
    """The markup as UTF-8, without the control characters that lxml reads and does not write."""
    data = markup.encode("utf-8", "replace").translate(_BLANKS, _UNWRITABLE)
    for character in _NO_CHARACTERS:
        data = data.replace(character, b"")
    return _UNWRITABLE_REFERENCE.sub(b" ", data)


def _part(element: Any) -> None:
    """Puts blanks between a raised or lowered number and those that it touches."""
    text, tail = element.text_content(), element.tail or ""
    if _NUMBER.match(text) and _BEFORE(element)[-1:].isdecimal():
        element.text = f" {element.text or ''}"
    if text[-1:].isdecimal() and tail[:1].isdecimal():
        element.tail = f" {tail}"


def describe(tree: Any, url: str) -> Page:
    """What the page at `url` says of itself; the title may be empty."""
    base = _base(tree, url)
    links = tuple(islice(_links(tree, base), MOST_LINKS + 1))
    return Page(
        _title(tree, url),
        _language(tree),
        _canonical(tree, base),
        links[:MOST_LINKS],
        len(links) > MOST_LINKS,
        tuple(_directives(tree)),
    )


def _base(tree: Any, url: str) -> str:
    declared = next((element.get("href") for element in tree.iter("base") if element.get("href")), None)
    return (_absolute(url, declared) if declared else None) or url


def _absolute(base: str, reference: str) -> str | None:
    """The http(s) address without fragment, its blanks escaped, or None."""
    try:
        address = urldefrag(urljoin(base, "".join(reference.split("\n")).strip())).url
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and parts.hostname and " " not in parts.netloc
    except ValueError:
        return None
    address = address.replace(" ", "%20")
    return address if good and len(address) <= _MAX_LINK else None


def _links(tree: Any, base: str) -> Iterator[str]:
    """Where the page leads, in order, once each."""
    met = set[str]()
    for reference in dict.fromkeys(map(_target, tree.iter("a", "area", "link", "meta"))):
        if reference and not reference.lstrip().startswith("#") and (link := _absolute(base, reference)):
            if link not in met:
                yield link
            met.add(link)


def _target(element: Any) -> str | None:
    """Where a link leads that readers follow, or that names the page in another language, or where readers are sent."""
    if element.tag == "meta":
        return _refresh(element)
    if element.tag == "link" and not (
        element.get("hreflang") and "alternate" in (element.get("rel") or "").lower().split()
    ):
        return None
    address: str | None = element.get("href")
    return address


def _refresh(meta: Any) -> str | None:
    """Where a `meta` element sends the readers of the page; nothing where it is only for those without scripts."""
    sends = (meta.get("http-equiv") or "").strip().lower() == "refresh"
    if not sends or next(meta.iterancestors("noscript"), None) is not None:
        return None
    found = _REFRESH.match(meta.get("content") or "")
    return next(filter(None, found.groups()), None) if found else None


def _directives(tree: Any) -> Iterator[str]:
    """What the page asks of all robots, or of ours, in lower case."""
    for element in tree.iter("meta"):
        if (element.get("name") or "").strip().lower() in _ROBOTS:
            yield from (word for part in (element.get("content") or "").split(",") if (word := part.strip().lower()))


def _canonical(tree: Any, base: str) -> str | None:
    for element in tree.iter("link"):
        if "canonical" in (element.get("rel") or "").lower().split() and element.get("href"):
            return _absolute(base, element.get("href"))
    return None


def _language(tree: Any) -> str | None:
    declared = tree.get("lang") or tree.get("xml:lang") or _meta(tree, "content-language") or ""
    tag = declared.split(",")[0].strip().lower().replace("_", "-")
    return tag if _LANGUAGE.fullmatch(tag) else None


def _meta(tree: Any, name: str) -> str:
    for element in tree.iter("meta"):
        if name in {(element.get(key) or "").lower() for key in ("property", "name", "http-equiv")}:
            return clean_line(element.get("content") or "")
    return ""


def _title(tree: Any, url: str) -> str:
    headings = [text for element in tree.iter("h1") if (text := clean_line(flat(element, heading=True)))]
    element = next(tree.iter("title"), None)
    declared = _meta(tree, "og:title") or (clean_line(element.text_content()) if element is not None else "")
    if not declared:
        return headings[0] if headings else ""
    if headings and headings[0].casefold() in declared.casefold():
        return headings[0]
    return _without_site(declared, _meta(tree, "og:site_name"), url)


def _without_site(title: str, site: str, url: str) -> str:
    parts = _SEPARATOR.split(title)
    host = _letters(urlsplit(url).hostname or "")
    kept = [part for part in parts if part.casefold() != site.casefold() and not _names_host(part, host)]
    if len(kept) == len(parts) or not kept:
        return title
    return kept[0] if len(kept) == 1 else " – ".join(kept)


def _names_host(part: str, host: str) -> bool:
    letters = _letters(part)
    return len(letters) >= 3 and letters in host


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
