"""Owns what a page tells machines: JSON-LD and microdata, as far as it is text that its readers would miss."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from lxml import etree, html

from workers.documents import Block
from workers.extract.clean import clean_line
from workers.extract.html_forms import flat

_MAX_BYTES, _MAX_NODES, _MAX_DEPTH = 1_000_000, 5_000, 12
_MAX_ENTRIES, _MAX_TEXT = 200, 5_000
_SHINGLE, _PRESENT = 4, 0.5
_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"Article", "NewsArticle", "BlogPosting", "ReportageNewsArticle", "Report"})
_PAGES = ("Article", "Page", "Posting", "CreativeWork", "Dataset", "HowTo", "Recipe", "Report")
_DATES = ("datePublished", "dateCreated", "dateModified")
_HREFS = frozenset({"a", "link"})
_UNSAID = frozenset({"script", "style", "template", "noscript"})

Node = dict[str, Any]


class PageData(NamedTuple):
    """A page's data."""

    article: bool
    """Whether it says that it is one article, as of a newspaper or blog."""
    entries: tuple[tuple[Block, ...], ...]
    """Questions with answers, instructions, products: each as the blocks that it would be."""
    dates: tuple[tuple[str, str], ...] = ()
    """What is said of the page itself, as (`datePublished`, `dateCreated` or `dateModified`, text)."""


def page_data(tree: Any) -> PageData:
    """What the page's JSON-LD and microdata say; nothing that is broken in them is an error."""
    roots = list(_roots(tree))
    nodes = [node for root in roots for node in _nodes(root)][:_MAX_NODES]
    article = any(_types(node) & _ARTICLES for node in nodes) or _declares_article(tree)
    entries = (tuple(blocks) for node in nodes if (blocks := list(_written(node))))
    return PageData(article, tuple(dict.fromkeys(islice(entries, _MAX_ENTRIES))), tuple(_dates(roots)))


def missing_from(blocks: Sequence[Block], data: PageData) -> list[Block]:
    """The blocks of those entries that the text does not have."""
    if not data.entries:
        return []
    text = " ".join(_WORD.findall(" ".join(block.text for block in blocks).casefold()))
    return [block for entry in data.entries if not _present(entry, f" {text} ") for block in entry]


def _present(entry: Iterable[Block], text: str) -> bool:
    """Whether half of what the entry says below its heading stands in the text (words, parted by single spaces)."""
    found = _WORD.findall(" ".join(block.text for block in entry if block.kind != "heading").casefold())
    shingles = [found[at : at + _SHINGLE] for at in range(0, max(1, len(found) - _SHINGLE + 1), _SHINGLE)]
    return sum(f" {' '.join(shingle)} " in text for shingle in shingles) >= _PRESENT * len(shingles)


# --- reading ----------------------------------------------------------------------------------------------------------


def _declares_article(tree: Any) -> bool:
    for element in tree.iter("meta"):
        if element.get("property") == "og:type":
            return (element.get("content") or "").strip().lower() in {"article", "newsarticle", "blog"}
    return False


def _roots(tree: Any) -> Iterator[Any]:
    """The page's JSON-LD values, and its microdata in the same form."""
    left = _MAX_BYTES
    for script in tree.iter("script"):
        if "ld+json" not in (script.get("type") or "").lower():
            continue
        source = script.text or ""
        left -= len(source)
        if left < 0:
            return
        try:
            yield json.loads(source, strict=False)
        except (ValueError, RecursionError):
            continue
    for element in islice(tree.iterfind(".//*[@itemscope]"), _MAX_ENTRIES):
        if element.get("itemprop") is None:
            yield _microdata(element, 0)


def _microdata(element: Any, depth: int) -> Node:
    """An element's microdata as JSON-LD would say it."""
    node: Node = {"@type": (element.get("itemtype") or "").rsplit("/", 1)[-1]}
    waiting = list(element)
    while waiting and depth < _MAX_DEPTH:
        part = waiting.pop(0)
        name = part.get("itemprop")
        scoped = part.get("itemscope") is not None
        if name:
            value = _microdata(part, depth + 1) if scoped else _value(part)
            node.setdefault(name.split(" ")[0], []).append(value)
        if not scoped:
            waiting[:0] = list(part)
    return node


def _value(element: Any) -> str:
    if element.get("content") is not None:
        return str(element.get("content"))
    if element.tag == "time" and element.get("datetime") is not None:
        return str(element.get("datetime"))
    return str(element.get("href") or "") if element.tag in _HREFS else flat(element, without=_UNSAID)


def _nodes(value: Any, depth: int = 0) -> Iterator[Node]:
    """Every object in the value, those inside others behind them."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _nodes(one, depth + 1)


def _dates(roots: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """The dates of the outermost objects that are pages or what fills one: those inside are of other things."""
    outermost = [node for root in roots for node in _list(root) if isinstance(node, dict)]
    outermost += [node for root in outermost for node in _list(root.get("@graph")) if isinstance(node, dict)]
    for node in outermost[:_MAX_NODES]:
        if any(one.endswith(_PAGES) for one in _types(node)):
            yield from ((name, text) for name in _DATES for text in _list(node.get(name)) if isinstance(text, str))


# --- writing ----------------------------------------------------------------------------------------------------------


def _written(node: Node) -> Iterator[Block]:
    types = _types(node)
    if "Question" in types:
        yield from _question(node)
    elif "HowTo" in types:
        yield from _instructions(node)
    elif "Product" in types:
        yield from _product(node)


def _question(node: Node) -> Iterator[Block]:
    question = _text(node.get("name")) or _text(node.get("text"))
    answers = [*_list(node.get("acceptedAnswer")), *_list(node.get("suggestedAnswer"))]
    answer = next((text for one in answers if isinstance(one, dict) and (text := _text(one.get("text")))), "")
    if question and answer:
        yield Block("heading", question, level=2)
        yield Block("paragraph", answer)


def _instructions(node: Node) -> Iterator[Block]:
    steps = [text for step in _nodes(node.get("step")) if "HowToStep" in _types(step) and (text := _step(step))]
    steps = steps or [text for step in _list(node.get("step")) if isinstance(step, str) and (text := _text(step))]
    if name := _text(node.get("name")):
        yield Block("heading", name, level=2)
        if description := _text(node.get("description")):
            yield Block("paragraph", description)
    if steps:
        yield Block("list", "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1)))


def _step(step: Node) -> str:
    name = _text(step.get("name"))
    inner = [_text(one.get("text")) for one in _nodes(step.get("itemListElement"))]
    text = _text(step.get("text")) or " ".join(filter(None, inner))
    return text if not name or text.startswith(name) else f"{name}: {text}" if text else name


def _product(node: Node) -> Iterator[Block]:
    name = _text(node.get("name"))
    offers = [offer for offer in _nodes(node.get("offers")) if offer.get("price") or offer.get("lowPrice")]
    facts = [
        ("Brand", _text(_name_of(node.get("brand")))),
        ("Article number", _text(node.get("sku"))),
        ("Price", ", ".join(dict.fromkeys(map(_price, offers[:20])))),
        ("Description", _text(node.get("description"))),
    ]
    lines = [f"- {label}: {value}" for label, value in facts if value]
    if name and lines:
        yield Block("heading", name, level=2)
        yield Block("list", "\n".join(lines))


def _price(offer: Node) -> str:
    currency = _text(offer.get("priceCurrency"))
    low, high = _text(offer.get("price")) or _text(offer.get("lowPrice")), _text(offer.get("highPrice"))
    return f"{low}–{high} {currency}".strip() if high and high != low else f"{low} {currency}".strip()


def _name_of(value: Any) -> Any:
    first = next(iter(_list(value)), None)
    return first.get("name") if isinstance(first, dict) else first


def _types(node: Node) -> set[str]:
    return {str(one).rsplit("/", 1)[-1] for one in _list(node.get("@type"))}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: Any) -> str:
    """A value as one line, or its first where there are several; markup in it is read."""
    first = next(iter(_list(value)), "")
    if isinstance(first, bool) or not isinstance(first, str | int | float):
        return ""
    text = str(first)[:_MAX_TEXT]
    if "<" in text or "&" in text:
        try:
            text = flat(html.fragment_fromstring(text, create_parent="div"), without=_UNSAID)
        except (etree.LxmlError, ValueError):
            return ""
    return clean_line(text)
