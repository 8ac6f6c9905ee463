"""Owns the text of an OpenDocument paragraph: its spans and spaces, and the notes and frames that hang on it."""

from collections.abc import Iterator
from typing import Any

from workers.extract.xml_tree import attribute, whole

_UNSEEN = frozenset(
    {"note-body", "annotation", "annotation-end", "frame", "ruby-text", "tracked-changes", "g", "custom-shape"}
)
_HIDDEN = frozenset({"hidden-text", "hidden-paragraph"})
_MAX_SPACES = 100
_MAX_CHAIN = 16
_FLOATING = frozenset({"text-box", "table", "custom-shape"})


def drop_unseen(content: Any, named: Any | None) -> int:
    """Empties the paragraphs and spans whose style hides them; how many words that were.

    `named` is the root of the part with the document's named styles, on which those of `content` are based.
    """
    unseen = _unseen_styles(content, named)
    dropped = 0
    for element in reversed(list(content.iter("span", "p", "h"))) if unseen else ():
        family = "text" if element.tag == "span" else "paragraph"
        if (family, attribute(element, "style-name")) in unseen:
            dropped += len(text_of(element).split())
            element.clear(keep_tail=True)
    return dropped


def _unseen_styles(content: Any, named: Any | None) -> set[tuple[str, str]]:
    """Families and names of the styles that hide text, by themselves or by the style that they are based on."""
    declared: dict[tuple[str, str], str] = {}
    parents: dict[tuple[str, str], tuple[str, str]] = {}
    for part in (content,) if named is None else (named, content):
        for style in part.iter("style"):
            key = attribute(style, "family"), attribute(style, "name")
            shown = [attribute(one, "display") for one in style.iterchildren("text-properties")]
            declared[key] = "".join(shown)
            parents[key] = key[0], attribute(style, "parent-style-name")
    unseen = set()
    for key in declared:
        at, steps = key, 0
        while not declared.get(at) and at in parents and steps < _MAX_CHAIN:
            at, steps = parents[at], steps + 1
        if declared.get(at) == "none":
            unseen.add(key)
    return unseen


def text_of(paragraph: Any) -> str:
    """What a reader sees of the paragraph; a note's mark as `[1]`."""
    parts: list[str] = []
    stack: list[Any] = [paragraph]
    while stack:
        element = stack.pop()
        if isinstance(element, str):
            parts.append(element)
            continue
        if element is not paragraph and element.tail:
            stack.append(element.tail)
        if element.tag in _UNSEEN or element.tag in _HIDDEN:
            continue
        if element.tag == "note-citation":
            parts.append(f" [{element.text or ''}]")
            continue
        parts.append(_own(element))
        stack.extend(reversed(element))
    return "".join(parts)


def _own(element: Any) -> str:
    if element.tag == "s":
        return " " * min(max(1, whole(attribute(element, "c"), 1)), _MAX_SPACES)
    if element.tag in {"tab", "line-break"}:
        return "\t" if element.tag == "tab" else "\n"
    return element.text or ""


def notes(element: Any) -> Iterator[tuple[str, str]]:
    """The marks and texts of the notes in it."""
    for note in element.iter("note"):
        text = " ".join(text_of(one) for body in note.iterchildren("note-body") for one in paragraphs(body))
        if text.strip():
            yield (note.findtext("note-citation") or "").strip(), " ".join(text.split())


def frames(paragraph: Any) -> Iterator[Any]:
    """The text boxes and tables that are anchored to the paragraph."""
    stack = list(reversed(paragraph))
    while stack:
        element = stack.pop()
        if element.tag in _FLOATING:
            yield element
        elif element.tag != "note":
            stack.extend(reversed(element))


def paragraphs(container: Any) -> Iterator[Any]:
    """The paragraphs and headings in it, at any depth; not those of comments and notes."""
    stack = list(reversed(container))
    while stack:
        element = stack.pop()
        if element.tag in {"p", "h"}:
            yield element
        if element.tag not in {"annotation", "note-body"}:
            stack.extend(reversed(element))
