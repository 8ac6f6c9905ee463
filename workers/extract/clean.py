"""Owns which characters may stay in a document: drops invisible, control and unpaired ones, and counts what hid."""

import re
from dataclasses import replace

from workers.documents import Document

# Invisible to a reader and apt to carry hidden text: zero-width space and joiners, bidirectional overrides, invisible
# operators, tag characters, supplementary variation selectors.
_HIDDEN = re.compile("[\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e01ef]+")
# Joiners belong to Persian, Indic scripts and emoji; beside an ASCII character they are only hidden.
_JOINERS = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u00ad\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]+")
_BREAKS = re.compile("\r\n?|\x85|\u2028|\u2029|\x0c")
_TRAILING = re.compile(r"[ \t\xa0]+(?=\n|$)")


def clean_text(text: str) -> tuple[str, int]:
    """The text with `\\n` line ends and without characters that no reader sees, and how many hidden ones it had."""
    if text.isascii() and text.isprintable():  # most are, and have nothing to look for
        return text.rstrip(" "), 0
    text = _UNFIT.sub("", _BREAKS.sub("\n", text))
    hidden = joiners = 0
    if not text.isascii():
        text, hidden = _drop(_HIDDEN, text)
        text, joiners = _drop(_JOINERS, text)
    return _TRAILING.sub("", text), hidden + joiners


def clean_line(text: str) -> str:
    """The text on one line, cleaned, its runs of white space made single spaces."""
    return " ".join(clean_text(text)[0].split())


def clean_document(document: Document) -> Document:
    """The document with clean strings and no empty block; a warning says how many hidden characters were dropped."""
    blocks, hidden = [], 0
    for block in document.blocks:
        text, dropped = clean_text(block.text)
        hidden += dropped
        text = text.strip("\n") if block.kind == "code" else text.strip()
        if text.strip():
            blocks.append(block if text == block.text else replace(block, text=text))
    warnings = [clean_line(warning) for warning in document.warnings]
    if hidden:
        warnings.append(f"{hidden} invisible characters were dropped.")
    return replace(
        document,
        title=clean_line(document.title),
        blocks=tuple(blocks),
        links=tuple(link for link in document.links if not _UNFIT.search(link)),
        warnings=tuple(warnings),
    )


def _drop(pattern: re.Pattern[str], text: str) -> tuple[str, int]:
    dropped = sum(len(found.group()) for found in pattern.finditer(text))
    return (pattern.sub("", text), dropped) if dropped else (text, 0)
