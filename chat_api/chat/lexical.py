"""The lexical leg of a search: each bot's index, loaded beside the questions from the terms that its chunks are stored with."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from chat_api.chat.bot import Bot
from chat_api.core.database import AsyncEngines
from chat_api.core.lexemes import terms_of
from chat_api.core.postings import Hit, Place, Postings, Segment
from chat_api.core.segments import (
    BEGINNING,
    CHUNKS,
    LIVE,
    MOST_CHUNKS,
    PAGE,
    SIZES,
    arrays_of,
    batches,
    ids_of,
    page_of,
    segments_of,
)
from chat_api.metrics import LEXICAL_BYTES, LEXICAL_SEARCHES

MOST_BOTS = 10_000
CHECKED_EVERY_S = 1.0
WAIT_S = 0.15
"""How long a question waits for an index that is being loaded."""
log = structlog.get_logger(__name__)

# Changes with every switch, rollback and delete. It needs no order, so no sort.
CONTENT = text("""
    SELECT coalesce(sum(hashtextextended(concat_ws(' ', source_id, live_generation), 0)), 0) AS content FROM sources
    WHERE org_id = :org_id AND bot_id = :bot_id AND deleted_at IS NULL AND live_generation IS NOT NULL
""")


@dataclass(slots=True, eq=False)
class _Index:
    """A bot's index, and what it was made from; without `postings` there is none (yet)."""

    org_id: UUID
    bot_id: UUID
    postings: Postings | None = None
    live: frozenset[Place] = field(default_factory=frozenset)
    content: Any = None
    too_large: bool = False
    checked_at: float = float("-inf")
    loading: asyncio.Task[None] | None = None
    loading_since: float = 0.0

    @property
    def key(self) -> dict[str, UUID]:
        """What every statement on it begins with."""
        return {"org_id": self.org_id, "bot_id": self.bot_id}


class Lexical:
    """The indexes of this process's bots: those asked for last, as many as there is room for."""

    def __init__(self, engines: AsyncEngines, *, most_bytes: int, most_chunks: int = MOST_CHUNKS) -> None:
        self._engines, self._most_bytes, self._most_chunks = engines, most_bytes, most_chunks
        self._indexes: OrderedDict[tuple[UUID, UUID], _Index] = OrderedDict()
        self._one_load = asyncio.Semaphore()

    async def aclose(self) -> None:
        """Ends what is being loaded."""
        loading = [index.loading for index in self._indexes.values() if index.loading]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)

    async def find(self, bot: Bot, question: str, most: int, *, wait_s: float = WAIT_S) -> list[Hit]:
        """The bot's chunks that have the question's words, best first; none as long as there is no index of them.

        An index is looked after once a second at most, and loaded in the background when what the bot knows has changed.
        Never raises for a database that is away.
        """
        terms = terms_of(question)["term"]
        if not len(terms):
            return []
        index = self._index(bot)
        if index.loading is None and time.monotonic() - index.checked_at > CHECKED_EVERY_S:
            index.loading_since = time.monotonic()
            index.loading = asyncio.create_task(self._look_after(index))
        if index.loading:
            left = index.loading_since + wait_s - time.monotonic()
            await asyncio.wait([index.loading], timeout=max(0.0, left))
        if index.postings is None:
            LEXICAL_SEARCHES.labels("too_large" if index.too_large else "not_loaded").inc()
            return []
        LEXICAL_SEARCHES.labels("searched").inc()
        return await asyncio.to_thread(index.postings.find, terms, most)

    def _index(self, bot: Bot) -> _Index:
        key = (bot.org_id, bot.bot_id)
        index = self._indexes.setdefault(key, _Index(*key))
        self._indexes.move_to_end(key)
        if len(self._indexes) > MOST_BOTS:
            self._forget_one()
        return index

    async def _look_after(self, index: _Index) -> None:
        """Has the index hold what the bot knows now."""
        try:
            [[(content,)]] = await self._engines.trip(index.org_id, (CONTENT, index.key))
            if content == index.content:
                return
            [rows] = await self._engines.trip(index.org_id, (LIVE, index.key))
            async with self._one_load:
                await self._load(index, frozenset(Place(*row) for row in rows))
            index.content = content
        except SQLAlchemyError as error:
            log.warning("lexical_index_not_loaded", bot_id=str(index.bot_id), error=type(error).__name__)
        finally:
            index.checked_at, index.loading = time.monotonic(), None

    async def _load(self, index: _Index, live: frozenset[Place]) -> None:
        """Replaces the index by one of the live generations: only those that it does not have yet are read."""
        sizes = await self._sizes(index, live - index.live)
        gone = index.live - live
        kept = index.postings.chunks_without(gone) if index.postings else 0
        if kept + sum(sizes.values()) > self._most_chunks:
            self._too_large(index, chunks=kept + sum(sizes.values()))
            return
        segments = [segment async for segment in self._segments(index, sizes)]
        index.postings = await asyncio.to_thread(Postings.of, segments, index.postings, gone)
        index.live, index.too_large = live, False
        if index.postings.bytes > self._most_bytes:
            self._too_large(index, bytes=index.postings.bytes)
        self._make_room(index)

    def _too_large(self, index: _Index, **size: int) -> None:
        index.postings, index.live, index.too_large = None, frozenset(), True
        log.warning("lexical_index_too_large", bot_id=str(index.bot_id), **size)

    def _make_room(self, index: _Index) -> None:
        """Forgets what was not asked for the longest, until the rest fits."""
        self._indexes.move_to_end((index.org_id, index.bot_id))
        while self._bytes() > self._most_bytes:
            self._forget_one()
        LEXICAL_BYTES.set(self._bytes())

    def _forget_one(self) -> None:
        _, index = self._indexes.popitem(last=False)
        if index.loading:
            index.loading.cancel()

    def _bytes(self) -> int:
        return sum(index.postings.bytes for index in self._indexes.values() if index.postings)

    async def _sizes(self, index: _Index, places: Iterable[Place]) -> dict[Place, int]:
        """How many chunks each place has."""
        values = {**index.key, **arrays_of(list(places)), "most": self._most_chunks + 1}
        async with self._engines.tenant(index.org_id) as connection:
            rows = await connection.execute(SIZES, values)
            return {Place(row.source_id, row.generation): row.chunks for row in rows}

    async def _segments(self, index: _Index, sizes: dict[Place, int]) -> AsyncIterator[Segment]:
        for places in batches(sizes):
            after = BEGINNING
            while True:
                values = {**index.key, **page_of(places, after)}
                async with self._engines.tenant(index.org_id) as connection:
                    rows = (await connection.execute(CHUNKS, values)).all()
                ids = [chunk_id for row in rows for chunk_id in ids_of(row)]
                for segment in await asyncio.to_thread(segments_of, rows):
                    yield segment
                if len(places) > 1 or len(ids) < PAGE:
                    break
                after = max(ids)
