"""Owns the text of a Word paragraph: what a reader sees of its runs, and the notes and text boxes that hang on it."""

from dataclasses import dataclass, field
from typing import Any

from workers.extract.docx_look import Looks
from workers.extract.docx_styles import Styles, is_on, value_of
from workers.extract.raised import Joined
from workers.extract.xml_tree import attribute

_UNSEEN = frozenset({"del", "moveFrom", "pPr", "rPr", "instrText", "delText", "txbxContent", "Fallback", "rt"})
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_REFERENCES = {"footnoteReference": "footnote", "endnoteReference": "endnote"}


@dataclass(slots=True)
class Seen:
    """A paragraph's text, its notes' kinds and ids, its text boxes, how many words it hides, and whether all is bold."""

    joined: Joined = field(default_factory=Joined)
    notes: list[tuple[str, str]] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    hidden: int = 0
    bold: bool = True

    @property
    def text(self) -> str:
        return str(self.joined).strip()

    def take(self, element: Any, *, bold: bool) -> None:
        """What stands in an element itself: text, a mark, or a note's number."""
        tag = element.tag
        if tag == "t":
            text = element.text or ""
            self.joined.add(text)
            self.bold = self.bold and (bold or not text.strip())
        elif tag in _MARKS:
            self.joined.add(_MARKS[tag])
        elif tag in _REFERENCES:
            number = attribute(element, "id")
            self.joined.add(f" [{number}]")
            self.notes.append((_REFERENCES[tag], number))
        else:
            self.joined.enter(tag)


def seen(paragraph: Any, styles: Styles, looks: Looks) -> Seen:
    """What a reader sees of the paragraph."""
    found = Seen()
    stack = [paragraph]
    bold = False
    by_style = looks.of_paragraph(paragraph)
    while stack:
        element = stack.pop()
        if element.tag == "txbxContent":
            found.boxes.append(element)
        elif element.tag not in _UNSEEN:
            if element.tag == "r":
                if not looks.is_seen(element, by_style):
                    found.hidden += sum(len((text.text or "").split()) for text in element.iter("t"))
                    continue
                bold = _is_bold(element, styles)
                found.joined.move(_height(element, styles))
            found.take(element, bold=bold)
            stack.extend(reversed(element))
    return found


def _height(run: Any, styles: Styles) -> str:
    """How the run, or the nearest of its styles that says so, raises or lowers it."""
    properties = run.find("rPr")
    if properties is None:
        return ""
    named = (style.find("rPr") for style in styles.chain(value_of(properties, "rStyle")))
    said = (value_of(one, "vertAlign") for one in (properties, *named) if one is not None)
    return next(filter(None, said), "")


def _is_bold(run: Any, styles: Styles) -> bool:
    properties = run.find("rPr")
    return properties is not None and (is_on(properties, "b") or value_of(properties, "rStyle") in styles.bold)
