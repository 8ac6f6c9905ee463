"""One run: fetch → extract → chunk → embed → store, then the switch."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from chat_api.core.embeddings import Embedder
from chat_api.core.errors import NoText, ServiceError
from chat_api.core.models.dashboard import source_version
from workers.dashboard import SourceToTrain
from workers.documents import Reading
from workers.lease import Progress
from workers.reading import Reader
from workers.rows import Build
from workers.runs import Run, settle, storable
from workers.store import open_generation, remember_bot, switch, write_readings

BATCH_CHUNKS = 512
BATCH_PAGES = 200
BATCH_BYTES = 32 * 2**20
NAMED_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages stand on."""

    reader: Reader
    embedder: Embedder
    embed: Callable[[list[str], Callable[[], None], Callable[[int], None]], NDArray[np.float32]]
    """(texts, check, told how many more are done) → unit vectors, one row per text."""
    chat: Engine


@dataclass(slots=True)
class Receipt:
    """What a run did, for the owner."""

    pages: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("found", "fetched", "unchanged", "changed", "removed", "failed"), 0)
    )
    chunks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("total", "embedded", "reused"), 0))
    tokens: int = 0
    warnings: list[str] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    def count(self, reading: Reading) -> None:
        """Adds one page or file."""
        self.pages["found"] += 1
        self.pages["fetched"] += reading.fetched is not None
        if reading.error:
            self.pages["failed"] += 1
            if len(self.failures) < NAMED_FAILURES:
                named = {"url": reading.url, "code": reading.error.code, "message": reading.error.message}
                self.failures.append({name: storable(value) for name, value in named.items()})
        if reading.document:
            self.pages["changed"] += 1
            room = NAMED_FAILURES - len(self.warnings)
            self.warnings += [storable(f"{reading.url}: {warning}") for warning in reading.document.warnings[:room]]
        self.chunks["total"] += len(reading.chunks)
        self.chunks["embedded"] += len(reading.chunks)
        self.tokens += sum(chunk.tokens for chunk in reading.chunks)

    def as_json(self, progress: Progress, seconds: float) -> str:
        """The receipt as it is stored and shown."""
        stages = {stage: round(took, 3) for stage, took in progress.seconds.items()}
        whole: dict[str, Any] = {
            "pages": self.pages,
            "chunks": self.chunks,
            "tokens": self.tokens,
            "cost": None,
            "seconds": {**stages, "total": round(seconds, 3)},
            "warnings": self.warnings,
            "failures": self.failures,
        }
        return json.dumps(whole)


def train(run: Run, found: SourceToTrain, stages: Stages, progress: Progress, check: Callable[[], None]) -> None:
    """Builds the source's next generation beside the live one and switches to it; nothing changes before that.

    Raises the ServiceError that says why not, and whatever `check` raises when the run must stop.
    """
    began, receipt = time.perf_counter(), Receipt()
    build: Build | None = None
    first_error: ServiceError | None = None
    for readings in batches(stages.reader.read(found, progress, check)):
        for reading in readings:
            receipt.count(reading)
            first_error = first_error or reading.error
        build = build or _open(run, found, stages, readings)
        vectors = _embed(readings, stages, progress, check)
        with progress.at("store"), stages.chat.begin() as connection:
            write_readings(connection, build, readings, vectors)
    if build is None or not receipt.chunks["total"]:
        raise first_error or NoText
    with progress.at("store"), stages.chat.begin() as connection:
        finished = receipt.as_json(progress, time.perf_counter() - began)
        switch(connection, build, finished)
        settle(connection, run, "succeeded", receipt=finished, progress=progress.snapshot())


def batches(readings: Iterable[Reading]) -> Iterator[list[Reading]]:
    """Readings in groups that are embedded and written together: about 512 chunks, at most 200 pages or 32 MiB."""
    group: list[Reading] = []
    chunks = size = 0
    for reading in readings:
        group.append(reading)
        chunks += len(reading.chunks)
        size += len(reading.fetched.body) if reading.fetched else 0
        if chunks >= BATCH_CHUNKS or len(group) >= BATCH_PAGES or size >= BATCH_BYTES:
            yield group
            group, chunks, size = [], 0, 0
    if group:
        yield group


def _open(run: Run, found: SourceToTrain, stages: Stages, readings: list[Reading]) -> Build:
    is_file = found.file is not None and readings[0].fetched is not None
    etag = readings[0].fetched.etag if is_file and readings[0].fetched else None
    version = source_version(found.source, found.file.object_key if found.file else None, etag)
    with stages.chat.begin() as connection:
        remember_bot(connection, found.bot)
        return open_generation(connection, run, stages.embedder.space, version)


def _embed(
    readings: list[Reading], stages: Stages, progress: Progress, check: Callable[[], None]
) -> NDArray[np.float32]:
    texts = [chunk.embedded_text for reading in readings for chunk in reading.chunks]
    if progress.total is None:  # a source of one page or file is measured in its chunks
        progress.total, progress.unit = len(texts), "chunks"

    def embedded(count: int) -> None:
        if progress.unit == "chunks":
            progress.done += count

    with progress.at("embed"):
        return stages.embed(texts, check, embedded)
