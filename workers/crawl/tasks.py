"""A site or sitemap, trained by many tasks: begun by the first, read in `pages` tasks, and switched to by the last."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from chat_api.core.errors import (
    NoText,
    RemovalsHeld,
    ServiceError,
    TrainingError,
)
from workers.crawl.anew import build_of
from workers.crawl.end import Comparison, compare, diff_of, first_error, keep, receipt_of
from workers.crawl.ledger import (
    find_crawl,
    find_result,
    grow,
    met_of,
    note_progress,
    pages_before,
    store_crawl,
)
from workers.crawl.nonsense import nonsense_of
from workers.crawl.pages import PagesReader
from workers.crawl.plan import hand_out
from workers.crawl.sample import Known, known_furniture, sample_furniture
from workers.crawl.state import Crawl
from workers.crawl.twins import merge, twins_of
from workers.crawl.writing import PagesWriter
from workers.dashboard import SourceToTrain
from workers.documents import Reading
from workers.fetch.crawl import Frontier, Visit
from workers.fetch.discovery import site_frontier, sitemap_frontier
from workers.fetch.robots import Robots
from workers.fetch.scope import Scope
from workers.gate.verdict import lost_error, lost_questions
from workers.quota import scope_left
from workers.reading import Reader, address_of, given, renders
from workers.receipt import Receipt
from workers.stages import Stages
from workers.store.failed import NOTHING
from workers.store.generation import open_generation, remember_bot, write_readings
from workers.store.rows import Build
from workers.store.switch import park, switch, why_not
from workers.tasks.lease import Progress
from workers.tasks.life import LeaseLostError, Task, conclude, settle
from workers.tasks.retries import retry_in

KEPT_AT_ONCE = 200

# --- begin ------------------------------------------------------------------------------------------------------------


def begin(task: Task, found: SourceToTrain, stages: Stages, progress: Progress, check: Callable[[], None]) -> int:
    """Opens the crawl's generation and makes its first tasks, in one transaction; how many.

    Raises InvalidUrl, QuotaExceeded, NoText, SourceDeleted, LeaseLostError, and why the start or the sitemap can't be
    read.
    """
    scope = Scope.of(given(found.source.options))
    scope, warnings = scope_left(stages.chat, task.org_id, found.org.limits, scope)
    with stages.chat.begin() as connection:
        known = known_furniture(connection, task)
    with progress.at("fetch"):
        crawl, frontier = _first(found, scope, known, stages.reader, check)
    crawl.warnings, crawl.cut_short = warnings + crawl.warnings, bool(warnings)
    if not frontier.accepted:
        raise NoText(
            "The sitemap lists no page of its own website that may be read. Check its addresses and the patterns."
        )
    check()
    with progress.at("store"), stages.chat.begin() as connection:
        remember_bot(connection, found.bot)
        build = open_generation(connection, task, stages.space, found.row_version)
        grow(connection, build, crawl, frontier)
        made = hand_out(connection, task, crawl)
        store_crawl(connection, build, crawl)
        note_progress(connection, task, crawl, "fetch", 0)
        conclude(connection, task, None)
    return made


def _first(
    found: SourceToTrain, scope: Scope, known: Known, reader: Reader, check: Callable[[], None]
) -> tuple[Crawl, Frontier]:
    url, client, follow = address_of(found), reader.client, found.source.type == "site"
    robots = Robots(client)
    find = site_frontier if follow else sitemap_frontier
    frontier, warnings = find(url, scope, robots, client, check)
    nonsense = nonsense_of(frontier.start, reader, robots, check)
    crawl = Crawl(frontier.start, scope, robots.known, follow, renders(found), list(warnings), nonsense=nonsense)
    shared = sample_furniture(frontier, known, reader, crawl.pace_s, check)
    crawl.furniture, crawl.example, crawl.example_text = shared
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
    work = PagesWriter(build, stages, progress, check, before, dict(visits), pages, result)
    for some in [[visit] for visit in visits] if task.suspect else [visits]:
        if task.suspect:
            work.announce(some[0].url)
        with _noting_start(build, crawl.start, stages):
            for readings in pages.read(some, progress, check):
                work.add(readings)
        if task.suspect:
            work.write()
    return work.end()


@contextmanager
def _noting_start(build: Build, start: str, stages: Stages) -> Iterator[None]:
    """Has the ledger say why the start could not be read, where that is the end of the run."""
    try:
        yield
    except TrainingError as error:
        if error.retryable and retry_in(build.task, error) is None:
            with stages.chat.begin() as connection:
                write_readings(connection, [(build, [Reading(start, error=error)], NOTHING)])
        raise


# --- finish -----------------------------------------------------------------------------------------------------------


def finish(task: Task, found: SourceToTrain, stages: Stages, progress: Progress, check: Callable[[], None]) -> None:
    """Compares the crawl with what is live, keeps or removes what is not in it, and switches to it.

    When too much would be gone at once, or test questions would be lost, the generation is parked, and when no page gave
    text the run fails; what is live stays. Raises SourceDeleted, LeaseLostError, EmbeddingUnavailable when the bot's
    space is being changed, and what keeps test questions from being embedded.
    """
    began = time.perf_counter()
    with progress.at("store"):
        build = build_of(task, stages.chat)
        _merge_twins(build, stages, check)
        with stages.chat.begin() as connection:
            crawl, error = find_crawl(connection, build), first_error(connection, build)
            compared = compare(connection, build, cut_short=crawl.cut_short)
        if error:
            _fail(task, stages, error)
            return
        for outcome, urls in compared.kept.items():
            for start in range(0, len(urls), KEPT_AT_ONCE):
                check()
                with stages.chat.begin() as connection:
                    keep(connection, build, compared.live_generation, urls[start : start + KEPT_AT_ONCE], outcome)
        with stages.chat.begin() as connection:
            receipt = receipt_of(connection, build, crawl, compared)
        lost = [] if compared.held else lost_questions(build, found.bot, receipt, stages, check)
    receipt.spent(progress.seconds, time.perf_counter() - began)
    _conclude(build, compared, receipt, lost, stages)


def _merge_twins(build: Build, stages: Stages, check: Callable[[], None]) -> None:
    with stages.chat.begin() as connection:
        twins = twins_of(connection, build)
    for start in range(0, len(twins), KEPT_AT_ONCE):
        check()
        with stages.chat.begin() as connection:
            merge(connection, build, twins[start : start + KEPT_AT_ONCE])


def _conclude(build: Build, compared: Comparison, receipt: Receipt, lost: Sequence[str], stages: Stages) -> None:
    with stages.chat.begin() as connection:
        if compared.held:
            park(connection, build, RemovalsHeld(), receipt, diff_of(connection, build, compared))
        elif lost:
            diff = {**diff_of(connection, build, compared), "lost_questions": list(lost)}
            park(connection, build, lost_error(lost), receipt, diff)
        elif not switch(connection, [(build, receipt)]):
            raise why_not(connection, build.task)


def _fail(task: Task, stages: Stages, error: ServiceError) -> None:
    """Ends the run: its pages had their second try, and another attempt at the end would find what this one found."""
    with stages.chat.begin() as connection:
        if settle(connection, task, "failed", error=error) is None:
            raise LeaseLostError
