"""Looks at what a training would read, and what that would cost; embeds nothing and writes nothing."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import text

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import DependencyError, ServiceError, TrainingError
from chat_api.core.models.dashboard import version_of_row
from chat_api.core.storable import storable
from workers.dashboard import SourceToTrain
from workers.documents import READER_VERSION, Fetched, Reading
from workers.fetch.crawl import Frontier, Visit
from workers.fetch.discovery import site_frontier, sitemap_frontier
from workers.fetch.robots import NOINDEX, Robots, asked_of_robots
from workers.fetch.scope import Scope
from workers.quota import pages_left, scope_left
from workers.reading import Fresh, address_of, given, renders
from workers.stages import Stages
from workers.store.known import known_vectors, live_pages
from workers.store.rows import embedded_sha256
from workers.tasks.lease import Progress
from workers.tasks.life import Task

SAMPLE_PAGES = 20
SAMPLE_S = 15.0
FETCHES_AT_ONCE = 4
REUSE_AT_ONCE = 512

SPACE = text("""
    SELECT space_id, model, dimensions FROM bots JOIN embedding_spaces USING (space_id)
    WHERE org_id = :org_id AND bot_id = :bot_id
""")
LIVE_SHAS = text("""
    SELECT url, content_sha256 FROM sources JOIN generations USING (org_id, bot_id, source_id)
    JOIN pages USING (org_id, bot_id, source_id, generation)
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = live_generation
      AND reader_version = :reader_version AND url = ANY (:urls) AND chunks > 0
""")


@dataclass(slots=True)
class _Look:
    """What was seen of a source."""

    task: Task
    stages: Stages
    check: Callable[[], None]
    render: bool
    """Whether a website's pages may be rendered."""
    fetch: int = 0
    unchanged: int = 0
    skip: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    tokens: dict[bytes, int] = field(default_factory=dict)
    """Of each different text to embed."""
    notes: list[str] = field(default_factory=list)
    error: ServiceError | None = None

    @property
    def force(self) -> bool:
        return bool(self.task.plan.get("force"))

    def count(self, reading: Reading) -> None:
        """Adds a page or file that was looked at."""
        if reading.error or reading.skipped:
            self.error = self.error or reading.error
            self.skip[reading.outcome] += 1
            return
        self.unchanged += reading.unchanged
        self.fetch += not reading.unchanged
        self.chunks += len(reading.chunks)
        self.tokens |= {embedded_sha256(chunk): chunk.tokens for chunk in reading.chunks}


def measure(
    task: Task, found: SourceToTrain, stages: Stages, progress: Progress, check: Callable[[], None]
) -> dict[str, Any]:
    """What training the source would take: `{type, pages, chunks, tokens, cost, error, complete, notes}`, for JSON.

    `pages` is `{fetch, unchanged, skip: {reason: how many}}`, `tokens` those to be embedded, `cost` in USD. Of a website
    some pages are read, and the rest is estimated from them. Raises what `check` raises, and what a database raises.
    """
    look, share = _Look(task, stages, check, renders(found)), 1.0
    try:
        if found.source.type in {"site", "sitemap"}:
            share = _crawl(look, found, progress)
        else:
            _read(look, found, progress)
    except (TrainingError, DependencyError) as error:
        look.error = error
    read = look.fetch + look.unchanged
    return {
        "type": found.source.type,
        "pages": {"fetch": round(look.fetch * share), "unchanged": round(look.unchanged * share), "skip": look.skip},
        "chunks": round(look.chunks * share),
        **_price(look, share),
        "error": None if read or not look.error else _told(look.error),
        "complete": True,
        "notes": look.notes,
    }


def _told(error: ServiceError) -> dict[str, str]:
    return {"code": error.code, "message": storable(error.message)}


def _price(look: _Look, share: float) -> dict[str, Any]:
    """Tokens of texts that have no vector yet, and what they cost."""
    key = {"org_id": look.task.org_id, "bot_id": look.task.bot_id}
    space, shas, known = look.stages.space, list(look.tokens), set[bytes]()
    with look.stages.chat.begin() as connection:
        row = connection.execute(SPACE, key).one_or_none()
        if row:
            space = EmbeddingSpace(row.model, row.dimensions)
            for first in range(0, len(shas), REUSE_AT_ONCE):
                some = shas[first : first + REUSE_AT_ONCE]
                task = look.task
                known |= known_vectors(connection, task.org_id, task.bot_id, row.space_id, some).keys()
    tokens = round(share * sum(tokens for sha, tokens in look.tokens.items() if sha not in known))
    cost = look.stages.cost(space, tokens)
    return {"tokens": tokens, "cost": None if cost is None else cost / 1_000_000}


def _read(look: _Look, found: SourceToTrain, progress: Progress) -> None:
    """Looks at a source of one page or file."""
    quota = pages_left(look.stages.chat, look.task.org_id, found.org.limits) if found.source.type == "url" else None
    if quota and quota.left <= 0:
        raise quota.used_up
    live = None
    if not look.force:
        url = found.source.url if found.source.type == "url" else None
        with look.stages.chat.begin() as connection:
            live = live_pages(connection, [(look.task, url)]).get(look.task.task_id)
        if live and found.source.type != "url" and version_of_row(live.source_version) != found.row_version:
            live = None
    with progress.at("fetch"):
        fresh = look.stages.reader.fetch(found, live)
    look.count(_chunked(look, [fresh])[0])


def _chunked(look: _Look, fresh: Sequence[Fresh]) -> list[Reading]:
    reader = look.stages.reader
    return [reader.chunk(reading) for reading in reader.extract(fresh, look.check)]


def _crawl(look: _Look, found: SourceToTrain, progress: Progress) -> float:
    """Looks at a website's first pages; how many pages of it there are for each of them, as far as is known."""
    url, client, follow = address_of(found), look.stages.reader.client, found.source.type == "site"
    scope = Scope.of(given(found.source.options))
    scope, look.notes = scope_left(look.stages.chat, look.task.org_id, found.org.limits, scope)
    with progress.at("fetch"):
        find = site_frontier if follow else sitemap_frontier
        frontier, warnings = find(url, scope, Robots(client), client, look.check)
        look.notes += [storable(warning) for warning in warnings]
    seen = _sample(look, frontier, follow)
    look.skip |= Counter[str](frontier.skipped.values())  # of the sampled ones, too: the greater count is the whole one
    left = frontier.accepted - seen
    if left <= 0:
        return 1.0
    known = "at least " if follow else ""
    look.notes.append(f"{seen} of {known}{frontier.accepted} pages were looked at; the rest is estimated from them.")
    return frontier.accepted / seen


def _sample(look: _Look, frontier: Frontier, follow: bool) -> int:
    """Reads up to 20 pages, breadth first, for a quarter of a minute at most; how many."""
    seen, until = 0, time.monotonic() + SAMPLE_S
    with ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch") as threads:
        while seen < SAMPLE_PAGES and time.monotonic() < until:
            look.check()
            most = min(FETCHES_AT_ONCE, SAMPLE_PAGES - seen)
            visits = [visit for _ in range(most) if (visit := frontier.next())]
            if not visits:
                break
            fetched = list(threads.map(lambda visit: _fetch(look, visit), visits))
            for visit, reading in zip(visits, _readings(look, frontier, visits, fetched), strict=True):
                look.count(reading)
                if follow and reading.document:
                    frontier.add(reading.document.links, visit.depth + 1)
            seen += len(visits)
    return seen


def _fetch(look: _Look, visit: Visit) -> Fetched | TrainingError:
    try:
        return look.stages.reader.client.get(visit.url)
    except TrainingError as error:
        return error


def _readings(
    look: _Look, frontier: Frontier, visits: Sequence[Visit], fetched: Iterable[Fetched | TrainingError]
) -> list[Reading]:
    """What became of the visits; an unchanged page is extracted too, for its links, and its chunks are left out."""
    live = {} if look.force else _live_shas(look, visits)
    readings = [_judged(frontier, visit, outcome) for visit, outcome in zip(visits, fetched, strict=True)]
    new = [place for place, reading in enumerate(readings) if not reading.error and not reading.skipped]
    fresh = [Fresh(readings[place], render=look.render) for place in new]
    for place, reading in zip(new, _chunked(look, fresh), strict=True):
        readings[place] = _compared(reading, live)
    return readings


def _judged(frontier: Frontier, visit: Visit, outcome: Fetched | TrainingError) -> Reading:
    if isinstance(outcome, TrainingError):
        return Reading(visit.url, error=outcome)
    return Reading(visit.url, cited_url=outcome.url, fetched=outcome, skipped=frontier.landed(visit, outcome.url))


def _live_shas(look: _Look, visits: Sequence[Visit]) -> dict[str, bytes]:
    """By address, the bytes that the live generation was read from."""
    task = look.task
    key = {"org_id": task.org_id, "bot_id": task.bot_id, "source_id": task.source_id}
    values = {**key, "reader_version": READER_VERSION, "urls": [visit.url for visit in visits]}
    with look.stages.chat.begin() as connection:
        return {row.url: row.content_sha256 for row in connection.execute(LIVE_SHAS, values)}


def _compared(reading: Reading, live: Mapping[str, bytes]) -> Reading:
    """The reading without its chunks where none of them would be embedded."""
    asked = asked_of_robots(reading.fetched.robots if reading.fetched else None)
    if reading.document and NOINDEX & asked.union(reading.document.directives):
        return replace(reading, skipped="noindex", chunks=())
    if reading.fetched and live.get(reading.url) == hashlib.sha256(reading.fetched.body).digest():
        return replace(reading, unchanged=True, chunks=())
    return reading
