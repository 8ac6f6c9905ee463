"""Owns RTF's syntax: groups, control words, and characters in the code pages that the file declares."""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?\d{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z{}\\])|\\([{}\\])|([{}])|[\r\n]+|([^\\{}\r\n]+)|(\\)",
    re.DOTALL,
)
# Charset numbers of fonts, RTF 1.9.1, \fcharset
_CHARSETS = {
    **{0: "cp1252", 2: "cp1252", 77: "mac-roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030"},
    **{136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257"},
    **{204: "cp1251", 222: "cp874", 238: "cp1250", 255: "cp437"},
}


class Token(NamedTuple):
    """`{` or `}`, a control word with its number, or a run of bytes (an empty word) that are text."""

    word: str
    number: int | None = None
    text: bytes = b""


def tokens(body: bytes) -> Iterator[Token]:
    """The body's tokens; binary data is left out."""
    place = 0
    while found := _TOKEN.match(body, place):
        place = found.end()
        if token := _token(found):
            if token.word == "bin":
                place += max(0, token.number or 0)
            yield token


def _token(found: re.Match[bytes]) -> Token | None:
    """None for line ends and lone backslashes."""
    word, number, code, symbol, escaped, brace, plain, _ = found.groups()
    if word:
        return Token(word.decode("ascii"), int(number) if number else None)
    if sign := symbol or brace:
        return Token(sign.decode("latin-1"))
    text = bytes([int(code, 16)]) if code else escaped or plain
    return Token("", text=text) if text else None


def charset(number: int | None) -> str:
    """The encoding of a font's charset number."""
    return _CHARSETS.get(number or 0, "cp1252")


def code_page(number: int | None) -> str:
    """The encoding of a code page's number."""
    name = {65001: "utf-8", 10000: "mac-roman", 936: "gb18030"}.get(number or 0, f"cp{number}")
    try:
        codecs.lookup(name)
    except LookupError:
        return "cp1252"
    return name
