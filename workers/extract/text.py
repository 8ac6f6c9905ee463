"""Owns plain text: its paragraphs."""

import re

from chat_api.core.errors import NoText
from workers.documents import Block, Document
from workers.extract.clean import clean_text
from workers.extract.encoding import Decoded, decode

_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")


def extract_text(body: bytes, *, charset: str | None = None) -> Document:
    """The text's paragraphs, parted by blank lines; its title stays empty. Raises NoText."""
    decoded = decode(body, (charset,))
    text = clean_text(decoded.text)[0].expandtabs(4)
    blocks = tuple(Block("paragraph", part.strip()) for part in _PARAGRAPHS.split(text) if part.strip())
    if not any(char.isalnum() for block in blocks for char in block.text):
        raise NoText
    return Document(title="", blocks=blocks, media_type="text/plain", warnings=decoding_warnings(decoded))


def decoding_warnings(decoded: Decoded) -> tuple[str, ...]:
    """What to tell the owner when bytes did not fit their encoding."""
    return (f"Some characters are not valid {decoded.encoding} and were replaced.",) if decoded.lossy else ()
