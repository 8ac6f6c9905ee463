"""Owns what RTF's control words set: a group's state, the paragraph in the making, and the tables of fonts and styles."""

import re
from dataclasses import dataclass, field, replace

from workers.extract.rtf_tokens import charset, code_page

_HEADING = re.compile(r"(?:heading|überschrift|titre|título|titolo|kop) ?([1-6])", re.IGNORECASE)
_MAX_TABLE = 10_000


@dataclass(slots=True)
class Paragraph:
    """The text of the paragraph or cell that is being read."""

    parts: list[str] = field(default_factory=list)
    mark: str = ""
    """What its program wrote before it as a list's item."""
    bold: bool = True
    """Whether all its text is bold."""
    hidden: int = 0
    """Words of the whole document that are not shown."""

    def write(self, text: str, *, bold: bool) -> None:
        """Adds text."""
        self.parts.append(text)
        self.bold = self.bold and (bold or not text.strip())

    def take_text(self) -> str:
        """The text, which is done with; pairs of surrogates made characters."""
        text = "".join(self.parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip()
        self.parts, self.mark, self.bold = [], "", True
        return text


class Tables:
    """What the file's head declares: fonts' encodings, headings among the styles, the title."""

    def __init__(self) -> None:
        self.encoding = "cp1252"
        self.fonts: dict[int, str] = {}
        self.levels: dict[int, int] = {}
        self.title = ""

    def learn(self, state: "State", text: str) -> None:
        """Takes in what a group in the head said."""
        if state.destination == "title" and state.owner:
            self.title = self.title or text
        elif state.destination == "style" and (found := _HEADING.match(text.strip())) and len(self.levels) < _MAX_TABLE:
            self.levels[state.style] = int(found.group(1))


@dataclass(slots=True)
class State:
    """What holds until the group ends: where text goes, how it is encoded, and the paragraph's properties."""

    destination: str = "body"
    owner: bool = False
    """Whether the destination began in this very group."""
    captured: list[str] = field(default_factory=list)
    """Text of another destination than the body; inner groups share it."""
    encoding: str = ""
    font: int = 0
    fallback: int = 1
    """How many characters after a Unicode one are for old programs."""
    skip: int = 0
    hidden: bool = False
    bold: bool = False
    style: int = 0
    level: int = 0
    listed: bool = False
    depth: int = 0
    in_table: bool = False
    waiting: bytearray = field(default_factory=bytearray)

    def inner(self) -> "State":
        """The state at the begin of a group in this one."""
        captured = [] if self.destination in {"style", "info"} else self.captured
        return replace(self, owner=False, skip=0, captured=captured, waiting=bytearray())

    def into(self, destination: str) -> None:
        """Sends the group's text elsewhere."""
        if self.destination in {"body", "info", "note"} and not (destination == "title" and self.destination != "info"):
            self.destination, self.owner, self.captured = destination, True, []

    def feed(self, data: bytes) -> None:
        """Adds bytes of text, without those that only stand for a Unicode character."""
        if self.skip:
            data, self.skip = data[self.skip :], max(0, self.skip - len(data))
        self.waiting += data

    def flush(self, paragraph: Paragraph) -> None:
        """Writes the bytes that wait: a character may be of two of them."""
        if self.waiting:
            self.write(self.waiting.decode(self.encoding or "cp1252", "replace"), paragraph)
            self.waiting.clear()

    def write(self, text: str, paragraph: Paragraph) -> None:
        """Adds text to where it belongs."""
        if self.hidden and self.destination == "body":
            paragraph.hidden += len(text.split())
        elif self.destination == "body":
            paragraph.write(text, bold=self.bold)
        elif self.destination != "skip":
            self.captured.append(text)

    def write_unicode(self, number: int, paragraph: Paragraph) -> None:
        """Adds a character by its UTF-16 unit; what stands for it in old programs comes next and is left out."""
        self.write(chr(number & 0xFFFF), paragraph)
        self.skip = self.fallback

    def apply(self, word: str, number: int | None, tables: Tables) -> None:
        """Does what a control word says that sets a property."""
        on = number != 0
        if word in _SWITCHES:
            setattr(self, _SWITCHES[word], on)
        elif word == "pard":
            self.style, self.level, self.listed, self.depth, self.in_table = 0, 0, False, 0, False
        elif word == "plain":
            self.hidden = self.bold = False
        elif word in {"f", "fcharset", "ansicpg", "mac", "pc"}:
            self._encode(word, number or 0, tables)
        elif number is not None and word in _NUMBERS:
            self._number(word, number)

    def _number(self, word: str, number: int) -> None:
        if word == "s":
            self.style = number
        elif word == "outlinelevel":
            self.level = min(number + 1, 6) if 0 <= number < 9 else 0
        elif word == "ilvl":
            self.depth = max(0, min(number, 8))
        else:
            self.fallback = max(0, min(number, 100))

    def _encode(self, word: str, number: int, tables: Tables) -> None:
        if word == "f":
            self.font = number
            self.encoding = tables.fonts.get(number, tables.encoding)
        elif word == "fcharset":
            if len(tables.fonts) < _MAX_TABLE:
                tables.fonts[self.font] = charset(number) if number else tables.encoding
        else:
            tables.encoding = {"mac": "mac-roman", "pc": "cp437"}.get(word) or code_page(number)
            self.encoding = tables.encoding


_SWITCHES = {"v": "hidden", "deleted": "hidden", "b": "bold", "intbl": "in_table", "ls": "listed"}
_NUMBERS = frozenset({"s", "outlinelevel", "ilvl", "uc"})
