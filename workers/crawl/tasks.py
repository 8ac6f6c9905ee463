"""A site or sitemap, trained by many tasks: begun by the first, read in `pages` tasks, and switched to by the last."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from sqlalchemy import Connection, text

from chat_api.core.errors import (
    EmbeddingMisconfigured,
    EmbeddingRejected,
    NoText,
    QuotaExceeded,
    RemovalsHeld,
    ServiceError,
)
from chat_api.core.models.dashboard import source_version
from workers.crawl.anew import build_of
from workers.crawl.end import Comparison, compare, diff_of, first_error, keep, receipt_of
from workers.crawl.ledger import (
    advance,
    find_crawl,
    find_result,
    forget_texts,
    grow,
    hand_out,
    met_of,
    note_progress,
    note_result,
    note_url,
    pages_before,
    store_crawl,
)
from workers.crawl.pages import PagesReader, led
from workers.crawl.state import Before, Crawl, TaskResult, Visited
from workers.dashboard import SourceToTrain
from workers.documents import Reading
from workers.fetch.client import SafeClient
from workers.fetch.crawl import Frontier, Scope, Visit, site_frontier, sitemap_frontier
from workers.fetch.robots import Robots
from workers.learn import Stages, Vectors, embed_readings
from workers.reading import address_of, given, renders
from workers.receipt import Receipt
from workers.store.generation import copy_unchanged, open_generation, remember_bot, write_readings
from workers.store.rows import Build
from workers.store.switch import add_usage, park, switch, why_not
from workers.tasks.lease import Progress
from workers.tasks.life import LeaseLostError, Task, assert_held, conclude, settle

BATCH_CHUNKS = 512
KEPT_AT_ONCE = 200

# --- begin ------------------------------------------------------------------------------------------------------------

FETCHED_THIS_MONTH = text("""
    SELECT coalesce(sum(calls), 0) FROM usage_days
    WHERE org_id = :org_id AND purpose = 'fetch' AND day >= date_trunc('month', now() AT TIME ZONE 'UTC')
""")


def begin(task: Task, found: SourceToTrain, stages: Stages, progress: Progress, check: Callable[[], None]) -> int:
    """Opens the crawl's generation and makes its first tasks, in one transaction; how many.

    Raises InvalidUrl, QuotaExceeded, NoText, SourceDeleted, LeaseLostError, and why the start or the sitemap can't be
    read.
    """
    scope, warnings = _within_quota(task, found, stages)
    with progress.at("fetch"):
        crawl, frontier = _first(found, scope, stages.reader.client)
    crawl.warnings = warnings + crawl.warnings
    if not frontier.accepted:
        raise NoText(
            "The sitemap lists no page of its own website that may be read. Check its addresses and the patterns."
        )
    check()
    with progress.at("store"), stages.chat.begin() as connection:
        remember_bot(connection, found.bot)
        build = open_generation(connection, task, stages.space, source_version(found.source, None, None))
        grow(connection, build, crawl, frontier)
        made = hand_out(connection, task, crawl)
        store_crawl(connection, build, crawl)
        note_progress(connection, task, crawl, "fetch", 0)
        conclude(connection, task, None)
    return made


def _within_quota(task: Task, found: SourceToTrain, stages: Stages) -> tuple[Scope, list[str]]:
    """The source's scope, as far as the org's pages of this month reach, and what to say where that is less."""
    scope = Scope.of(given(found.source.options))
    most = given(found.org.limits).get("monthly_pages")
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        return scope, []
    with stages.chat.begin() as connection:
        left = most - int(connection.execute(FETCHED_THIS_MONTH, {"org_id": task.org_id}).scalar_one())
    if left <= 0:
        raise QuotaExceeded(f"The organisation's {most:,} pages of this month are used up. Raise the limit or wait.")
    if left >= scope.max_pages:
        return scope, []
    return replace(scope, max_pages=left), [f"Only {left:,} pages are left of the organisation's {most:,} this month."]


def _first(found: SourceToTrain, scope: Scope, client: SafeClient) -> tuple[Crawl, Frontier]:
    url, robots, warnings = address_of(found), Robots(client), list[str]()
    if found.source.type == "site":
        frontier = site_frontier(url, scope, robots)
    else:
        frontier, told = sitemap_frontier(url, scope, robots, client)
        warnings += told
    follow = found.source.type == "site"
    crawl = Crawl(frontier.start, scope, robots.known, follow, renders(found), warnings)
    return crawl, frontier


# --- pages ------------------------------------------------------------------------------------------------------------


def read_pages(task: Task, _found: SourceToTrain, stages: Stages, progress: Progress, check: Callable[[], None]) -> int:
    """Reads the task's pages into the crawl's generation, and advances the crawl with its last rows.

    How many tasks that made. A suspect task reads its pages one by one and says before each which it is; what is written
    of an earlier attempt is not read again. Raises LeaseLostError, why the crawl's start can't be read where a retry can
    help, and whatever is no page's own doing.
    """
    build = build_of(task, stages.chat)
    with stages.chat.begin() as connection:
        result, crawl = find_result(connection, task), find_crawl(connection, build)
        done = {page.url for page in result.visited}
        visits = [Visit(*visit) for visit in task.plan["visits"] if visit[0] not in done]
        before = pages_before(connection, build, crawl, [visit.url for visit in visits])

    def met(urls: list[str]) -> list[str]:
        with stages.chat.begin() as connection:
            return met_of(connection, build, urls)

    pages = PagesReader(stages.reader, crawl, before, task.plan.get("given_up", ()), met)
    work = _Pages(build, stages, progress, check, before, dict(visits), pages, result)
    for some in [[visit] for visit in visits] if task.suspect else [visits]:
        if task.suspect:
            work.announce(some[0].url)
        for readings in pages.read(some, progress, check):
            work.add(readings)
        if task.suspect:
            work.write()
    return work.end()


@dataclass(slots=True)
class _Pages:
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
        self._waiting += readings
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
                receipt.embedded(
                    chunks=outcome.chunks,
                    reused=outcome.reused,
                    tokens=outcome.tokens,
                    cost_microusd=outcome.cost_microusd,
                )
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
        for reading in readings:
            news = [link for link in reading.links or () if link in links]
            elsewhere = reading.fetched.url if reading.fetched and led(reading.url, reading.fetched) else None
            if elsewhere is None:  # nothing can come between this page and its links
                links.difference_update(news)
                self._told.update(news)
            yield Visited(reading.url, self.depths[reading.url], elsewhere, news)


# --- finish -----------------------------------------------------------------------------------------------------------


def finish(task: Task, _found: SourceToTrain, stages: Stages, progress: Progress, check: Callable[[], None]) -> None:
    """Compares the crawl with what is live, keeps or removes what is not in it, and switches to it.

    When too much would be gone at once the generation is parked, and when no page gave text the run fails; what is live
    stays. Raises SourceDeleted, LeaseLostError, EmbeddingUnavailable when the bot's space is being changed.
    """
    began = time.perf_counter()
    with progress.at("store"):
        build = build_of(task, stages.chat)
        with stages.chat.begin() as connection:
            crawl, error = find_crawl(connection, build), first_error(connection, build)
            compared = compare(connection, build)
        if error:
            _fail(task, stages, error)
            return
        for outcome, urls in compared.kept.items():
            for start in range(0, len(urls), KEPT_AT_ONCE):
                check()
                with stages.chat.begin() as connection:
                    keep(connection, build, compared.live_generation, urls[start : start + KEPT_AT_ONCE], outcome)
    _conclude(build, crawl, compared, stages, {**progress.seconds, "total": time.perf_counter() - began})


def _conclude(build: Build, crawl: Crawl, compared: Comparison, stages: Stages, seconds: Mapping[str, float]) -> None:
    with stages.chat.begin() as connection:
        receipt = receipt_of(connection, build, crawl, compared, seconds)
        diff = diff_of(connection, build, compared) if compared.held else None
    with stages.chat.begin() as connection:
        if diff is not None:
            park(connection, build, RemovalsHeld(), receipt, diff)
        elif not switch(connection, [(build, receipt)]):
            raise why_not(connection, build.task)


def _fail(task: Task, stages: Stages, error: ServiceError) -> None:
    """Ends the run: its pages had their second try, and another attempt at the end would find what this one found."""
    with stages.chat.begin() as connection:
        if settle(connection, task, "failed", error=error) is None:
            raise LeaseLostError
