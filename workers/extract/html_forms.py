"""Owns how single elements are written: a line of text, a list's items, a definition list, code."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from workers.documents import BlockKind

HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "menu",
        "ol",
        "p",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
LISTS = frozenset({"ul", "ol", "menu"})
RICH = LISTS | frozenset({"pre", "table", "dl", "details", *HEADINGS})
_BREAKING = BLOCKS | RICH | {"br"}
_GUTTER = re.compile(r"(?:^|[\s_-])(?:linenos?|line-?numbers?|gutter)(?:$|[\s_-])", re.IGNORECASE)
_FILE = re.compile(r"\.(?:jpe?g|png|gif|webp|svg)$", re.IGNORECASE)
_ALT_WORDS = 3
_CONTACT = ("mailto:", "tel:")
_GROUPS = ("div",)
_DEFINED = frozenset({"dt", "dd", *_GROUPS})
_WHOLE = re.compile(r"\s*[+-]?\d{1,6}(?!\d)", re.ASCII)


def flat(element: Any, *, heading: bool = False, without: frozenset[str] = frozenset()) -> str:
    """The element's text on one line, leaving out the tags in `without`; in headings also permalink marks.

    Pictures speak for themselves where there is nothing else, as ticks in a table do.
    """
    text = " ".join("".join(_flat(element, heading, without)).split())
    return text or " ".join(" ".join(image.get("alt") or "" for image in element.iter("img")).split())


def _flat(element: Any, heading: bool, without: frozenset[str]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        space = " " if child.tag in _BREAKING else ""
        yield space
        if child.tag not in without and not (heading and _permalink(child)):
            yield from _flat(child, heading, without)
            yield contact(child)
        yield space
        yield child.tail or ""


def _permalink(element: Any) -> bool:
    return (
        element.tag == "a" and (element.get("href") or "").startswith("#") and len(element.text_content().strip()) <= 1
    )


def contact(element: Any) -> str:
    """The address behind a link to write or call, where the link's text does not show it."""
    target = element.get("href") or ""
    if element.tag != "a" or not target.lower().startswith(_CONTACT):
        return ""
    address = target.split(":", 1)[1].split("?")[0]
    text = element.text_content()
    number = _digits(address)[-6:]
    shown = address in text or (number and number in _digits(text))
    return "" if shown or not address else f" ({address})"


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal())


def link_lengths(element: Any) -> tuple[int, int]:
    """Characters in links, and in those of them that lead to a place in the same page."""
    links = [(len(flat(link)), is_jump(link)) for link in element.iter("a") if link.get("href")]
    return sum(length for length, _ in links), sum(length for length, jump in links if jump)


def heading_links(heading: Any) -> int:
    """Characters of a heading that lead to other pages, as a teaser's do."""
    within = next((above for above in heading.iterancestors("a") if above.get("href")), None)
    links = [heading] if within is not None else [link for link in heading.iter("a") if link.get("href")]
    return sum(len(flat(link)) for link in links if not is_jump(within if within is not None else link))


def image_text(image: Any) -> str:
    """What a picture shows, in its author's words; empty where these are none, or a file's name, or its caption again."""
    text = " ".join((image.get("alt") or "").split())
    figure = next(image.iterancestors("figure", "a"), None)
    told = " ".join(figure.itertext()).split() if figure is not None else []
    said = len(text.split()) < _ALT_WORDS or set(text.split()) <= set(told)
    leads = figure is not None and figure.tag == "a" and not _FILE.search(figure.get("href") or "")
    return "" if said or leads or _FILE.search(text) else text


def is_jump(link: Any) -> bool:
    return (link.get("href") or "").startswith("#")


def code(element: Any) -> str:
    for line_break in element.iter("br"):
        line_break.tail = "\n" + (line_break.tail or "")
    for gutter in [part for part in element.iter() if part is not element and _GUTTER.search(part.get("class") or "")]:
        gutter.drop_tree()
    return "".join(element.itertext()).strip("\n").rstrip()


def rich_items(element: Any) -> bool:
    """Whether the list's items hold more structure than text and nested lists."""
    return any(True for _ in element.iter(*(RICH - LISTS))) or not any(True for _ in element.iter("li"))


def list_parts(element: Any) -> Iterator[tuple[BlockKind, str]]:
    """The list's items, a line each, and as paragraphs in their places what stands between them, in no item."""
    for loose, run in groupby(_lines(element, 0), key=lambda line: line[0]):
        yield ("paragraph" if loose else "list"), "\n".join(text for _, text in run)


def _lines(element: Any, depth: int) -> Iterator[tuple[bool, str]]:
    """The lines of a list, each with whether it is the outermost one's and stands in no item of it."""
    numbers, indent = numbers_of(element), "  " * depth
    for part in _parted(element):
        if isinstance(part, str):
            if text := " ".join(part.split()):
                yield depth == 0, indent + text
        elif part.tag in LISTS:  # nested without an item around it
            yield from _lines(part, depth + 1)
        else:
            mark = f"{numbers[part]}." if part in numbers else "-"
            yield from _item(part, depth, f"{indent}{mark} ")


def _parted(element: Any) -> Iterator[Any]:
    """A list's items, and the texts between them, in order."""
    loose = element.text or ""
    for child in element.iterchildren():
        if child.tag in BLOCKS or next(child.iter("li"), None) is not None:
            yield loose
            yield child
            loose = child.tail or ""
        else:
            loose += flat(child) + contact(child) + (child.tail or "")
    yield loose


def _item(item: Any, depth: int, mark: str) -> Iterator[tuple[bool, str]]:
    if text := flat(item, without=LISTS):
        yield False, mark + text
    for nested in _outermost_lists(item):
        yield from _lines(nested, depth + 1)


def _outermost_lists(element: Any) -> Iterator[Any]:
    for child in element:
        if child.tag in LISTS:
            yield child
        else:
            yield from _outermost_lists(child)


def numbers_of(ordered: Any) -> dict[Any, int]:
    """The numbers that a browser shows before an ordered list's items; none for other lists."""
    items = list(ordered.iterchildren("li")) if ordered.tag == "ol" else []
    step = 1 if ordered.get("reversed") is None else -1
    number = _whole(ordered.get("start"), 1 if step > 0 else len(items))
    numbers = {}
    for item in items:
        numbers[item] = _whole(item.get("value"), number)
        number = numbers[item] + step
    return numbers


def _whole(text: str | None, default: int) -> int:
    found = _WHOLE.match(text or "")
    return int(found.group()) if found else default


def definitions(element: Any) -> Iterator[str]:
    """A plain definition list as lines `- term: definition`; nothing when its definitions have inner structure, or when
    it has words that stand in none of its parts."""
    if any(True for _ in element.iter(*RICH - {"dl"})) or len(list(element.iter("dl"))) > 1:
        return
    if _long(element) or _loose(element):
        return
    terms: list[str] = []
    for part in element.iter("dt", "dd"):
        if part.tag == "dt":
            terms.append(flat(part))
            continue
        yield f"- {', '.join(terms)}: {flat(part)}" if terms else f"  {flat(part)}"
        terms = []
    if terms:
        yield f"- {', '.join(terms)}"


def _loose(element: Any) -> bool:
    """Whether a definition list, or an element in it that groups its parts, has words outside of them."""
    texts = [element.text, *(child.tail for child in element)]
    if any(text and text.strip() for text in texts):
        return True
    return any(map(_loose, element.iterchildren(*_GROUPS))) or any(
        child.text_content().strip() for child in element if child.tag not in _DEFINED
    )


def _long(element: Any) -> bool:
    return any(len(list(part.iter("p"))) > 1 for part in element.iter("dd"))
