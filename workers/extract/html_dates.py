"""Owns when a web page says that it was published and last changed: its data, its meta and `time` elements."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from workers.extract.dates import Dates, day_of

_PUBLISHED = (
    *("datepublished", "article:published_time", "og:published_time", "dc.date.issued", "dcterms.issued"),
    *("citation_publication_date", "citation_online_date", "dc.date", "dcterms.date", "dcterms.created"),
    *("dc.date.created", "parsely-pub-date", "pubdate", "date"),
)
_MODIFIED = (
    *("datemodified", "article:modified_time", "og:updated_time", "dc.date.modified", "dcterms.modified"),
    *("last-modified", "lastmod"),
)
_NAMES = ("itemprop", "property", "name", "http-equiv")


def page_dates(tree: Any, said: Sequence[tuple[str, str]]) -> Dates:
    """The page's dates. `said` are the names and dates of what its JSON-LD and microdata say of the page itself.

    The data come before elements, and surer names before others. Where one name has several days none of them counts:
    such a page lists others.
    """
    found = defaultdict[str, set[date | None]](set)
    for name, text in said:
        found[f"data:{name.lower()}"].add(day_of(text))
    for element in tree.iter("meta", "time"):
        text = element.get("content") if element.tag == "meta" else element.get("datetime")
        if text and (element.get("itemprop") is None or _of_page(element)):
            for name in _names(element):
                found[name].add(day_of(text))
    return {
        "published_on": _one_of(found, ("data:datepublished", "data:datecreated", *_PUBLISHED)),
        "modified_on": _one_of(found, ("data:datemodified", *_MODIFIED)),
    }


def _names(element: Any) -> Iterable[str]:
    if element.tag == "time" and element.get("pubdate") is not None:
        return ("pubdate",)
    names = {(element.get(key) or "").strip().lower() for key in (_NAMES if element.tag == "meta" else _NAMES[:1])}
    return names - {""}


def _of_page(element: Any) -> bool:
    """Whether a property is of no object's own: those that are objects' have been read as data."""
    return not any(above.get("itemscope") is not None for above in element.iterancestors())


def _one_of(found: dict[str, set[date | None]], names: Iterable[str]) -> date | None:
    for name in names:
        days = found.get(name, set())
        if len(days) == 1 and (day := next(iter(days))):
            return day
    return None
