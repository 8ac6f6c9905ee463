"""Owns what is told of a PDF before its lines are put in order: pages, their lines with their places, the outline."""

from dataclasses import dataclass, field

HYPHEN = "\ufffe"
"""Where pdfium took a hyphen and a line end out of a word."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text with its place in points from the page's lower left corner."""

    text: str
    left: float
    right: float
    first_bottom: float
    """The bottom of its first character's box; a word mended over a line end makes it differ from `bottom`."""
    bottom: float
    size: float
    """The height of its characters' boxes, which grows with the font's size."""
    tabular: bool = False
    """Whether it has gaps as wide as those between a table's cells, written as ` | `."""
    bold: bool = False
    """Whether it begins and ends in a bold font."""
    white: bool = False
    """Whether it begins and ends in white."""
    space: tuple[float, float] = (0.0, 0.0)
    """Where the space behind a mark or short word that it begins with begins and ends; both 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page's lines in reading order."""

    number: int
    height: float
    lines: tuple[Line, ...]
    pictured: bool = False
    """Whether images cover most of it; looked at only where there are few lines."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the outline: level from 1, title, 1-based page."""

    level: int
    title: str
    page: int


@dataclass(slots=True)
class Paged:
    """A PDF's text before it is put in order."""

    pages: list[Page]
    title: str = ""
    language: str | None = None
    """As declared, lower case."""
    outline: list[Entry] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    """Numbers of the pages that are damaged."""
    repaired: bool = False
    """Whether it could be opened only by mending it or by the fallback."""
    created: str = ""
    """As declared, like `modified`."""
    modified: str = ""
    hidden: int = 0
    """How many words were dropped that no reader sees."""
