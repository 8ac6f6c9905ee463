"""Reads a source, whatever its type, as one stream of readings: fetched, extracted, and cut into chunks."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from chat_api.core.errors import InvalidUrl, NoText, NotFound, TooLarge, TrainingError, UnsupportedType
from workers.chunk import chunk
from workers.dashboard import SourceToTrain
from workers.documents import Block, Chunk, Document, Fetched, Reading
from workers.fetch.client import SafeClient
from workers.fetch.crawl import Frontier, Scope, Visit, site_frontier, sitemap_frontier
from workers.fetch.robots import Robots
from workers.lease import Progress

FETCHES_AT_ONCE = 4


class Extractor(Protocol):
    """Who turns bytes into documents: the sandbox."""

    def extract(self, fetched: Fetched, *, filename: str | None = None) -> Document:
        """The document in the bytes. Raises the TrainingError that says why there is none."""


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """How chunks are measured and how large they may be, in the tokens that `count` counts."""

    count: Callable[[str], int]
    target: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Reader:
    """What reading needs of the world."""

    client: SafeClient
    read_object: Callable[[str, int], Fetched]
    """(object key, most bytes) → the bucket's object."""
    extractor: Extractor
    sizes: ChunkSizes
    max_file_mb: int
    """Where the org's limits name none."""
    public_base_url: str | None = None

    def read(self, found: SourceToTrain, progress: Progress, check: Callable[[], None]) -> Iterator[Reading]:
        """Every page or file of the source, with its chunks or its error; a source of one raises its error instead.

        `check` raises when the run must stop; it is asked before each page.
        """
        match found.source.type:
            case "url":
                yield self._url(found, progress)
            case "file":
                yield self._file(found, progress)
            case "text":
                yield self._text(found, progress)
            case "qa":
                yield self._pairs(found, progress)
            case "site" | "sitemap":
                yield from self._crawl(found, progress, check)
            case other:
                raise UnsupportedType(
                    f"Sources of type {other!r} are not known: use url, site, sitemap, file, text or qa."
                )

    def _url(self, found: SourceToTrain, progress: Progress) -> Reading:
        url = _address(found)
        with progress.at("fetch"):
            Robots(self.client).check(url)
            fetched = self.client.get(url)
        return self._cut(Reading(url, cited_url=fetched.url, fetched=fetched), progress)

    def _file(self, found: SourceToTrain, progress: Progress) -> Reading:
        file = found.file
        if file is None:
            raise NotFound("The file of this source does not exist. Upload it again.")
        most = _limit(found.org.limits, "max_file_mb", self.max_file_mb)
        if (file.size_bytes or 0) > most * 2**20:
            raise TooLarge(f"The file has {file.size_bytes or 0:,} bytes; {most} MB are allowed.")
        with progress.at("fetch"):
            fetched = self.read_object(file.object_key, most * 2**20)
        cited = _public_url(found, self.public_base_url)
        reading = Reading(fetched.url, cited_url=cited, fetched=fetched)
        return self._cut(reading, progress, filename=file.filename, title=found.source.title)

    def _text(self, found: SourceToTrain, progress: Progress) -> Reading:
        text = _given(found.source.content).get("text")
        if not isinstance(text, str) or not text.strip():
            raise NoText("The text is empty. Write something to learn from.")
        url = f"source:{found.source.id}"
        fetched = Fetched(
            url, 200, text.encode("utf-8", "replace"), "text/markdown", "utf-8", fetched_at=datetime.now(UTC)
        )
        return self._cut(Reading(url, fetched=fetched), progress, title=found.source.title)

    def _pairs(self, found: SourceToTrain, progress: Progress) -> Reading:
        pairs = _pairs_of(found.source.content)
        title = found.source.title or ""
        with progress.at("chunk"):
            chunks: list[Chunk] = []
            for question, answer in pairs:
                blocks = (Block("heading", question, level=1), Block("paragraph", answer))
                cut = self._chunks(Document(title, blocks, "application/json"))
                chunks += [replace(piece, ordinal=len(chunks) + n) for n, piece in enumerate(cut)]
        everything = tuple(Block("paragraph", f"{question}\n{answer}") for question, answer in pairs)
        document = Document(title, everything, "application/json")
        return Reading(f"source:{found.source.id}", document=document, chunks=tuple(chunks))

    def _cut(
        self, reading: Reading, progress: Progress, *, filename: str | None = None, title: str | None = None
    ) -> Reading:
        """`reading` with its document and chunks; `title` is the owner's, and wins. Raises TrainingError."""
        fetched = reading.fetched
        if fetched is None:
            return reading
        with progress.at("extract"):
            document = self.extractor.extract(fetched, filename=filename)
            document = replace(document, title=title or document.title or filename or "")
        with progress.at("chunk"):
            chunks = self._chunks(document)
        if not chunks:
            raise NoText
        return replace(reading, document=document, chunks=tuple(chunks))

    def _chunks(self, document: Document) -> list[Chunk]:
        return chunk(document, count=self.sizes.count, target=self.sizes.target, maximum=self.sizes.maximum)

    def _crawl(self, found: SourceToTrain, progress: Progress, check: Callable[[], None]) -> Iterator[Reading]:
        with progress.at("fetch"):
            frontier = self._frontier(found)
        threads = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch")
        try:
            for visit, fetched in self._fetch_all(frontier, threads, progress):
                check()
                reading = self._visited(frontier, visit, fetched, progress)
                progress.done, progress.total = progress.done + 1, frontier.accepted
                yield reading
        finally:  # whoever stops does not wait for servers that are slow
            threads.shutdown(wait=False, cancel_futures=True)
        for url, reason in frontier.skipped.items():
            yield Reading(url, skipped=reason)

    def _frontier(self, found: SourceToTrain) -> Frontier:
        url, scope, robots = _address(found), Scope.of(_given(found.source.options)), Robots(self.client)
        if found.source.type == "site":
            return site_frontier(url, scope, robots)
        frontier, _ = sitemap_frontier(url, scope, robots, self.client)
        return frontier

    def _fetch_all(
        self, frontier: Frontier, threads: ThreadPoolExecutor, progress: Progress
    ) -> Iterator[tuple[Visit, Fetched | TrainingError]]:
        """Fetches a few pages at once and gives them in the frontier's order, so that a crawl is always the same."""
        flying: deque[tuple[Visit, Future[Fetched]]] = deque()
        while True:
            while len(flying) < FETCHES_AT_ONCE and (visit := frontier.next()):
                flying.append((visit, threads.submit(self.client.get, visit.url)))
            if not flying:
                return
            visit, future = flying.popleft()
            with progress.at("fetch"):
                try:
                    fetched: Fetched | TrainingError = future.result()
                except TrainingError as error:
                    fetched = error
            yield visit, fetched

    def _visited(
        self, frontier: Frontier, visit: Visit, fetched: Fetched | TrainingError, progress: Progress
    ) -> Reading:
        if isinstance(fetched, TrainingError):
            return Reading(visit.url, error=fetched)
        if reason := frontier.landed(visit, fetched.url):
            return Reading(visit.url, fetched=fetched, skipped=reason)
        reading = Reading(visit.url, cited_url=fetched.url, fetched=fetched)
        try:
            reading = self._cut(reading, progress)
        except TrainingError as error:
            return replace(reading, error=error)
        if reading.document:
            frontier.add(reading.document.links, visit.depth + 1)
        return reading


def _address(found: SourceToTrain) -> str:
    if not found.source.url:
        raise InvalidUrl("This source has no address. Give it one and train again.")
    return found.source.url


def _given(column: object) -> dict[str, Any]:
    """A JSON column as an object: its owner may have written anything there, and null counts as nothing."""
    return column if isinstance(column, dict) else {}


def _limit(limits: dict[str, Any] | None, name: str, default: int) -> int:
    value = _given(limits).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _public_url(found: SourceToTrain, base: str | None) -> str | None:
    options = _given(found.source.options)
    given = options.get("public_url")
    if isinstance(given, str) and given.startswith(("http://", "https://")):
        return given
    if options.get("public") and base and found.file:
        return f"{base.rstrip('/')}/{quote(found.file.object_key)}"
    return None


def _pairs_of(content: dict[str, Any] | None) -> list[tuple[str, str]]:
    given = _given(content).get("pairs")
    pairs = [
        (pair["question"].strip(), pair["answer"].strip())
        for pair in (given if isinstance(given, list) else [])
        if isinstance(pair, dict) and isinstance(pair.get("question"), str) and isinstance(pair.get("answer"), str)
    ]
    pairs = [(question, answer) for question, answer in pairs if question and answer]
    if not pairs:
        raise NoText("There is no question with an answer here. Add one.")
    return pairs
