"""Passages and bots as pure tests need them."""

from uuid import UUID

from chat_api.chat.bot import Bot
from chat_api.chat.retrieve import Passage
from chat_api.core.bot_config import parse_config

NOBODY = UUID(int=0)


def passage(text: str, **changed: object) -> Passage:
    """A passage with this text."""
    values = {
        "chunk_id": NOBODY, "document_id": NOBODY, "source_id": NOBODY, "title": "Delivery", "url": None, "page": None,
        "heading": "", "text": text, "score": 0.5,
    }  # fmt: skip
    return Passage(**{**values, **changed})  # type: ignore[arg-type]


def bot(**config: object) -> Bot:
    """A bot with this configuration."""
    return Bot(NOBODY, NOBODY, 'The "Shop"', parse_config(config)[0])
