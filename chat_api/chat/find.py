"""Finds the passages for one question: rewritten where it follows others, embedded, searched for, as asked and rewritten."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chat_api.chat.answer import Answerer
from chat_api.chat.bot import Bot, Bots
from chat_api.chat.budget import Use
from chat_api.chat.prompt import PastTurn
from chat_api.chat.retrieve import Passage, SpaceChangedError, search
from chat_api.chat.retry import persist
from chat_api.chat.words import about_tokens
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import Embedders, EmbeddingSpace


class Timings(dict[str, float]):
    """Milliseconds by what they were spent on; what is done several times adds up."""

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Times what is done within."""
        began = time.perf_counter()
        yield
        self[what] = self.get(what, 0) + 1000 * (time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class _Query:
    """A text as a question's vector, in the space that it can be compared in."""

    text: str
    space: EmbeddingSpace
    vector: NDArray[np.float32]


class Finder:
    """Looks for one turn's passages; `uses` says what that has used so far."""

    def __init__(
        self, bot: Bot, timings: Timings, *, bots: Bots, embedders: Embedders, engines: AsyncEngines, patience_s: float
    ) -> None:
        """`patience_s`: how long an embedding is waited for."""
        self._bot, self._timings = bot, timings
        self._bots, self._embedders, self._engines, self._patience_s = bots, embedders, engines, patience_s
        self._space = bot.space or embedders.space
        self.uses: list[Use] = []

    async def find(self, answerer: Answerer, question: str, history: Sequence[PastTurn]) -> list[Passage]:
        """The passages to answer from, above the bot's threshold, best first.

        Raises ServiceError, SQLAlchemyError. The question as it was asked is embedded while it is rewritten.
        """
        asked = asyncio.create_task(self._embed(question))
        try:
            text = await self._rewritten(answerer, question, history)
            rewritten = await self._search(await self._embed(text)) if text != question else []
            found = merged(rewritten, await self._search(await asked), self._bot.config.retrieval_k)
        finally:
            asked.cancel()
        return [passage for passage in found if passage.score >= self._bot.config.similarity_threshold]

    async def _rewritten(self, answerer: Answerer, question: str, history: Sequence[PastTurn]) -> str:
        if not history:
            return question
        with self._timings.of("rewrite"):
            rewriting = await answerer.standalone(self._bot, question, history)
        if used := rewriting.used:
            self.uses.append(Use("rewrite", used.model, used.prompt_tokens, used.completion_tokens))
        return rewriting.text

    async def _embed(self, text: str) -> _Query:
        space = self._space
        embedder = self._embedders.of(space)
        with self._timings.of("embed"):
            vector = await persist(lambda: embedder.embed_query(text), self._patience_s)
        self.uses.append(Use("query", space.model, about_tokens(text)))
        return _Query(text, space, vector)

    async def _search(self, query: _Query) -> list[Passage]:
        bot = self._bot
        while True:
            try:
                with self._timings.of("search"):
                    async with self._engines.tenant(bot.org_id) as connection:
                        return await search(
                            connection, bot.org_id, bot.bot_id, query.space, query.vector, bot.config.retrieval_k
                        )
            except SpaceChangedError as changed:
                self._bots.forget(bot)
                self._space = changed.space
                query = await self._embed(query.text)


def merged(one: Sequence[Passage], two: Sequence[Passage], most: int) -> list[Passage]:
    """The best of both, each passage once with its better score, best first."""
    best: dict[object, Passage] = {}
    for passage in [*one, *two]:
        known = best.get(passage.chunk_id)
        if known is None or passage.score > known.score:
            best[passage.chunk_id] = passage
    return sorted(best.values(), key=lambda passage: -passage.score)[:most]
