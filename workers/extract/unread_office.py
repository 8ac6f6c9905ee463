"""Owns what is said of office documents that can't be read: what they are, and what to save them as."""

from collections.abc import Iterable
from pathlib import PurePosixPath

_ENTRY = 128
"""Bytes of an entry in a compound file's directory, which begins with its name."""
_OLD = {
    "WordDocument": "This is an old Word document (.doc), which can't be read. Save it as .docx or PDF.",
    "Workbook": "This is an old Excel workbook (.xls), which can't be read. Save it as .xlsx.",
    "Book": "This is an old Excel workbook (.xls), which can't be read. Save it as .xlsx.",
    "PowerPoint Document": "This is an old PowerPoint presentation (.ppt), which can't be read. Save it as .pptx or PDF.",
}
_ANY_OLD = "This is an old Office document, which can't be read. Save it as .docx, .xlsx, .pptx or PDF."
_APPLE = {
    ".pages": "This is a Pages document (.pages), which can't be read. Export it as .docx or PDF.",
    ".numbers": "This is a Numbers spreadsheet (.numbers), which can't be read. Export it as .xlsx.",
    ".key": "This is a Keynote presentation (.key), which can't be read. Export it as .pptx or PDF.",
}
_ANY_APPLE = (
    "This is a Pages, Numbers or Keynote document, which can't be read. Export it as .docx, .xlsx, .pptx or PDF."
)
_APPLE_MEMBERS = frozenset({"index/document.iwa", "index.zip", "index.apxl", "index.xml.gz", "index.apxl.gz"})


def told_of_compound(body: bytes) -> str:
    """What is said of a compound file, the form of Office's documents until 2003: told by its first main stream."""
    found = {place: text for name, text in _OLD.items() if (place := _entry(body, name)) >= 0}
    return found[min(found)] if found else _ANY_OLD


def told_of_apple(members: Iterable[str], filename: str | None) -> str | None:
    """What is said of a zip file with these members, if it is a document of Apple's office programs."""
    if _APPLE_MEMBERS.isdisjoint(member.casefold() for member in members):
        return None
    return _APPLE.get(PurePosixPath((filename or "").casefold()).suffix, _ANY_APPLE)


def _entry(body: bytes, name: str) -> int:
    """Where the directory's entry of this name is; -1 where there is none."""
    wanted = name.encode("utf-16-le") + b"\0\0"
    place = body.find(wanted)
    while place >= 0 and place % _ENTRY:
        place = body.find(wanted, place + 1)
    return place
