"""Owns what a page's own stylesheets hide from its readers for good: nothing that a script, a control or another rule shows."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lxml import etree

MOST_CSS = 1_000_000
"""Characters: longer stylesheets are not looked at."""
MOST_HIDDEN = 2_000
"""Elements of one page that are looked at."""
_MOST_MARKS = 500
_SHEETS = etree.XPath("descendant::style[not(ancestor::noscript or ancestor::template)]")
_EVERYWHERE = frozenset(["", "all", "screen"])
_NOISE = re.compile(r"/\*.*?(?:\*/|\Z)|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|<!--|-->", re.DOTALL)
_PIECE = re.compile(r"([^{}]*)([{}])")
_NAME = re.compile(r"[.#](?:[\w-]|\\.)+")
_SIMPLE = re.compile(rf"([a-z][a-z0-9]*)?({_NAME.pattern})", re.IGNORECASE)
_HIDES = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\s*(?:[;!]|$)", re.IGNORECASE)
_SHOWS = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*(?!none)|visibility\s*:\s*(?!hidden)|transition|animation)[\w:-]", re.IGNORECASE
)
_SCRIPTS = etree.XPath("descendant::script/text()")
_QUOTED = re.compile(r"[\"'`][.#]?([\w-]+)|[.#]([\w-]+)(?=[\"'`\s,:>\[])")
# One path: a union would compare each attribute with all others.
_LEADING = etree.XPath(
    "//@*[starts-with(name(), 'on') or starts-with(name(), 'data-') or name() = 'aria-controls' or name() = 'for'"
    " or (name() = 'href' and starts-with(., '#'))]"
)
_WORD = re.compile(r"[\w-]+")
# Names of what scripts unfold, bring in, or show to some readers, and of what they mark it with.
_UNFOLDED = re.compile(
    r"accord|collaps|expand|toggl|fold|tabs?(?![a-z])|tab-?(?:content|item)|pane|faq|answer|drop-?down|menu"
    r"|spoiler|more|step|slid|swiper|carousel|reveal|animat|fade|scroll|wow|aos|framer|elementor-invisible|w-id"
    r"|cloak|load|lazy|js|mobile|desktop|tablet|(?<![a-z])(?:xs|sm|md|lg|xl)(?![a-z])",
    re.IGNORECASE,
)
_OPENS = (
    "self::button or self::summary or @onclick or @aria-expanded or @role='button' or @role='tab'"
    " or self::a[not(@href) or starts-with(@href, '#') or starts-with(@href, 'javascript:')]"
)
_OPENS_NEXT = "self::label or self::dt or self::h2 or self::h3 or self::h4 or self::h5 or self::h6"
_SHORT = "boolean(self::*[string-length() < 300]/descendant-or-self::*[{}])"
_CONTROL = etree.XPath(_SHORT.format(f"{_OPENS} or {_OPENS_NEXT}"))
_CONTROL_BEHIND = etree.XPath(_SHORT.format(_OPENS))
_MOST_AROUND = 20
"""Elements around one whose names are looked at."""


def hidden_by_styles(tree: Any) -> list[Any]:
    """The outermost elements that a rule outside of any other hides by class or id (`.name`, `#name`, `tag.name`).

    Not those that another rule, their own style, or what is in them shows, or a script or a link speaks of, nor what is
    named like what unfolds, or stands beside what opens it, nor what holds the page's heading or main text.
    """
    hidden, shown = _selected(tree)
    if not hidden:
        return []
    spoken = shown | _spoken_of(tree)
    found, opened = dict[Any, None](), set[Any]()
    for element in islice((element for element in tree.iter() if _is_named(element, hidden)), MOST_HIDDEN):
        if not found.keys().isdisjoint(element.iterancestors()) or not spoken.isdisjoint(_names(element)):
            continue
        if element.getprevious() in opened or _unfolds(element):
            opened.add(element)
        elif not _is_shown(element, shown):
            found[element] = None
    return list(found)


def _is_shown(element: Any, shown: set[str]) -> bool:
    """Whether its own style, a rule for what is in it, or a script shows it: the last where it has the main text or heading."""
    if element.tag in {"main", "article"} or _SHOWS.search(element.get("style") or ""):
        return True
    return any(
        inner.tag in {"main", "article", "h1"} or not shown.isdisjoint(_names(inner))
        for inner in element.iterdescendants()
    )


def _selected(tree: Any) -> tuple[set[tuple[str, str]], set[str]]:
    """Tag (or none) and name (`.class`, `#id`) of what simple selectors hide; names of what any selector shows."""
    hidden, shown = set[tuple[str, str]](), set[str]()
    for everywhere, selectors, declarations in _all_rules(tree):
        if _SHOWS.search(declarations):
            shown.update(_subjects(selectors))
        elif everywhere and _HIDES.search(declarations):
            hidden.update(_simple(selectors))
    return hidden, shown


def _subjects(selectors: str) -> Iterator[str]:
    """The names of what the selectors are about."""
    for selector in selectors.split(","):
        yield from map(_unescaped, _NAME.findall(re.split(r"[\s>+~]+", selector.strip())[-1]))


def _simple(selectors: str) -> Iterator[tuple[str, str]]:
    """Tag (or none) and name of those selectors that are no more than that."""
    for selector in selectors.split(","):
        if found := _SIMPLE.fullmatch(selector.strip()):
            yield (found[1] or "").lower(), _unescaped(found[2])


def _all_rules(tree: Any) -> Iterator[tuple[bool, str, str]]:
    """Of each rule of the page: whether it holds everywhere, its selectors, its declarations; none of very long sheets."""
    sheets = [(sheet.text or "", (sheet.get("media") or "").strip().lower()) for sheet in _SHEETS(tree)]
    if sum(len(css) for css, _ in sheets) <= MOST_CSS:
        for css, media in sheets:
            for outermost, selectors, declarations in _rules(css):
                yield outermost and media in _EVERYWHERE, selectors, declarations


def _rules(css: str) -> Iterator[tuple[bool, str, str]]:
    """Of each rule without others in it: whether it is in no other, its selectors, its declarations."""
    depth, selectors = 0, ""
    for text, brace in _PIECE.findall(_NOISE.sub(" ", css) + "}"):
        if brace == "{":
            depth, selectors = depth + 1, text.rpartition(";")[2]
        else:
            if selectors:
                yield depth == 1, selectors, text
            depth, selectors = max(0, depth - 1), ""


def _unescaped(name: str) -> str:
    return name.replace("\\", "")


def _spoken_of(tree: Any) -> set[str]:
    """The names that scripts' strings have, and the words of handlers, data, and of what controls and links lead to."""
    names = {name for script in _SCRIPTS(tree) for found in _QUOTED.findall(script) for name in found if name}
    names.update(name for value in _LEADING(tree) for name in _WORD.findall(value))
    return {f"{kind}{name}" for name in names for kind in ".#"}


def _is_named(element: Any, hidden: set[tuple[str, str]]) -> bool:
    return element.tag not in {"html", "body"} and not hidden.isdisjoint(
        (tag, name) for name in _names(element) for tag in ("", element.tag)
    )


def _names(element: Any) -> list[str]:
    return [*(f".{name}" for name in (element.get("class") or "").split()), f"#{element.get('id') or ''}"]


def _unfolds(element: Any) -> bool:
    """Whether the element, or what is around it, is marked as something that scripts show, or is beside what opens it."""
    around = [
        each for each in islice(element.iterancestors(), _MOST_AROUND) if each.tag not in {"html", "body", "main"}
    ]
    marks = f"{' '.join(map(_marks, [element, *around]))} {' '.join(element.keys())} {element.get('role')}"
    if _UNFOLDED.search(marks):
        return True
    before, behind = element.getprevious(), element.getnext()
    while before is not None and before.tag in {"style", "script"}:
        before = before.getprevious()
    return bool((before is not None and _CONTROL(before)) or (behind is not None and _CONTROL_BEHIND(behind)))


def _marks(element: Any) -> str:
    return f"{(element.get('class') or '')[:_MOST_MARKS]} {(element.get('id') or '')[:_MOST_MARKS]}"
