"""What of an answer may reach the visitor, as it streams: citations that were offered, known links, no blocked term."""

import re
from collections.abc import Sequence

from chat_api.chat import blocked, links

NO_ANSWER = "<no_answer/>"
"""What the model is told to say, and nothing else, when the passages do not answer the question."""
MARKER = re.compile(r"(?<![ \t])[ \t]*\[\s*(\d{1,9}(?:\s*[,;]\s*\d{1,9})*)\s*\]")
MAX_HELD, MAX_OPEN = 2_400, 12
"""Characters, and brackets among them, that are held back at most: no link has more."""

_NO_ANSWER = re.compile(r"<\s*/?\s*no[_ ]?answer\b[^<>]{0,20}>", re.IGNORECASE)
_CITED = re.compile(r"\[(\d{1,9})\]")
_WORDS = re.compile(r"[^\W_]|[\u2600-\u27bf\U0001f000-\U0001faff]")


def without_markers(text: str) -> str:
    """The text of a page or of an owner, whose own numbers in brackets are no citations."""
    while (shown := MARKER.sub("", text)) != text:
        text = shown
    return text


class AnswerFilter:
    """Reads an answer as it streams, and holds back what may become a marker, a link or a term until that is decided.

    Numbers that were not offered are dropped, and `[1, 2]` becomes `[1][2]`.
    """

    def __init__(
        self, offered: int, *, hosts: frozenset[tuple[str, int]] = frozenset(), blocked_terms: Sequence[str] = ()
    ) -> None:
        """`offered`: passages are numbered from 1 to this. `hosts`: where links may lead, see `links.hosts_of`."""
        self._offered, self._hosts, self._terms = offered, hosts, blocked_terms
        self._held = self._wordless = ""
        self.cited: list[int] = []
        """Numbers cited so far, in the order of their first use."""
        self.declined = False
        """Whether the model has said that the passages do not answer the question."""
        self.spoken = False
        """Whether a word was shown, or an emoji. Before the first one nothing is: marks alone are no answer."""

    def feed(self, text: str) -> str:
        """What of the answer can be shown now."""
        text = self._clean(self._held + text, whole=False)
        start = min(links.open_from(text), blocked.open_from(text, self._terms))
        start = len(text[:start].rstrip(" \t"))
        if len(text) - start > MAX_HELD or text.count("[", start) > MAX_OPEN:
            return self._emit(self._clean(links.closed(text), whole=True), held="")
        return self._emit(text[:start], held=text[start:])

    def finish(self) -> str:
        """What was held back, at the answer's end."""
        return self._emit(self._clean(self._held, whole=True), held="")

    def _emit(self, text: str, *, held: str) -> str:
        self._held = held
        text, self._wordless = self._wordless + text, ""
        self.spoken = self.spoken or bool(_WORDS.search(_CITED.sub("", text)))
        if not self.spoken:
            text, self._wordless = "", text
        self.cited += [number for number in dict.fromkeys(map(int, _CITED.findall(text))) if number not in self.cited]
        return text

    def _clean(self, text: str, *, whole: bool) -> str:
        # What is left around a dropped piece may make another one: [[9]1], or ht[9]tps://.
        while True:
            shown = _NO_ANSWER.sub(self._decline, text)
            shown = MARKER.sub(self._marker, shown)
            shown = links.without_foreign_links(shown, self._hosts, whole=whole)
            shown = blocked.masked(shown, self._terms, whole=whole)
            if shown == text:
                return shown
            text = shown

    def _decline(self, _: re.Match[str]) -> str:
        self.declined = True
        return ""

    def _marker(self, found: re.Match[str]) -> str:
        numbers = dict.fromkeys(int(number) for number in re.split("[,;]", found[1]))
        known = [number for number in numbers if 1 <= number <= self._offered]
        if not known:
            return ""
        space = found[0][: len(found[0]) - len(found[0].lstrip())]
        return space + "".join(f"[{number}]" for number in known)
