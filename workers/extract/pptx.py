"""Owns PowerPoint presentations: a slide is a page, its title a heading; tables, diagrams and notes are kept."""

from collections.abc import Iterable, Iterator
from typing import Any

from workers.documents import Block, Document
from workers.extract.grid import carried, markdown
from workers.extract.lists import joined_lists
from workers.extract.ooxml import Package
from workers.extract.raised import Joined
from workers.extract.xml_tree import attribute, mending, whole

_TITLES = frozenset({"title", "ctrTitle"})
_FURNITURE = frozenset({"dt", "ftr", "sldNum", "hdr", "sldImg"})
_LISTED = frozenset({"", "body", "obj"})
_OPEN = frozenset({"grpSp", "AlternateContent", "Choice"})


def extract_pptx(body: bytes) -> Document:
    """The slides' text with their numbers; the title may be empty. Hidden slides and shapes are left out.

    Raises MalformedDocument, EncryptedDocument, TooLarge.
    """
    with mending():
        package = Package(body)
        main = package.main("ppt/presentation.xml")
        relations = package.relations(main)
        blocks: list[Block] = []
        hidden = []
        dropped = 0
        listed = [relations.get(_relation(one)) for one in package.xml(main).iter("sldId")]
        slides = [one.target for one in listed if one and one.kind == "slide" and one.target in package.archive]
        for number, part in enumerate(dict.fromkeys(slides), 1):
            slide = package.xml(part)
            if attribute(slide, "show", "1") in {"0", "false"}:
                hidden.append(str(number))
            else:
                dropped += _drop_hidden(slide)
                blocks.extend(joined_lists(_slide(package, part, slide, number)))
        return Document(
            title=package.title(),
            blocks=tuple(blocks),
            media_type="application/vnd.openxmlformats-officedocument.presentationml.presentation",
            pages=len(slides),
            warnings=tuple(_warnings(hidden, dropped)),
            **package.dates(),
        )


def _warnings(hidden: list[str], dropped: int) -> Iterator[str]:
    if hidden:
        yield f"Hidden slides were left out: {', '.join(hidden)}."
    if dropped:
        yield f"{dropped} words that the presentation hides from its readers were dropped."


def _drop_hidden(slide: Any) -> int:
    """Takes the hidden shapes and groups out of the slide; how many words that were."""
    dropped = 0
    for shape in reversed(list(slide.iter("sp", "graphicFrame", "grpSp"))):
        named = shape.find("*/cNvPr")
        if named is not None and attribute(named, "hidden") in {"1", "true"}:
            if all(above.tag != "Fallback" for above in shape.iterancestors()):
                dropped += sum(len((text.text or "").split()) for text in shape.iter("t"))
            shape.getparent().remove(shape)
    return dropped


def _relation(slide: Any) -> str:
    return next((str(value) for key, value in slide.items() if key.endswith("}id")), "")


def _slide(package: Package, part: str, slide: Any, number: int) -> Iterator[Block]:
    relations = package.relations(part)
    shapes = list(_shapes(slide))
    titles = [shape for shape in shapes if _placeholder(shape) in _TITLES]
    yield from _headings(titles, number)
    targets = {key: one.target for key, one in relations.items()}
    for shape in shapes:
        if shape.tag == "graphicFrame":
            yield from _graphic(package, shape, targets, number)
        elif shape not in titles:
            yield from _paragraphs(shape, number)
    for one in relations.values():
        if one.kind == "notesSlide" and one.target in package.archive:
            yield from _notes(package.xml(one.target), number)


def _headings(titles: Iterable[Any], number: int) -> Iterator[Block]:
    for shape in titles:
        if text := " ".join(" ".join(_text(one) for one in shape.iter("p")).split()):
            yield Block("heading", text, 1, number)


def _shapes(slide: Any) -> Iterator[Any]:
    """The shapes in reading order, those of groups too."""
    stack = [shape for tree in slide.iter("spTree") for shape in tree][::-1]
    while stack:
        element = stack.pop()
        if element.tag in {"sp", "graphicFrame"}:
            if _placeholder(element) not in _FURNITURE:
                yield element
        elif element.tag in _OPEN:
            stack.extend(reversed(element))


def _placeholder(shape: Any) -> str | None:
    """The placeholder's type, empty for one of the layout's own; None for a shape that is none."""
    found = shape.find("*/nvPr/ph")
    return attribute(found, "type") if found is not None else None


def _paragraphs(shape: Any, number: int) -> Iterator[Block]:
    listed = _placeholder(shape) in _LISTED
    for paragraph in shape.iterfind("txBody/p"):
        text = _text(paragraph).strip()
        if not text:
            continue
        properties = paragraph.find("pPr")
        marks = {child.tag for child in properties} if properties is not None else set()
        if marks & {"buChar", "buAutoNum", "buBlip"} or (listed and "buNone" not in marks):
            depth = whole(attribute(properties, "lvl")) if properties is not None else 0
            yield Block("list", f"{'  ' * min(max(depth, 0), 8)}- {' '.join(text.split())}", page=number)
        else:
            yield Block("paragraph", text, page=number)


def _text(paragraph: Any) -> str:
    joined = Joined()
    for element in paragraph.iter():
        if element.tag in {"r", "fld"}:
            properties = element.find("rPr")
            joined.move(attribute(properties, "baseline") if properties is not None else "")
        elif element.tag in {"t", "br"}:
            joined.add("\n" if element.tag == "br" else element.text or "")
        else:
            joined.enter(element.tag)
    return str(joined)


def _graphic(package: Package, frame: Any, targets: dict[str, str], number: int) -> Iterator[Block]:
    for table in frame.iter("tbl"):
        rows = ([_cell(cell) for cell in row.iterchildren("tc")] for row in table.iterchildren("tr"))
        if text := markdown(carried(rows)):
            yield Block("table", text, page=number)
    for diagram in frame.iter("relIds"):
        part = targets.get(attribute(diagram, "dm"), "")
        if part in package.archive:
            for paragraph in package.xml(part).iter("p"):
                if text := " ".join(_text(paragraph).split()):
                    yield Block("list", f"- {text}", page=number)


def _cell(cell: Any) -> str | None:
    """The cell's text; None for one that is covered from above."""
    text = " ".join(_text(paragraph) for paragraph in cell.iter("p"))
    return text if text or attribute(cell, "vMerge") not in {"1", "true"} else None


def _notes(notes: Any, number: int) -> Iterator[Block]:
    for tree in notes.iter("spTree"):
        for shape in _shapes(tree):
            text = "\n".join(_text(paragraph) for paragraph in shape.iterfind("txBody/p")).strip()
            if text:
                yield Block("paragraph", f"Notes: {text}", page=number)
