"""The terms of a text that a lexical search compares: made the same way of a chunk, when it is written, and of a question."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
"""Grows when a text gives other terms than before. Chunks with terms of another format are read by their text."""
RECORD = np.dtype([("term", "<u4"), ("count", "u1")])
"""A term and how often it occurs, 255 at most. A chunk's first record has the count 0, and FORMAT as its term."""
_HEAD = np.array([(FORMAT, 0)], RECORD).tobytes()

STEM, ARABIC_STEM = 5, 4
"""Letters of a word that tell it from others, whatever its ending; Arabic roots have three."""
MAX_WORD = 64
# The marks of scripts whose vowels, or tones, are signs at a letter: to `\w` they end a word.
_MARKS = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    r"\u0900-\u0963\u0966-\u096f\u0971-\u0dff\u0e30-\u0e4e\u0eb0-\u0ece\u0f71-\u0f84\u102b-\u103e\u17b4-\u17d3"
)
_LETTER = rf"[\w{_MARKS}]"
_TOKEN = re.compile(rf"{_LETTER}+(?:[-./:,'’&+@#]+{_LETTER}+)*")
_EDGES = "\"'`*.,:;!?()[]{}<>|/-"
_PART = re.compile(rf"[^\W_]+(?:[{_MARKS}]+[^\W_]*)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,'’]\d{3})+")
_DIGITS = re.compile(r"(\d+)")
# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)")
_ARABIC = re.compile(r"[\u0620-\u06ff]")
_ARTICLE = re.compile(r"^(?:وال|بال|كال|فال|ال|لل|و)(?=\w{3})")
_LETTERS = str.maketrans({"ı": "i", "ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ى": "ي", "ة": "ه"})
"""What stays apart when marks are taken off letters, and is often written without them."""


def terms_of(text: str) -> NDArray[np.void]:
    """The terms of the text, each a hash of 32 bits, and how often they occur: records, by term."""
    normal = text if text.isascii() else unicodedata.normalize("NFKC", text)
    words = normal.casefold().split()
    hashes = b"".join([_known(word) if len(word) <= MAX_WORD else _hashes(word) for word in words])
    terms = np.sort(np.frombuffer(hashes, np.uint32))
    first = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1]))) if len(terms) else terms
    records = np.empty(len(first), RECORD)
    records["term"] = terms[first]
    records["count"] = np.minimum(np.diff(first, append=len(terms)), 255)
    return records


def pack(text: str) -> bytes:
    """The terms of a chunk's text as they are stored."""
    return _HEAD + terms_of(text).tobytes()


def chunk_text(title: str, heading: str, text: str) -> str:
    """What of a chunk is searched by its words."""
    return f"{title}\n{heading}\n{text}"


def unpack(packed: bytes) -> NDArray[np.void]:
    """The records of one chunk, or of many in a row."""
    return np.frombuffer(packed, RECORD)


def _hashes(word: str) -> bytes:
    """The terms of what stands between spaces."""
    return b"".join(crc32(term.encode("utf-8", "surrogatepass")).to_bytes(4, "little") for term in _terms(word))


_known = lru_cache(maxsize=1 << 16)(_hashes)


def _terms(word: str) -> Iterator[str]:
    """Words, numbers and codes: themselves, their parts, and what stands for their stems."""
    bare = word.strip(_EDGES)
    if bare.isascii() and (bare.isalpha() or bare.isdigit()):  # most are, and have no parts
        yield from _word(bare[:MAX_WORD])
        return
    for token in _TOKEN.findall(word):
        parts = _PART.findall(token)
        found = dict.fromkeys(_whole(token, parts)) if len(parts) > 1 else {}
        for part in parts:
            found |= dict.fromkeys(_part(part))
        yield from found


def _whole(token: str, parts: Sequence[str]) -> Iterator[str]:
    """A compound: `AB-1234` also as `ab1234`; `3,5` as `3.5`; `1.250` also as `1250`."""
    joined = _folded("".join(parts))
    if not re.fullmatch(r"[\d.,'’:]+", token):
        yield joined[:MAX_WORD]
        return
    yield re.sub(r"[,'’]", ".", token)[:MAX_WORD]
    if _THOUSANDS.fullmatch(token):
        yield joined[:MAX_WORD]


def _part(part: str) -> Iterator[str]:
    for run in _UNSPACED.split(part):
        if _UNSPACED.fullmatch(run):
            yield from map("".join, pairwise(run)) if len(run) > 1 else [run]
        elif run:
            yield from _word(_folded(run)[:MAX_WORD])


def _word(word: str) -> Iterator[str]:
    yield word
    if any(char.isdigit() for char in word):
        yield "~" + word  # a number or a code tells as much as a long word
        runs = [run for run in _DIGITS.split(word) if run]
        yield from runs if 1 < len(runs) <= 4 else []  # `450ml` is 450 and ml
    elif _ARABIC.search(word):
        yield "~" + _ARTICLE.sub("", word)[:ARABIC_STEM]
    elif len(word) >= STEM:
        yield "~" + word[:STEM]


def _folded(word: str) -> str:
    """The word without the marks at its letters."""
    if word.isascii():
        return word
    letters = unicodedata.normalize("NFKD", word).translate(_LETTERS)
    return "".join(char for char in letters if not unicodedata.combining(char))
