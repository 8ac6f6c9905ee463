"""What of an answer may reach the visitor, as it streams: citations that were offered, known links, no blocked term."""

import re
from collections.abc import Sequence

from chat_api.chat import blocked, links
from chat_api.chat.code import Place, find_code, place_behind

NO_ANSWER = "<no_answer/>"
"""What the model is told to say, and nothing else, when the passages do not answer the question."""
MARKER = re.compile(r"(?<![ \t])[ \t]*\[\s*(\d+(?:\s*[,;]\s*\d+)*)\s*\]")
MOST_DIGITS = 3
"""Of a passage's number: with more, like a year's or an order's, it is the text's own."""
MAX_HELD, MAX_OPEN = 2_400, 12
"""Characters, and brackets among them, that are held back at most: no link has more."""

MOST_PASSES = 8
"""Of reading what is left of a text once more: no text that means well needs half as many."""
MOST_AT_ONCE = 256
"""Characters of a piece that are read at once: what a piece costs grows with its length alone."""
LINE_CHARS = 200
"""Of what was shown of a line: whether words stand before a bracket decides what that may be."""

_NO_ANSWER = re.compile(r"<\s*(?:/\s*)?no[_ ]?answer\b[^<>]{0,20}>", re.IGNORECASE)
_CITED = re.compile(r"\[(\d{1,9})\]")
_BEGUN, _ENDED = re.compile(r"\[\d*\Z"), re.compile(r"\d*\]")
"""The parts of a number in brackets. Of a citation neither is shown without the other."""
_WORDS = re.compile(r"[^\W_]|[\u2600-\u27bf\U0001f000-\U0001faff]")


def without_markers(text: str) -> str:
    """The text of a page or of an owner, whose own numbers in brackets are no citations."""
    reader = _Numbers(0)
    for _ in range(MOST_PASSES):
        before, text = text, reader.read(text, whole=True)
        if text == before:
            return text
    return text.replace("[", "")


def cited_in(shown: str) -> list[int]:
    """The numbers cited in what was shown of an answer, in which each `[n]` is a citation."""
    return sorted(set(map(int, _CITED.findall(shown))))


class _Numbers:
    """Reads the numbers in brackets of a text that comes piece by piece: citations, and such as are the text's own."""

    def __init__(self, offered: int) -> None:
        self._offered = offered
        self._place = Place()
        self._last = ""
        """The last character of the pieces that are done."""

    def parted(self, text: str, index: int) -> int:
        """The last index up to this one where the text can be parted without another meaning."""
        return find_code(text, self._place, whole=False).parted(index)

    def done(self, text: str) -> None:
        """Takes a piece as read: what is read next stands behind it."""
        self._place, self._last = place_behind(text, self._place), text[-1:] or self._last

    def read(self, text: str, *, whole: bool) -> str:
        """The text with no `[n]` in it but citations; without `whole`, what may become code is left as it is."""
        code = find_code(text, self._place, whole=whole)
        shown, end = "", 0
        for found in MARKER.finditer(text, 0, code.open_from):
            shown += text[end : found.start()]
            if code.has(found.start(1)):
                shown += _spaced(found)
            else:
                shown += self._marker(found, behind=shown[-1:] or self._last)
            end = found.end()
        return shown + text[end:]

    def _marker(self, found: re.Match[str], *, behind: str) -> str:
        space = found[0][: found[0].index("[")]
        numbers = [number.strip().lstrip("0") or "0" for number in re.split("[,;]", found[1])]
        if min(map(len, numbers)) > MOST_DIGITS:
            # Right behind a bracket it would be the address of a link.
            parted = " " if behind.isalnum() or behind == "]" else ""
            return f"{space or parted}({found[1]})"
        cited = dict.fromkeys(int(number) for number in numbers if len(number) <= MOST_DIGITS)
        known = "".join(f"[{number}]" for number in cited if 1 <= number <= self._offered)
        return known and space + known


def _spaced(found: re.Match[str]) -> str:
    """A list's index or item as it is in code, where spaces mean nothing, so that no client takes it for a citation."""
    return found[0].replace(f"[{found[1]}]", f"[ {found[1]} ]") if found[1].isdecimal() else found[0]


class AnswerFilter:
    """Reads an answer as it streams, and holds back what may become a marker, a link or a term until that is decided.

    Numbers that were not offered are dropped, and `[1, 2]` becomes `[1][2]`. What is no citation is shown as something
    else: `[2024]` as `(2024)`, and in code `list[1]` as `list[ 1 ]`.
    """

    def __init__(
        self, offered: int, *, hosts: frozenset[tuple[str, int]] = frozenset(), blocked_terms: Sequence[str] = ()
    ) -> None:
        """`offered`: passages are numbered from 1 to this. `hosts`: where links may lead, see `links.hosts_of`."""
        self._numbers, self._hosts, self._terms = _Numbers(offered), hosts, blocked_terms
        self._held = self._wordless = self._line = ""
        self.cited: list[int] = []
        """Numbers cited so far, in the order of their first use."""
        self.declined = False
        """Whether the model has said that the passages do not answer the question."""
        self.spoken = False
        """Whether a word was shown, or an emoji. Before the first one nothing is: marks alone are no answer."""

    def feed(self, text: str) -> str:
        """What of the answer can be shown now: nothing of what follows the model's no."""
        return "".join(self._feed(text[start : start + MOST_AT_ONCE]) for start in range(0, len(text), MOST_AT_ONCE))

    def _feed(self, text: str) -> str:
        if self.declined:
            return ""
        text = self._clean(self._held + text, whole=False)
        start = min(links.open_from(text), blocked.open_from(text, self._terms))
        start = len(text[:start].rstrip(" \t"))
        if len(text) - start > MAX_HELD or text.count("[", start) > MAX_OPEN:
            return self._emit(self._clean(links.closed(text), whole=True), held="")
        start = len(text[: self._numbers.parted(text, start)].rstrip(" \t"))
        return self._emit(text[:start], held=text[start:])

    def finish(self) -> str:
        """What was held back, at the answer's end."""
        return "" if self.declined else self._emit(self._clean(self._held, whole=True), held="")

    def _emit(self, text: str, *, held: str) -> str:
        self._held = held
        if _BEGUN.search(self._line) and _ENDED.match(text):
            text = f" {text}"
        self._numbers.done(text)
        self._line = (self._line + text).rpartition("\n")[2][-LINE_CHARS:]
        text, self._wordless = self._wordless + text, ""
        self.spoken = self.spoken or bool(_WORDS.search(_CITED.sub("", text)))
        if not self.spoken:
            text, self._wordless = "", text
        self.cited += [number for number in dict.fromkeys(map(int, _CITED.findall(text))) if number not in self.cited]
        return text

    def _clean(self, text: str, *, whole: bool) -> str:
        # What is left around a dropped piece may make another one: [[9]1], or ht[9]tps://.
        for _ in range(MOST_PASSES):
            before, text = text, self._read(text, whole=whole)
            if text == before:
                return text
        # Without what they begin with nothing is dropped any more, and this comes to its end.
        return self._clean(links.closed(text), whole=whole)

    def _read(self, text: str, *, whole: bool) -> str:
        shown = _NO_ANSWER.sub(self._decline, text)
        shown = self._numbers.read(shown, whole=whole)
        shown = links.without_foreign_links(shown, self._hosts, before=self._line, whole=whole)
        return blocked.masked(shown, self._terms, whole=whole)

    def _decline(self, _: re.Match[str]) -> str:
        self.declined = True
        return ""
