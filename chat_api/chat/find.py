"""Finds the passages for one question: rewritten where it follows others, embedded, searched for, as asked and rewritten."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from chat_api.chat.answer import Answerer
from chat_api.chat.bot import Bot, Bots
from chat_api.chat.budget import Use
from chat_api.chat.choose import Choice, Wish, choose
from chat_api.chat.lexical import Lexical
from chat_api.chat.neighbours import widened
from chat_api.chat.prompt import PastTurn
from chat_api.chat.retrieve import Found, Passage, SpaceChangedError, search
from chat_api.chat.retry import persist
from chat_api.chat.rewrite import rewriting_prompt_tokens
from chat_api.chat.waiting import leave
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import Embedders, EmbeddingSpace
from chat_api.core.postings import Hit
from chat_api.core.scores import CANDIDATES, HITS, trust_in
from chat_api.core.words import about_tokens


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
    """A text as a question's vector, in the space that it can be compared in, and the chunks that have its words."""

    text: str
    space: EmbeddingSpace
    vector: NDArray[np.float32]
    hits: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class SearchServices:
    """What passages are looked for in, one for the whole process."""

    bots: Bots
    embedders: Embedders
    engines: AsyncEngines
    lexical: Lexical
    tokens: int
    """How many tokens of passages an answer is made from."""
    patience_s: float
    """How long an embedding is waited for."""


class Finder:
    """Looks for one turn's passages; `uses` says what that has used so far.

    What was begun counts as if it was done: whether a call that is broken off must be paid is not known.
    """

    def __init__(self, bot: Bot, timings: Timings, sources: SearchServices) -> None:
        self._bot, self._timings, self._sources = bot, timings, sources
        self._space = bot.space or sources.embedders.space
        self.uses: list[Use] = []

    async def find(
        self, answerer: Answerer, question: str, history: Sequence[PastTurn], *, page_url: str | None = None
    ) -> list[Passage]:
        """The passages to answer from, above the bot's threshold, best first, the first ones with their neighbours.

        `page_url` is where the visitor is. Raises ServiceError, SQLAlchemyError. The question as it was asked is embedded
        while it is rewritten.
        """
        bot, tokens = self._bot, self._sources.tokens
        text, queries = await self._asked(answerer, question, history)

        choices = await self._search(queries, bot.config.retrieval_k, self._wish(text, page_url))
        taken = [choice.found for choice in choices if choice.taken]
        with self._timings.of("search"):
            return await widened(self._sources.engines, bot.org_id, bot.bot_id, taken, tokens)

    async def look(
        self, answerer: Answerer, question: str, history: Sequence[PastTurn] = (), *, k: int
    ) -> list[Choice]:
        """The `k` best passages for a question, best first, and what an answer would make of each. Raises as `find` does."""
        text, queries = await self._asked(answerer, question, history)
        return (await self._search(queries, k, self._wish(text)))[:k]

    async def _asked(self, answerer: Answerer, question: str, history: Sequence[PastTurn]) -> tuple[str, list[_Query]]:
        """The question as it can be understood by itself; and that, and the question as it was asked, where they differ."""
        asked = asyncio.create_task(self._query(question))
        try:
            text = await self._rewritten(answerer, question, history)
            queries = [await self._query(text)] if text != question else []
            return text, [*queries, await asked]
        finally:
            leave(asked)

    def _wish(self, question: str, page_url: str | None = None) -> Wish:
        config = self._bot.config
        return Wish(question, config.retrieval_k, config.similarity_threshold, self._sources.tokens, page_url)

    async def _rewritten(self, answerer: Answerer, question: str, history: Sequence[PastTurn]) -> str:
        if not history:
            return question
        begun = Use("rewrite", answerer.model_of(self._bot, cheaper=True), rewriting_prompt_tokens(question, history))
        with self._timings.of("rewrite"), self._counted(begun):
            rewriting = await answerer.standalone(self._bot, question, history)
        self.uses.remove(begun)
        if used := rewriting.used:
            self.uses.append(Use("rewrite", used.model, used.prompt_tokens, used.completion_tokens))
        return rewriting.text

    async def _query(self, text: str) -> _Query:
        """Embeds the text; what has its words is looked for meanwhile."""
        hits = asyncio.create_task(self._sources.lexical.find(self._bot, text, HITS))
        try:
            return _Query(text, *await self._embed(text), await hits)
        finally:
            hits.cancel()

    async def _embed(self, text: str) -> tuple[EmbeddingSpace, NDArray[np.float32]]:
        space = self._space
        embedder = self._sources.embedders.of(space)
        with self._timings.of("embed"), self._counted(Use("query", space.model, about_tokens(text))):
            return space, await persist(lambda: embedder.embed_query(text), self._sources.patience_s)

    @contextlib.contextmanager
    def _counted(self, use: Use) -> Iterator[None]:
        """Counts what is done within from its beginning, unless it fails."""
        self.uses.append(use)
        try:
            yield
        except Exception:
            self.uses.remove(use)
            raise

    async def _search(self, queries: Sequence[_Query], k: int, wish: Wish) -> list[Choice]:
        """The passages for all queries together, best first, and what becomes of each."""
        most = max(k, CANDIDATES)
        while True:
            try:
                with self._timings.of("search"):
                    return choose(merged([await self._nearest(query, most) for query in queries]), wish)
            except SpaceChangedError as changed:
                self._sources.bots.forget(self._bot)
                self._space = changed.space
                queries = [_Query(query.text, *await self._embed(query.text), query.hits) for query in queries]

    async def _nearest(self, query: _Query, most: int) -> list[Found]:
        bot, engines, trust = self._bot, self._sources.engines, trust_in(query.space, query.text)
        return await search(
            *(engines, bot.org_id, bot.bot_id, query.space, query.vector, most, query.hits),
            trust=trust, quantized=bot.quantized,
        )  # fmt: skip


def merged(searches: Sequence[Sequence[Found]]) -> list[Found]:
    """What several searches have found, each passage once, with its best score."""
    best: dict[UUID, Found] = {}
    for found in chain.from_iterable(searches):
        known = best.get(found.passage.chunk_id)
        if known is None or found.score > known.score:
            best[found.passage.chunk_id] = found
    return list(best.values())
