"""Owns the text of a Word paragraph: what a reader sees of its runs, and the notes and text boxes that hang on it."""

from dataclasses import dataclass, field
from typing import Any

from workers.extract.docx_styles import Styles, is_on
from workers.extract.xml_tree import attribute

_UNSEEN = frozenset({"del", "moveFrom", "pPr", "rPr", "instrText", "delText", "txbxContent", "Fallback", "rt"})
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_REFERENCES = {"footnoteReference": "footnote", "endnoteReference": "endnote"}


@dataclass(slots=True)
class Seen:
    """A paragraph's text, its notes' kinds and ids, its text boxes, how many words it hides, and whether all is bold."""

    parts: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    hidden: int = 0
    bold: bool = True

    @property
    def text(self) -> str:
        return "".join(self.parts).strip()

    def take(self, element: Any, *, bold: bool) -> None:
        """What stands in an element itself: text, a mark, or a note's number."""
        tag = element.tag
        if tag == "t":
            text = element.text or ""
            self.parts.append(text)
            self.bold = self.bold and (bold or not text.strip())
        elif tag in _MARKS:
            self.parts.append(_MARKS[tag])
        elif tag in _REFERENCES:
            number = attribute(element, "id")
            self.parts.append(f" [{number}]")
            self.notes.append((_REFERENCES[tag], number))


def seen(paragraph: Any, styles: Styles) -> Seen:
    """What a reader sees of the paragraph."""
    found = Seen()
    stack = [paragraph]
    bold = False
    unseen = _style(paragraph.find("pPr"), "pStyle") in styles.hidden
    while stack:
        element = stack.pop()
        if element.tag == "txbxContent":
            found.boxes.append(element)
        elif element.tag not in _UNSEEN:
            if element.tag == "r":
                hidden, bold = _look(element, styles, unseen=unseen)
                if hidden:
                    found.hidden += sum(len((text.text or "").split()) for text in element.iter("t"))
                    continue
            found.take(element, bold=bold)
            stack.extend(reversed(element))
    return found


def _look(run: Any, styles: Styles, *, unseen: bool) -> tuple[bool, bool]:
    """Whether the run is hidden, and whether it is bold; `unseen` says that its paragraph's style hides it."""
    properties = run.find("rPr")
    if properties is None:
        return unseen, False
    style = _style(properties, "rStyle")
    by_style = unseen or style in styles.hidden
    hidden = by_style if properties.find("vanish") is None else is_on(properties, "vanish")
    return hidden, is_on(properties, "b") or style in styles.bold


def _style(properties: Any | None, name: str) -> str:
    found = properties.find(name) if properties is not None else None
    return attribute(found, "val") if found is not None else ""
