"""Owns RTF documents: paragraphs, headings by their style, lists, tables and footnotes."""

from chat_api.core.errors import MalformedDocument
from workers.documents import Block, Document
from workers.extract.grid import carried, markdown
from workers.extract.headings import may_head, with_headings
from workers.extract.lists import joined_lists
from workers.extract.rtf_state import Paragraph, State, Tables
from workers.extract.rtf_tokens import Token, tokens

MAX_DEPTH = 500
_SKIPPED = frozenset(
    {
        *("annotation", "atnauthor", "atnid", "bkmkend", "bkmkstart", "colortbl", "datastore", "filetbl", "fldinst"),
        *("footer", "footerf", "footerl", "footerr", "generator", "header", "headerf", "headerl", "headerr", "sp"),
        *("listoverridetable", "listtable", "nonshppict", "object", "pict", "pnseclvl", "revtbl", "rsidtbl", "shprslt"),
        *("themedata", "xmlnstbl"),
    }
)
_STARRED = frozenset({"shpinst", "shptxt"})
_CAPTURED = {
    **{"fonttbl": "font", "stylesheet": "style", "info": "info", "title": "title"},
    **{"listtext": "mark", "pntext": "mark", "footnote": "note"},
}
_CHARACTERS = {
    **{"~": "\xa0", "_": "-", "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "bullet": "•", "nestcell": "\t"},
    **{
        "lquote": "‘",
        "rquote": "’",
        "ldblquote": "“",
        "rdblquote": "”",
        "nestrow": "\n",
        "emspace": " ",
        "enspace": " ",
    },
}
_ENDS = frozenset({"par", "sect", "page", "\n", "\r"})
_CELLS = frozenset({"trowd", "clvmrg", "cellx"})


def extract_rtf(body: bytes) -> Document:
    """The document's blocks; the title may be empty. Raises MalformedDocument and TooLarge."""
    reader = _Reader()
    for token in tokens(body):
        reader.take(token)
    return reader.end()


def _destination(word: str, *, starred: bool) -> str | None:
    """Where the group's text goes from this word on; None for a word that leads nowhere."""
    skipped = word in _SKIPPED or (starred and word not in _STARRED)
    return _CAPTURED.get(word, "skip" if skipped else None)


class _Reader:
    """Takes tokens and collects blocks."""

    def __init__(self) -> None:
        self._tables = Tables()
        self._state = State()
        self._groups: list[State] = []
        self._paragraph = Paragraph()
        self._notes: list[str] = []
        self._rows: list[list[str | None]] = []
        self._row: list[str] = []
        self._covered: list[bool] = [False]
        """Whether the row's cells go on with those above, as far as that is told, and whether the next one will."""
        self._blocks: list[Block] = []
        self._bold: set[int] = set()
        self._starred = False

    def take(self, token: Token) -> None:
        """Takes the next token in."""
        if token.word == "{":
            self._open()
        elif token.word == "}":
            self._close()
        elif not token.word:
            self._state.feed(token.text)
        elif token.word == "*":
            self._starred = True
        else:
            starred, self._starred = self._starred, False
            self._state.flush(self._paragraph)
            self._word(token.word, token.number, starred)

    def end(self) -> Document:
        """The whole document."""
        self._state.flush(self._paragraph)
        self._end_paragraph()
        self._end_table()
        warnings = []
        if self._groups:
            warnings.append("The file is damaged or incomplete; what could be read was taken.")
        if self._paragraph.hidden:
            warnings.append(f"{self._paragraph.hidden} words that the document hides from its readers were dropped.")
        return Document(
            title=" ".join(self._tables.title.split()),
            blocks=tuple(joined_lists(with_headings(self._blocks, self._bold))),
            media_type="application/rtf",
            warnings=tuple(warnings),
        )

    def _open(self) -> None:
        self._state.flush(self._paragraph)
        if len(self._groups) >= MAX_DEPTH:
            raise MalformedDocument
        self._groups.append(self._state)
        self._state = self._state.inner()

    def _close(self) -> None:
        self._state.flush(self._paragraph)
        self._starred = False
        if not self._groups:
            return
        outer, inner = self._groups.pop(), self._state
        self._state = outer
        if not inner.owner and inner.destination != "style":
            return
        text = "".join(inner.captured)
        if inner.destination == "note":
            self._notes.append(" ".join(text.split()))
        elif inner.destination == "mark":
            self._paragraph.mark = text
        else:
            self._tables.learn(inner, text)

    def _word(self, word: str, number: int | None, starred: bool) -> None:
        state = self._state
        if state.destination == "skip":
            return
        if destination := _destination(word, starred=starred):
            state.into(destination)
        elif word in _CHARACTERS:
            state.write(_CHARACTERS[word], self._paragraph)
        elif word in {"cell", "row"} or word in _ENDS:
            self._break(word)
        elif word in _CELLS:
            self._define(word)
        elif word == "u":
            state.write_unicode(number or 0, self._paragraph)
        else:
            state.apply(word, number, self._tables)

    def _break(self, word: str) -> None:
        if self._state.destination != "body":
            self._state.write("\n", self._paragraph)
        elif word == "cell":
            self._row.append(self._paragraph.take_text())
        elif word == "row":
            self._rows.append(self._take_row())
        elif self._state.in_table:
            self._paragraph.write("\n", bold=True)
        else:
            self._end_paragraph()

    def _define(self, word: str) -> None:
        """Takes in what a row says of its cells, before or after them."""
        if word == "trowd":
            self._covered = [False]
        elif word == "clvmrg":
            self._covered[-1] = True
        else:
            self._covered.append(False)

    def _take_row(self) -> list[str | None]:
        """The row, which is done with; None for a cell that is covered from above."""
        row, self._row = self._row, []
        covered = self._covered[: len(row)] + [False] * (len(row) - len(self._covered))
        return [None if hidden and not cell else cell for hidden, cell in zip(covered, row, strict=True)]

    def _end_paragraph(self) -> None:
        self._end_table()
        mark, bold = self._paragraph.mark.strip(), self._paragraph.bold
        text = self._paragraph.take_text()
        if text.strip():
            block = self._block(text, mark)
            if block.kind == "paragraph" and bold and may_head(text):
                self._bold.add(len(self._blocks))
            self._blocks.append(block)
        self._blocks += [Block("paragraph", note) for note in self._notes if note]
        self._notes = []

    def _block(self, text: str, mark: str) -> Block:
        """A paragraph as what it is; `mark` stands before those of a list."""
        state, flat = self._state, " ".join(text.split())
        if level := state.level or self._tables.levels.get(state.style, 0):
            return Block("heading", flat, level)
        if mark or state.listed:
            number = mark.rstrip(".)") if len(mark) < 6 else ""
            prefix = f"{number}." if number.isdecimal() else "-"
            return Block("list", f"{'  ' * state.depth}{prefix} {flat}")
        return Block("paragraph", text)

    def _end_table(self) -> None:
        rows, self._rows = self._rows, []
        if self._row:
            rows.append(self._take_row())
        if text := markdown(carried(rows)):
            self._blocks.append(Block("table", text))
