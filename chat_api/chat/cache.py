"""Answers to first questions that were asked before, kept in Redis; they expire with what the bot learns or is told to be."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from chat_api.chat.bot import Bot
from chat_api.chat.client_frames import Frame
from chat_api.core.database import Said
from chat_api.core.redis_client import Away, hurried_pool
from chat_api.core.words import normalised

KEPT_S = 24 * 3600
MAX_BYTES = 128 * 1024
CONNECTIONS = 16
FORMAT = 2
"""Grows when what is kept, or how answers are made, changes."""
PASSING = re.compile(
    r"(?:^|&)(?:utm_\w+|_g[al]|_hsenc|dclid|fbclid|gbraid|gclid|mc_[ce]id|msclkid|srsltid|ttclid|twclid|wbraid|yclid)=",
    re.IGNORECASE,
)
"""Says where a visitor came from. No page's own address has it, so a query that does counts for none (see `choose`)."""

# Changes with every switch, rollback and delete, and with the space that is read. It needs no order, so no sort.
CONTENT = text("""
    SELECT coalesce(sum(hashtextextended(concat_ws(' ', source_id, live_generation), 0)), 0)
           || ' ' || coalesce((SELECT space_id FROM bots WHERE org_id = :org_id AND bot_id = :bot_id), 0) AS content
    FROM sources
    WHERE org_id = :org_id AND bot_id = :bot_id AND deleted_at IS NULL AND live_generation IS NOT NULL
""")


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer as it was given, with the sources it was made from."""

    text: str
    sources: list[Frame]
    citations: list[int]


def reading_content(bot: Bot) -> Said:
    """Reads, in one row of one value, what the bot knows now: a word that changes when that does."""
    return CONTENT, {"org_id": bot.org_id, "bot_id": bot.bot_id}


def cache_key(bot: Bot, model: str, content: str, question: str, page_url: str | None = None) -> str:
    """The key of an answer: org and bot, and a hash of all that it depends on; `page_url` is where the visitor is."""
    told = [FORMAT, bot.name, repr(bot.config), sorted(bot.allowed_origins), model, content, normalised(question)]
    told += _page(page_url or "")
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    return f"answer:{bot.org_id}:{bot.bot_id}:{digest}"


def _page(url: str) -> list[str]:
    """What tells the page from others whose passages may be preferred; the same for all spellings of none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ["", "", ""]
    query = "" if PASSING.search(parts.query) else parts.query
    return [parts.netloc.lower(), parts.path.rstrip("/"), query]


class AnswerCache:
    """Kept answers, for a day at most. Without Redis nothing is found, and nobody waits for it."""

    def __init__(self, redis_url: str) -> None:
        """Nothing connects before the first question."""
        self._redis: Redis = Redis.from_pool(hurried_pool(redis_url, CONNECTIONS))
        self._away = Away("answer_cache_away")

    async def aclose(self) -> None:
        """Ends the connections."""
        await self._redis.aclose()

    async def find(self, key: str) -> CachedAnswer | None:
        """The answer under a key of `cache_key`."""
        if self._away:
            return None
        try:
            found = await self._redis.get(key)
        except (RedisError, OSError) as error:
            self._away.note(error)
            return None
        try:
            return CachedAnswer(**json.loads(found)) if found else None
        except (ValueError, TypeError):
            return None

    async def keep(self, key: str, answer: CachedAnswer) -> None:
        """Keeps an answer, unless it is very long."""
        kept: dict[str, Any] = {"text": answer.text, "sources": answer.sources, "citations": answer.citations}
        value = json.dumps(kept).encode()
        if len(value) > MAX_BYTES or self._away:
            return
        try:
            await self._redis.set(key, value, ex=KEPT_S)
        except (RedisError, OSError) as error:
            self._away.note(error)
