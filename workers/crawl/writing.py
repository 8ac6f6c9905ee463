"""One task's pages on their way into the generation: embedded, written, and told to the crawl."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from sqlalchemy import Connection, text

from chat_api.core.errors import EmbeddingMisconfigured, EmbeddingRejected, NoText, ServiceError
from chat_api.core.keys import OF_GENERATION
from workers.crawl.ledger import advance, forget_texts, key_of, met_of, note_result, note_url
from workers.crawl.pages import PagesReader, led
from workers.crawl.state import Before, TaskResult, Visited
from workers.documents import Reading
from workers.fetch.traps import shape_of, sketch_of
from workers.fetch.urls import parse_url
from workers.receipt import Receipt
from workers.stages import Stages, Vectors
from workers.store.generation import copy_unchanged, write_readings
from workers.store.rows import Build
from workers.store.usage import add_usage
from workers.tasks.lease import Progress
from workers.tasks.life import LeaseLostError, assert_held
from workers.vectors import embed_readings

BATCH_CHUNKS, MOST_LINKS = 512, 50_000
"""So many chunks, or links, of pages that wait are written."""
FRUITLESS = {NoText.code, "duplicate"}

TEXTS = text(f"""
    SELECT page.url, array_agg(chunks.text ORDER BY chunks.ordinal) AS texts
    FROM pages AS page JOIN chunks USING (org_id, bot_id, source_id, generation, document_id)
    WHERE {OF_GENERATION} AND page.url = ANY (:urls) GROUP BY page.url
""")  # noqa: S608  # the part is our own


@dataclass(slots=True)
class PagesWriter:
    """One task's pages on their way into the generation."""

    build: Build
    stages: Stages
    progress: Progress
    check: Callable[[], None]
    before: Mapping[str, Before]
    depths: Mapping[str, int]
    """Of the addresses to visit."""
    pages: PagesReader
    result: TaskResult
    _waiting: list[Reading] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)
    """Links that an earlier page is sure to put into the ledger."""
    _since: float = field(default_factory=time.perf_counter)

    def announce(self, url: str) -> None:
        """Says which page is read next."""
        with self.stages.chat.begin() as connection:
            note_url(connection, self.build.task, url)

    def add(self, readings: Sequence[Reading]) -> None:
        """Takes pages that were read; many are written before the next ones are."""
        for reading in readings:
            self._waiting.append(reading)
            if sum(len(one.links or ()) for one in self._waiting) >= MOST_LINKS:
                self.write()
        if sum(len(reading.chunks) for reading in self._waiting) >= BATCH_CHUNKS:
            self.write()

    def write(self) -> None:
        """Writes what waits, each page whole, and that it is done."""
        with self._written() as connection:
            note_result(connection, self.build.task, self.result)

    def end(self) -> int:
        """Writes what is left, and in the same transaction advances the crawl; how many tasks that made."""
        with self._written() as connection:
            return advance(connection, self.build.task, self.build, self.result, self.progress.stage)

    @contextmanager
    def _written(self) -> Iterator[Connection]:
        readings, self._waiting = self._waiting, []
        receipt = Receipt()
        readings, vectors = self._embed(readings, receipt)
        began, self.progress.stage = time.perf_counter(), "store"
        with self.stages.chat.begin() as connection:
            if readings:
                self._put(connection, readings, vectors, receipt)
            now = time.perf_counter()
            receipt.spent({**self.progress.seconds, "store": now - began}, now - self._since)
            self.progress.seconds.clear()
            so_far = Receipt.of(self.result.receipt) if self.result.receipt else Receipt()
            so_far.merge(receipt)
            self._since, self.result.receipt = now, so_far.as_dict()
            self.result.robots |= self.pages.robots
            self.result.retry_after = max(self.result.retry_after, self.pages.retry_after)
            yield connection
            add_usage(connection, [(self.build, receipt)])  # whatever becomes of the run

    def _embed(self, readings: Sequence[Reading], receipt: Receipt) -> tuple[list[Reading], list[Vectors]]:
        """The readings, of which those with a text that is refused have become errors, and the vectors of the others."""
        with self.progress.at("embed"):
            outcomes = embed_readings(self.stages, [(self.build, [reading]) for reading in readings], self.check)
        embedded, vectors = list[Reading](), list[Vectors]()
        for reading, outcome in zip(readings, outcomes, strict=True):
            if isinstance(outcome, EmbeddingRejected) and not isinstance(outcome, EmbeddingMisconfigured):
                embedded.append(replace(reading, document=None, chunks=(), error=outcome))
            elif isinstance(outcome, ServiceError):
                raise outcome
            else:
                embedded.append(reading)
                vectors.append(outcome.vectors)
                receipt.merge(outcome.receipt)
        return embedded, vectors

    def _put(
        self, connection: Connection, readings: Sequence[Reading], vectors: Sequence[Vectors], receipt: Receipt
    ) -> None:
        build = self.build
        if build.task.age_s > 0:  # an earlier attempt may have left chunks of a page that has others by now
            assert_held(connection, build.task)
            forget_texts(connection, build, [reading.url for reading in readings])
        if not write_readings(connection, [(build, readings, np.concatenate(vectors))]):
            raise LeaseLostError
        lives = [self.before[reading.url].live for reading in readings if reading.unchanged]
        if lives:
            urls = [live.url for live in lives]
            receipt.copied(copy_unchanged(connection, build, lives[0].generation, urls, "unchanged"))
        for reading in readings:
            receipt.count(reading)
        self.result.visited += self._visited(connection, readings)

    def _visited(self, connection: Connection, readings: Sequence[Reading]) -> Iterator[Visited]:
        """The pages, each with those of its links that are news to the crawl."""
        links = {link for reading in readings for link in reading.links or ()} - self._told
        links -= set(met_of(connection, self.build, links))
        sketches = self._sketches(connection, readings)
        for reading in readings:
            news = [link for link in reading.links or () if link in links]
            elsewhere = reading.fetched.url if reading.fetched and led(reading.url, reading.fetched) else None
            if elsewhere is None:  # nothing can come between this page and its links
                links.difference_update(news)
                self._told.update(news)
            yield Visited(reading.url, self.depths[reading.url], elsewhere, news, sketches.get(reading.url))

    def _sketches(self, connection: Connection, readings: Sequence[Reading]) -> dict[str, str]:
        """By address, the sketches of those pages that belong to a shape; "" of those that were read for nothing."""
        shaped = [reading for reading in readings if shape_of(parse_url(reading.url))]
        found = {reading.url: "" for reading in shaped if reading.outcome in FRUITLESS}
        texts = {reading.url: [chunk.text for chunk in reading.chunks] for reading in shaped if reading.chunks}
        if unchanged := [reading.url for reading in shaped if reading.unchanged]:
            rows = connection.execute(TEXTS, {**key_of(self.build), "urls": unchanged})
            texts |= {row.url: row.texts for row in rows}
        return found | {url: sketch_of(words, parse_url(url)) for url, words in texts.items()}
