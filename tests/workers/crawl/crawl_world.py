"""Crawls in a test: a website, the chat database, and workers that do one task after the other."""

import hashlib
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import EmbeddingRejected, EmbeddingUnavailable, ParserCrashed, ServiceError, TrainingError
from chat_api.core.models.dashboard import DashboardBot, Org, TrainingSource
from tests.workers.chat_rows import ChatRows
from tests.workers.fetch.loopback import Site, client_of, redirect, reply
from workers.crawl import tasks as crawl
from workers.dashboard import SourceToTrain
from workers.documents import Block, Document, Fetched
from workers.reading import ChunkSizes, Reader
from workers.stages import Stages
from workers.tasks.claims import claim
from workers.tasks.lease import Progress
from workers.tasks.life import Task, put_back, settle

SPACE = EmbeddingSpace("test-model", 4)
REFUSED = "refused-text"
CRASHING = b"crashing-bytes"
SAID = ("title: ", "canonical: ", "robots: ", "contact: ")


class Words:
    """An extractor that takes each line for a paragraph; words beginning with http are links.

    A line that begins with `title:`, `canonical:`, `robots:` or `contact:` says that of the page.
    """

    def extract_many(
        self, items: Sequence[tuple[Fetched, str | None]], *, check: Callable[[], None] | None = None
    ) -> list[Document | TrainingError]:
        """The documents, or the error of those with the crashing bytes."""
        return [
            ParserCrashed() if CRASHING in fetched.body else _document(fetched.body.decode()) for fetched, _ in items
        ]


def _document(body: str) -> Document:
    lines = body.splitlines()
    said = dict(line.split(": ", 1) for line in lines if line.startswith(SAID))
    shown = [line for line in lines if line.partition(":")[0] not in {"http", "https", *said}]
    return Document(
        said.get("title", "Title"),
        tuple(Block("paragraph", line) for line in shown),
        "text/plain",
        links=tuple(word for word in body.split() if word.startswith("http") and word != said.get("canonical")),
        canonical_url=said.get("canonical"),
        directives=tuple(said.get("robots", "").split()),
        contact=(Block("heading", "Contact", level=1), Block("paragraph", said["contact"]))
        if "contact" in said
        else (),
    )


class Vectors:
    """An embedder whose vectors are made of the texts; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away_at = ""
        """A text with this word finds the provider away, once."""
        self._lock = Lock()

    def __call__(
        self,
        space: EmbeddingSpace,
        texts: Sequence[str],
        check: Callable[[], None],
        *,
        on_batch: Callable[[range, NDArray[np.float32]], None] | None = None,
        refused: Callable[[int, EmbeddingRejected], Collection[int]] | None = None,
    ) -> NDArray[np.float32]:
        """Unit rows; texts with the refused word are refused."""
        with self._lock:
            self.asked += texts
        made = np.zeros((len(texts), space.dimensions), np.float32)
        for row, words in enumerate(texts):
            if REFUSED in words and refused:
                refused(row, EmbeddingRejected())
                continue
            if self.away_at and self.away_at in words:
                self.away_at = ""
                raise EmbeddingUnavailable
            seed = np.frombuffer(hashlib.sha256(words.encode()).digest()[: space.dimensions], np.uint8) + 1.0
            made[row] = seed / np.linalg.norm(seed)
            if on_batch:
                on_batch(range(row, row + 1), made[row : row + 1])
        return made


STRAYS = """
    SELECT text FROM chunks JOIN sources USING (org_id, bot_id, source_id)
    WHERE generation = live_generation AND document_id NOT IN (
        SELECT document_id FROM pages JOIN documents USING (org_id, bot_id, source_id, generation, document_id)
        WHERE generation = live_generation)
"""
"""Chunks that answer without a page."""


class Died(Exception):
    """The worker is gone."""


def page(*lines: str) -> bytes:
    """A page's body."""
    return "\n".join(lines).encode()


def fill(site: Site, pages: dict[str, list[str]]) -> None:
    """Gives each path a page of its own words, with these links."""
    for path, links in pages.items():
        site.pages[path] = reply(page(f"Words of {path}.", *map(site.url, links)), ETag=f'"{path}"')


def tangled(site: Site, seed: int, size: int = 90) -> None:
    """A website of many levels whose pages link to each other, to twins, off the site, and to redirects that collide."""
    chance = random.Random(seed)
    paths = ["/", *(f"/p{number}" for number in range(size))]
    for place, path in enumerate(paths):
        near = paths[place + 1 : place + 1 + chance.randrange(1, 9)]
        links = [
            *near,
            *chance.choices(paths, k=3),
            chance.choice(["/private/x", "/x.png", "/gone", "/p1?utm_source=a"]),
        ]
        fill(site, {path: links})
        if path != "/" and chance.random() < 0.2:
            site.pages[path] = redirect(site.url(chance.choice([*paths, "/hidden1", "/hidden2", "/private/y"])))
        elif chance.random() < 0.05:
            site.pages[path] = reply(CRASHING)
    fill(site, {"/hidden1": ["/p3", "/only-from-hidden"], "/hidden2": [], "/only-from-hidden": []})


@dataclass
class Crawls:
    """One source and the workers that crawl it."""

    rows: ChatRows
    site: Site
    source_type: str = "site"
    path: str = "/"
    options: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    source_id: UUID = field(default_factory=uuid4)
    vectors: Vectors = field(default_factory=Vectors)

    def __post_init__(self) -> None:
        reader = Reader(
            client=client_of(self.site),
            read_object=lambda _key, _most: Fetched("", 200, b""),
            extractor=Words(),
            sizes=ChunkSizes(lambda words: len(words.split()), target=12, maximum=40),
            max_file_mb=1,
        )
        self.stages = Stages(reader, self.vectors, self.rows.engine, SPACE, lambda _space, _tokens: 0)

    @property
    def found(self) -> SourceToTrain:
        """The source as its owner has it now."""
        source = TrainingSource(
            id=self.source_id, type=self.source_type, url=self.site.url(self.path), options=self.options, content=None
        )
        bot = DashboardBot(id=self.rows.bot_id, org_id=self.rows.org_id, name="Bot", config=None, allowed_origins=[])
        return SourceToTrain(source, None, bot, Org(limits=self.limits))

    def queue(self, *, force: bool = False) -> UUID:
        """A waiting run."""
        job_id = self.rows.wait(self.source_id, source_type=self.source_type)
        self.rows.change(job_id, force=force)
        return job_id

    def claim(self) -> Task | None:
        """The next task, whenever it is due."""
        self.rows.sql("UPDATE training_tasks SET run_after = now() WHERE status = 'waiting' AND run_after > now()")
        with self.rows.engine.begin() as connection:
            return next(iter(claim(connection, "worker-1", cap=1000)), None)

    def claimed(self) -> Task:
        """The next task; there is one."""
        task = self.claim()
        assert task is not None
        return task

    def do(self, task: Task, check: Callable[[], None] = lambda: None) -> int | None:
        """Does one task, as a worker would."""
        step = self.found, self.stages, Progress(), check
        if task.kind == "finish":
            crawl.finish(task, *step)
            return None
        return crawl.begin(task, *step) if task.kind == "read" else crawl.read_pages(task, *step)

    def settled(self, task: Task) -> None:
        """Does one task; an error ends the run, or has the task wait."""
        try:
            self.do(task)
        except ServiceError as error:
            with self.rows.engine.begin() as connection:
                if error.retryable and task.attempt < 3:
                    put_back(connection, task, error, 0.001, refund=False)
                else:
                    settle(connection, task, "failed", error=error)

    def train(self, **options: bool) -> dict[str, Any]:
        """A whole run by one worker; its job."""
        job_id = self.queue(**options)
        while task := self.claim():
            self.settled(task)
        return self.rows.job(job_id)

    def ledger(self) -> dict[str, str]:
        """The live generation's outcomes, by path."""
        found = self.rows.sql(
            "SELECT url, outcome FROM pages JOIN sources USING (org_id, bot_id, source_id)"
            " WHERE source_id = :source_id AND generation = live_generation ORDER BY position NULLS LAST, url",
            source_id=self.source_id,
        )
        return {row["url"].removeprefix(self.site.url("")): row["outcome"] for row in found}

    def texts(self) -> dict[str, list[str]]:
        """The live generation's chunks, by the path of their page, each with its vector."""
        found = self.rows.sql(
            "SELECT pages.url, text FROM sources JOIN pages USING (org_id, bot_id, source_id)"
            " JOIN documents USING (org_id, bot_id, source_id, generation, document_id)"
            " JOIN chunks USING (org_id, bot_id, source_id, generation, document_id)"
            " JOIN embeddings USING (org_id, bot_id, source_id, generation, chunk_id)"
            " WHERE source_id = :source_id AND generation = live_generation ORDER BY position NULLS LAST, url, ordinal",
            source_id=self.source_id,
        )
        texts: dict[str, list[str]] = {}
        for row in found:
            texts.setdefault(row["url"].removeprefix(self.site.url("")), []).append(row["text"])
        return texts
