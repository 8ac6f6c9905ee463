"""Owns how bytes become text: byte order mark, valid UTF-8, what was declared, then what the bytes look like."""

import codecs
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

from charset_normalizer import from_bytes

_SAMPLE = 65_536
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Labels that browsers read as a larger set, https://encoding.spec.whatwg.org/#names-and-labels
_SUPERSETS = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
# What Python calls encodings and no page is written in; browsers refuse UTF-7.
_NO_CHARSETS = frozenset({"punycode", "unicode-escape", "raw-unicode-escape", "utf-7"})
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
# Letters and punctuation of Western European prose in Windows-1252.
_WESTERN = frozenset("€‚„…‘’“”•–—™ŠšŒœŽžŸ¡£©«®°²³·»¼½¾¿§ ´ºª" + "".join(map(chr, range(0xC0, 0x100))))


class Decoded(NamedTuple):
    """Text, the name of the encoding it was read with, and whether some bytes had to be replaced."""

    text: str
    encoding: str
    lossy: bool


def decode(body: bytes, declared: Iterable[str | None] = ()) -> Decoded:
    """The body as text. `declared` are the labels that were given for it, the most trusted first; never raises."""
    if sure := _marked(body) or _wide(body):
        return _replacing(body, sure)
    labels = [name for label in declared if (name := _known(label))]
    # Bytes that are valid UTF-8 by chance are so rare that no declaration outweighs it; only ISO-2022 hides in ASCII.
    first = [name for name in labels if name.startswith("iso2022")]
    if fitting := _fitting(body, chain(first, ["utf-8"], labels)):
        return fitting
    if set(labels) - {"utf-8"}:
        return _replacing(body, labels[0])
    if _is_mostly_utf8(body, declared=bool(labels)):
        return _replacing(body, "utf-8")
    return _fitting(body, _guesses(body)) or _replacing(body, labels[0] if labels else "cp1252")


def meta_charset(body: bytes) -> str | None:
    """The charset that an HTML page's own `<meta>` declares in its first kilobytes."""
    found = _META.search(body[:4096])
    return found.group(1).decode("ascii") if found else None


def wide_text(body: bytes) -> bool:
    """Whether the body is UTF-16 or UTF-32 text, the only text with NUL bytes."""
    return bool(_marked(body) or _wide(body))


def _marked(body: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS if body.startswith(mark)), None)


def _wide(body: bytes) -> str | None:
    sample = body[:512]
    if len(sample) < 8 or b"\0" not in sample:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > 0.7 * half and even < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd < 0.1 * half else None


def _known(label: str | None) -> str | None:
    try:
        name = codecs.lookup((label or "").strip()).name
        b"abcd".decode(name, "replace")  # refuses codecs that are no text encodings
    except (LookupError, ValueError):
        return None
    return None if name in _NO_CHARSETS else _SUPERSETS.get(name, name)


def _fitting(body: bytes, encodings: Iterable[str]) -> Decoded | None:
    """The body in the first of the encodings in which all of it is valid."""
    for encoding in encodings:
        with suppress(UnicodeDecodeError, ValueError):
            return Decoded(body.decode(encoding), encoding, False)
    return None


def _guesses(body: bytes) -> Iterable[str]:
    sample = body[:_SAMPLE]
    high = [byte for byte in sample if byte >= 0x80]
    western = bytes(high).decode("cp1252", errors="replace")
    if len(high) < 0.2 * len(sample) and all(char in _WESTERN for char in western):
        yield "cp1252"
    best = from_bytes(sample).best()
    if best is not None:
        yield best.encoding


def _is_mostly_utf8(body: bytes, *, declared: bool) -> bool:
    """Whether there is more UTF-8 beyond ASCII in it than what can't be UTF-8: twice as much where nobody calls it so."""
    text = body.decode(errors="replace")
    bad = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    return good >= bad * (1 if declared else 2)


def _replacing(body: bytes, encoding: str) -> Decoded:
    text = body.decode(encoding, errors="replace")
    return Decoded(text, encoding, "\ufffd" in text)
