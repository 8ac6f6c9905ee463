"""Owns what of an HTML page is never text: code, controls, navigation, and what the page hides from its readers."""

import re
from typing import Any

from lxml import etree

from workers.extract.html_styles import hidden_by_styles

_CODE = [
    "head",
    "script",
    "style",
    "template",
    "noscript",
    "iframe",
    "object",
    "embed",
    "svg",
    "canvas",
    "audio",
    "video",
    "select",
    "textarea",
    "input",
    "option",
    "datalist",
    "progress",
    "meter",
    "map",
]
_ROLES = frozenset(
    ["navigation", "banner", "contentinfo", "search", "dialog", "alertdialog", "menu", "menubar", "toolbar", "tablist"]
)
_HIDING = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)"
    r"|font-size\s*:\s*0(?:\.0*)?(?:px|pt|em|rem|%)?\s*(?:;|!|$)|(?:text-indent|left|top)\s*:\s*-\d{3,})",
    re.IGNORECASE,
)
_UNSEEN = re.compile(r"(?:^|;)\s*opacity\s*:\s*0*(?:\.0*)?\s*(?:;|!|$)", re.IGNORECASE)
_MOVES = re.compile(r"(?:^|;)\s*(?:-webkit-)?(?:transform|transition|will-change|filter)[a-z-]*\s*:", re.IGNORECASE)
_INERT = re.compile(r"(?:^|;)\s*pointer-events\s*:\s*none", re.IGNORECASE)
_ANIMATED = re.compile(r"data-(?:w-id|(?:aos|framer|animate|scroll)(?:-.*)?)")
_CONSENT = re.compile(r"cookie|consent|gdpr|onetrust|didomi|usercentrics", re.IGNORECASE)
_SUSPECT = re.compile(
    r"(?:^|[\s_-])(?:breadcrumbs?|crumbs?|share|sharing|social|newsletter|subscribe|signup|related|recommended|pager"
    r"|pagination|feedback|votes?|helpful|rating|toc|table-of-contents|on-this-page|nav|navbar|navheader|navfooter"
    r"|navigation|menu|sidebar|aside|footer|header|topbar|banner|promo|advert|ads?|sponsored|comments?|skip|widget|popup"
    r"|modal|author-bio|tags|teasers?|recirc|outbrain|taboola|disqus|paywall)(?:$|[\s_-])",
    re.IGNORECASE,
)
_FOREIGN = re.compile(
    r"(?:^|[\s_-])(?:comments?|disqus|related|recommended|recirc|teasers?|outbrain|taboola|share|sharing|social|newsletter"
    r"|nav|navbar|navheader|navfooter|breadcrumbs?|crumbs?|pager|pagination"
    r"|subscribe|signup|promo|advert|ads?|sponsored|paywall)(?:$|[\s_-])",
    re.IGNORECASE,
)
# What such a name calls a header, footer or widget is a part of the content: a card's, an accordion's, a page builder's.
_PART = re.compile(
    r"(?<![^\s_-])(?:(?:accordion|card|panel|section|tabs?|pricing|price|plan|faqs?|question|toggle|collapse|collapsible|box"
    r"|item|tile|features?|services?|step)\d*[_-]+(?:header|footer)|elementor-widget)(?![^\s_-])",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"\d")
_TAB = re.compile(r"(?<!\S)tab-(?:pane|content)(?!\S)", re.IGNORECASE)
_CONTROLS = etree.XPath("descendant-or-self::*[@aria-controls]")
_HIDEABLE = etree.XPath("descendant-or-self::*[@hidden or @style or @aria-hidden]")
_FORM_WORDS, _BAR_WORDS = 60, 150


def drop_hidden(tree: Any) -> int:
    """Takes out of the tree what browsers don't show; how many words that were.

    What stylesheets hide stays where it is more than three quarters of the page: a script shows that when it is ready.
    """
    revealed = {name for element in _CONTROLS(tree) for name in element.get("aria-controls").split()}
    doomed = [element for element in _HIDEABLE(tree) if _hidden(element, revealed)]
    dropped = sum(_dropped(element, tree) for element in doomed)
    styled = hidden_by_styles(tree)
    if styled and 4 * sum(map(_shown_words, styled)) <= 3 * _shown_words(tree):
        dropped += sum(_dropped(element, tree) for element in styled)
    return dropped


def _dropped(element: Any, tree: Any) -> int:
    """Takes the element out of the tree; how many words that were, which navigation and the page's ends don't count."""
    if not _attached(element, tree):
        return 0
    dropped = 0 if _inside(element, {"nav", "header", "footer"}) else _shown_words(element)
    element.drop_tree()
    return dropped


def drop_furniture(tree: Any) -> None:
    """Takes out of the tree what is never a page's own text: scripts, controls, navigation, consent bars."""
    dropped: set[Any] = set()
    for element in list(tree.iter()):
        if element is not tree and element not in dropped and _furniture(element):
            dropped.update(element.iter())
            element.drop_tree()


def suspect(element: Any) -> bool:
    """Whether the element's name, or its place, is one that furniture often has."""
    if element.tag == "footer" and not _inside(element, {"blockquote"}):
        return True
    if element.tag in {"header", "aside"} and not _inside(element, {"main", "article"}):
        return True
    return bool(element.tag not in {"main", "article", "body", "html"} and _SUSPECT.search(_name(element)))


def foreign(element: Any) -> bool:
    """Whether the element is named like what others wrote, or what leads to other pages."""
    return bool(_FOREIGN.search(_name(element)))


def _name(element: Any) -> str:
    """Class and id without what names a part of the content; not the id of a tab's content, which says what opens it, nor
    that which a section, or a heading, has from its heading's words."""
    name, identity = element.get("class") or "", element.get("id") or ""
    if _SUSPECT.search(name):
        name = _PART.sub(" ", name)
    if _COUNTED.search(identity):  # what is there once is the page's own
        identity = _PART.sub(" ", identity)
    if not _SUSPECT.search(identity) or element.get("role") == "tabpanel" or _TAB.search(name):
        return name
    heading = next(element.iter("h1", "h2", "h3", "h4", "h5", "h6"), None)
    named = heading is not None and _letters(heading.text_content()).startswith(_letters(identity))
    return name if named else f"{name} {identity}"


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def main_container(tree: Any) -> Any | None:
    """The element that the page itself marks as its main text, or None."""
    found = [*tree.iter("main"), *tree.xpath("//*[@role='main']"), *tree.xpath("//*[@itemprop='articleBody']")]
    if found:
        return found[0]
    articles = [element for element in tree.iter("article") if not _inside(element, {"article"})]
    return articles[0] if len(articles) == 1 else None


def words(text: str) -> int:
    """How many words the text has; a script without spaces counts a word for every two characters."""
    if text.isascii():
        return len(text.split())
    return sum(max(1, len(word) // 2 if not word.isascii() and len(word) > 20 else 1) for word in text.split())


def _hidden(element: Any, revealed: set[str]) -> bool:
    if element.tag in {"html", "body"}:
        return False
    if element.get("hidden") is not None and element.get("hidden") != "until-found":
        return element.get("id") not in revealed and element.get("role") != "tabpanel"
    if _hiding(element):
        # What a visible control unfolds is for readers: accordions, tabs.
        return element.get("id") not in revealed and element.get("role") != "tabpanel"
    return element.get("aria-hidden") == "true" and words(element.text_content()) <= 3


def _hiding(element: Any) -> bool:
    """Whether its style hides it; what is only transparent until the reader has scrolled to it is shown."""
    style = element.get("style") or ""
    if _HIDING.search(style):
        return True
    if not _UNSEEN.search(style):
        return False
    fades_in = _MOVES.search(style) or any(map(_ANIMATED.fullmatch, element.keys()))
    return not fades_in or bool(_INERT.search(style))


def _shown_words(element: Any) -> int:
    """Words that were written as text: neither code nor navigation."""
    if _furniture(element):
        return 0
    return words(element.text or "") + sum(_shown_words(child) + words(child.tail or "") for child in element)


def _furniture(element: Any) -> bool:
    tag, role = element.tag, (element.get("role") or "").lower()
    if tag in _CODE or tag in {"nav", "dialog"} or role in _ROLES:
        return True
    if tag == "footer":
        return not _inside(element, {"main", "article", "blockquote"})
    if tag == "button":
        return not _inside(element, {"h1", "h2", "h3", "h4", "h5", "h6", "dt", "summary"}) and not element.get(
            "aria-controls"
        )
    if tag == "form":
        return words(element.text_content()) < _FORM_WORDS
    return _consent(element)


def _consent(element: Any) -> bool:
    """A cookie bar by its name; a page about cookies is longer, or marked as the main text."""
    name = f"{element.get('class') or ''} {element.get('id') or ''}"
    if not _CONSENT.search(name) or element.tag in {"html", "body", "main", "article"} or _inside(element, {"main"}):
        return False
    return words(element.text_content()) < _BAR_WORDS


def _inside(element: Any, tags: set[str]) -> bool:
    return any(ancestor.tag in tags for ancestor in element.iterancestors())


def _attached(element: Any, tree: Any) -> bool:
    return element is tree or any(ancestor is tree for ancestor in element.iterancestors())
