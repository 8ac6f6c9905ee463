"""Owns what is told of a document's own words, whatever it was: their language, and which of them speak to a machine."""

from typing import NamedTuple

from workers.documents import Document
from workers.extract.instructions import instruction_like
from workers.languages import language_of

ADDRESSED = "The text has words that read as instructions to a language model"
_SAMPLE = 2_000


class Told(NamedTuple):
    """What a document's text tells of itself."""

    language: str | None
    """As the document declares it, else as its text tells; BCP 47."""
    warnings: tuple[str, ...]


def told_of(document: Document) -> Told:
    """The language of the document's prose, and a warning where a block reads as instructions to a language model."""
    prose = [block.text for block in document.blocks if block.kind != "code"]
    sample = ""
    for text in prose:
        sample += text + "\n"
        if len(sample) >= _SAMPLE:
            break
    return Told(document.language or language_of(sample), _addressed("\n".join(prose)))


def _addressed(text: str) -> tuple[str, ...]:
    words = instruction_like(text)
    return (f"{ADDRESSED}: “{words}”.",) if words else ()
