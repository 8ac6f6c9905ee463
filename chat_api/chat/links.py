"""Keeps an answer's links to the hosts it may lead to: others become their text, and no image gets through. Pure."""

import html
import re
from collections.abc import Iterable
from itertools import islice

from chat_api.chat.origins import DEFAULT_PORTS, parts_of

GONE = "…"
"""What stands for an address that is not shown."""
MAX_URL_CHARS = 2_000

_LABEL = r"(?:[^\[\]]|\[[^\[\]]{0,200}\]){0,500}"
_TARGET = r"<[^<>\n]{0,2000}>|(?:[^()\s]|\([^()\s]{0,2000}\)){0,2000}"
_TITLE = r"\"[^\"]{0,500}\"|'[^']{0,500}'|\([^()]{0,500}\)"
_LINK = re.compile(rf"(!?)\[({_LABEL})\]\(\s*({_TARGET})(?:\s+(?:{_TITLE}))?\s*\)")
_LOOSE = re.compile(
    rf"!\[({_LABEL})\]\([^)\n]{{0,2000}}\)|\[({_LABEL})\]\((?!https?:)[^)\s]{{0,2000}}\)", re.IGNORECASE
)
"""What is no link by the rules, and one to some readers."""
_CLEAR = r"(?:[^\[\]\\!]|\\(?![\[\]])|!(?!\[))"
_JOINT = re.compile(rf"(?<![!\\])\[(?:{_CLEAR}|\[{_CLEAR}{{0,200}}\](?!\()){{0,500}}\]\(({_TARGET})\)|\]\(")
"""A link that every reader finds to begin at the same bracket, or where one may end that begins elsewhere."""
_DEFINITION = re.compile(r"\]:(?=\s*(?:[</\\.?#…]|\S{0,40}?[:&\\]|\S+[ \t]*(?:[\n\"'(]|\Z)))")
_GROWING_DEFINITION = re.compile(rf"{_DEFINITION.pattern}|\]:(?=\s*\Z)")
_IN_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_LETTER = re.compile(r"[^\W\d_]")
_TAG_NAMES = (
    "a|applet|area|audio|base|bgsound|body|button|embed|form|frame|frameset|iframe|image|img|input|link|math|meta|object|picture"
    "|script|source|style|svg|track|video"
)
_TAG = re.compile(rf"<\s*(?:/\s*)?(?:{_TAG_NAMES})(?![\w-])[^<>]*>", re.IGNORECASE)
_CUT_TAG = re.compile(rf"<(?=\s*(?:/\s*)?(?:{_TAG_NAMES})(?![\w-]))", re.IGNORECASE)
_DEAD_TAG = re.compile(rf"{_CUT_TAG.pattern}(?=[^<>]*<|[^<>]{{500}})", re.IGNORECASE)
_IN_TAG = r"[^>]{0,500}?"
_QUOTED_BRACKET = r"=\s*(?:\"[^\"<>]*|'[^'<>]*)[<>]"
"""Where the first bracket ends no tag, so that it goes on behind it."""
_OTHER_TAG = re.compile(
    rf"<(?=/?[a-z](?:[^>]{{500}}|{_IN_TAG}[\s/\"'](?:style|background|on(?:[a-z]{{4,}}|cut|end))\s*=|{_IN_TAG}{_QUOTED_BRACKET})"
    r"|[a-z][a-z0-9+.-]{1,31}:(?!:|//)(?:[^\s<>]*>|[^\s<>]{400}))",
    re.IGNORECASE,
)
"""A tag of whatever name that fetches or runs something, or may yet do so, and a link of a scheme in pointed brackets."""
_UNSAFE = re.compile(r"[\x00-\x20\\<>\"`]")
_URL_CHAR = r"[^\s<>\"`|)\]]"
_BARE = re.compile(
    rf"(?:(?:[a-z][a-z0-9+.-]{{0,20}})?:[/\\]{{2}}|(?<![\w:/\\.])[/\\]{{2}}(?=[\w\[])|(?<![^\W_])(?<![.@/-])www\.){_URL_CHAR}*",
    re.IGNORECASE,
)
_ADDRESSED = re.compile(r"[/\\]{2}|www\.", re.IGNORECASE)
_INNER = re.compile(r"https?:[/\\]{2}", re.IGNORECASE)
_AFTER = ".,;:!?'*_}…"

_MARKERS = r"(?:[ \t]*\[[\d\s,;]{0,60}\]?)*[ \t]*"
_OPENING = re.compile(r"!\[|\[(?!\d{1,9}\][ \t]*\[\d{1,9}\])")
"""A bracket that may begin a link: of whole markers in a row, only the last may become one."""
_GROWING_LINK = re.compile(
    rf"!?\[(?:{_LABEL}(?:\[[^\[\]]{{0,200}})?|{_LABEL}\](?:{_MARKERS}|:\s*\S{{0,40}}[ \t]*|\((?:[^()]|\([^()]*\)?){{0,2600}}))\Z"
)
_GROWING_TAG = re.compile(r"<\s*(?:/\s*)?(?:[a-z][^>]{0,500})?\Z", re.IGNORECASE)
_LAST_RUN = re.compile(rf"{_URL_CHAR}+\Z")
_GROWING_URL = re.compile(
    r":[/\\]|[/\\]{2}|www\.|(?:h|ht|htt|https?|w{1,3}|[a-z][a-z0-9+.-]{0,20}:|[/\\])\Z", re.IGNORECASE
)


def hosts_of(urls: Iterable[str | None]) -> frozenset[tuple[str, int]]:
    """The hosts and ports that these addresses lead to; `www.` makes no difference."""
    return frozenset(host for url in urls if url and (host := _host(url)))


def may_show(url: str, hosts: frozenset[tuple[str, int]]) -> bool:
    """Whether the address leads to one of the hosts, by http or https, and has no other address inside.

    Whether its reader knows HTML's character references makes no difference.
    """
    read = html.unescape(url)
    short = len(url) <= MAX_URL_CHARS and not _INNER.search(read, 1)
    return short and _host(read) in hosts and _host(url) in hosts


def without_foreign_links(text: str, hosts: frozenset[tuple[str, int]], *, before: str = "", whole: bool = True) -> str:
    """The text with links to these hosts alone, once what is left is read again until that makes no difference.

    `before` is what was shown of the text's first line. Without `whole` more may follow: what is open at the text's end
    stays for now.
    """
    shown = _LINK.sub(lambda found: _link(found, hosts), text)
    shown = _LOOSE.sub(lambda found: found[1] or found[2] or "", shown)
    shown = _TAG.sub(" ", shown)  # what stood around it may not meet
    if _ADDRESSED.search(shown):  # nearly no text is, and this is quick to see
        shown = _BARE.sub(lambda found: _bare(found, hosts, whole=whole), shown)
    shown = (_CUT_TAG if whole else _DEAD_TAG).sub("‹", shown)
    shown = _OTHER_TAG.sub("< ", shown)
    return _parted(shown, hosts, before, whole=whole) if "]" in before[-1:] + shown else shown


def open_from(text: str) -> int:
    """Where what comes next may still make a link, a tag or an address of the text's end; its length when nothing can."""
    starts = [len(text)]
    openings = (found.start() for found in _OPENING.finditer(text))
    starts += islice((opening for opening in openings if _GROWING_LINK.match(text, opening)), 1)
    if tag := _GROWING_TAG.search(text):
        starts.append(tag.start())
    if text.endswith("!"):
        starts.append(len(text) - 1)
    start = min(starts)
    # What may be dropped may stand in the middle of an address.
    shown = text[:start].rstrip(" \t")
    run = _LAST_RUN.search(shown, max(0, len(shown) - MAX_URL_CHARS))
    return run.start() if run and _GROWING_URL.search(run[0]) else start


def closed(text: str) -> str:
    """The text without what its links and tags begin with, so that it never becomes one."""
    return re.sub(r"[\[<]", "", text)


def _host(url: str) -> tuple[str, int] | None:
    if _UNSAFE.search(url):
        return None
    parts = parts_of(f"https://{url}" if url.lower().startswith("www.") else url)
    if parts is None:
        return None
    _, host, port = parts
    return host.removeprefix("www."), 80 if port in DEFAULT_PORTS.values() else port


def _link(found: re.Match[str], hosts: frozenset[tuple[str, int]]) -> str:
    image, label, target = found[1], found[2], found[3].strip("<>")
    if image or not _may_lead(target, hosts):
        # A citation that was made a link stays a citation.
        return f"[{label}]" if label.isdecimal() and not image else label
    return f"[{label}]" if label.isdecimal() else f"[{label}]({found[3]})"


def _bare(found: re.Match[str], hosts: frozenset[tuple[str, int]], *, whole: bool) -> str:
    if not whole and found.end() == len(found.string) and len(found[0]) <= MAX_URL_CHARS:
        return found[0]
    url = found[0].rstrip(_AFTER)
    return found[0] if may_show(url, hosts) else GONE + found[0][len(url) :]


def _may_lead(target: str, hosts: frozenset[tuple[str, int]]) -> bool:
    return "](" not in target and may_show(target.strip("<>"), hosts)


def _parted(text: str, hosts: frozenset[tuple[str, int]], before: str, *, whole: bool) -> str:
    """The text with a blank in whatever else makes a link or an image to some reader, unless it may still become ours."""
    line, edge = before[:-1], before[-1:]
    end = len(edge) + (len(text) if whole else open_from(text))

    def part(found: re.Match[str]) -> str:
        ours = found.start() >= end or (found[1] is not None and _may_lead(found[1], hosts))
        return found[0] if ours else found[0].replace("](", "] (")

    def undefine(found: re.Match[str]) -> str:
        return found[0] if found.start() >= end or _in_line(line, found) else "] :"

    definition = _DEFINITION if whole else _GROWING_DEFINITION
    text = definition.sub(undefine, edge + text)
    return _JOINT.sub(part, text)[len(edge) :]


def _in_line(before: str, found: re.Match[str]) -> bool:
    """Whether what ends in brackets here begins behind words of its line, where nothing is defined."""
    text = before + found.string
    end = len(before) + found.start()
    opening = text.rfind("[", 0, end)
    line = text[: max(opening, 0)].rpartition("\n")[2]
    plain = opening >= 0 and not line.endswith("\\") and not re.search(r"[\]\\\n]", text[opening:end])
    return plain and bool(_LETTER.search(_IN_BRACKETS.sub("", line)))
