"""Reads sources of one page or file: fetched, compared with what is live, extracted, and cut into chunks."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from chat_api.core.errors import (
    InvalidUrl,
    NeedsRendering,
    NoText,
    NotFound,
    TooLarge,
    TrainingError,
    UnsupportedType,
)
from chat_api.core.models.dashboard import limit_in
from chat_api.core.storable import storable
from workers.chunk import chunk, numbered
from workers.dashboard import SourceToTrain
from workers.documents import Block, Chunk, Document, Fetched, Reading
from workers.extract.furniture import with_contact
from workers.fetch.client import SafeClient
from workers.fetch.render import Renderer
from workers.fetch.robots import Robots
from workers.store.known import LivePage
from workers.store.rows import text_sha256


class Extractor(Protocol):
    """Who turns bytes into documents: the sandbox."""

    def extract_many(
        self, items: Sequence[tuple[Fetched, str | None]], *, check: Callable[[], None] | None = None
    ) -> list[Document | TrainingError]:
        """The document in each (bytes, filename), or why there is none. Raises what `check` raises."""


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """How chunks are measured and how large they may be, in the tokens that `count` counts."""

    count: Callable[[str], int]
    target: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """A page or file as it was fetched, before it is extracted, with what its owner calls it."""

    reading: Reading
    filename: str | None = None
    title: str | None = None
    """The owner's; it wins over the document's own."""
    live: LivePage | None = None
    """What it is compared with."""
    render: bool = False
    """Whether its JavaScript may be run."""
    alone: bool = False
    """Whether it is a source of its own, which keeps what its footer says of how to reach its owner."""


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
    renderer: Renderer | None = None
    """None where no browser is installed."""
    bucket: str = ""
    """Where `read_object` finds its objects."""

    def fetch(self, found: SourceToTrain, live: LivePage | None = None) -> Fresh:
        """The source's one page or file, `unchanged` where it is as `live` has it. Safe to call from several threads.

        Raises the TrainingError that says why there is none, and StorageUnavailable.
        """
        match found.source.type:
            case "url":
                return self._url(found, live)
            case "file":
                return self._file(found, live)
            case "text":
                return self._text(found, live)
            case "qa":
                return self._pairs(found, live)
            case other:
                raise UnsupportedType(
                    f"Sources of type {other!r} are not known: use url, site, sitemap, file, text or qa."
                )

    def extract(self, fresh: Sequence[Fresh], check: Callable[[], None]) -> list[Reading]:
        """The readings with their documents, or why there is none as their error; raises what `check` raises.

        Of what turns out to be as its `live` has it, there is no document: it is `unchanged`.
        """
        items = {
            place: (one.reading.fetched, one.filename)
            for place, one in enumerate(fresh)
            if one.reading.fetched and not one.reading.unchanged
        }
        to_render = {fetched.url for place, (fetched, _) in items.items() if fresh[place].render}
        outcomes = self.documents(list(items.values()), check, to_render)
        readings = [one.reading for one in fresh]
        for place, outcome in zip(items, outcomes, strict=True):
            readings[place] = _extracted(fresh[place], outcome)
        return readings

    def documents(
        self, items: Sequence[tuple[Fetched, str | None]], check: Callable[[], None], to_render: Collection[str] = ()
    ) -> list[Document | TrainingError]:
        """The document in each (bytes, filename), or why there is none; raises what `check` raises.

        Of the addresses `to_render`, pages that are empty without their JavaScript are read again after it has run.
        """
        outcomes = self.extractor.extract_many(items, check=check) if items else []
        for place, ((fetched, _), outcome) in enumerate(zip(items, outcomes, strict=True)):
            if isinstance(outcome, NeedsRendering) and fetched.url in to_render:
                outcomes[place] = self._rendered(fetched, check)
        return outcomes

    def _rendered(self, fetched: Fetched, check: Callable[[], None]) -> Document | TrainingError:
        if self.renderer is None:
            return NeedsRendering("The page is empty until its JavaScript runs, and no browser is installed for that.")
        try:
            rendered = self.renderer.render(fetched.url, check=check)
        except TrainingError as error:
            return error
        return self.extractor.extract_many([(rendered, None)], check=check)[0]

    def address(self, found: SourceToTrain) -> str:
        """The ledger's key of what is read first of a source, before it is: empty where the source has none."""
        match found.source.type:
            case "url" | "site" | "sitemap":
                return found.source.url or ""
            case "file":
                return f"s3://{self.bucket}/{found.file.object_key}" if found.file else ""
            case _:
                return f"source:{found.source.id}"

    def chunk(self, reading: Reading) -> Reading:
        """The reading with its document's chunks, or with the error NoText where it gives none."""
        if reading.document is None or reading.chunks:
            return reading
        chunks = self._chunks(reading.document)
        return replace(reading, chunks=chunks) if chunks else replace(reading, document=None, error=NoText())

    def _url(self, found: SourceToTrain, live: LivePage | None) -> Fresh:
        url = address_of(found)
        robots, render = Robots(self.client), renders(found)
        robots.check(url)
        # What scripts bring may change though their page does not.
        fetched = self._fetched(url, None if render else live)
        robots.check(fetched.url)
        reading = Reading(url, cited_url=fetched.url, fetched=fetched)
        return Fresh(
            replace(reading, unchanged=not render and same_bytes(reading, live)), live=live, render=render, alone=True
        )

    def _fetched(self, url: str, live: LivePage | None) -> Fetched:
        if live is None:
            return self.client.get(url)
        fetched = self.client.get(url, etag=live.etag, last_modified=live.last_modified)
        if fetched.status == 304 and fetched.url != live.cited_url:
            return self.client.get(url)  # it leads elsewhere now, and of that page we have nothing
        return fetched

    def _file(self, found: SourceToTrain, live: LivePage | None) -> Fresh:
        file = found.file
        if file is None:
            raise NotFound("The file of this source does not exist. Upload it again.")
        most = limit_of(found.org.limits, "max_file_mb", self.max_file_mb)
        if (file.size_bytes or 0) > most * 2**20:
            raise TooLarge(f"The file has {file.size_bytes or 0:,} bytes; {most:g} MB are allowed.")
        fetched = self.read_object(file.object_key, int(most * 2**20))
        cited = _public_url(found, self.public_base_url)
        return _owned(found, Reading(fetched.url, cited_url=cited, fetched=fetched), live, file.filename)

    def _text(self, found: SourceToTrain, live: LivePage | None) -> Fresh:
        text = given(found.source.content).get("text")
        if not isinstance(text, str) or not text.strip():
            raise NoText("The text is empty. Write something to learn from.")
        url = f"source:{found.source.id}"
        fetched = Fetched(
            url, 200, text.encode("utf-8", "replace"), "text/markdown", "utf-8", fetched_at=datetime.now(UTC)
        )
        return _owned(found, Reading(url, fetched=fetched), live)

    def _pairs(self, found: SourceToTrain, live: LivePage | None) -> Fresh:
        pairs = _pairs_of(found.source.content)
        title = found.source.title or ""
        reading = Reading(f"source:{found.source.id}")
        if live and live.title == storable(title):  # of pairs the row's version says everything else
            return Fresh(replace(reading, unchanged=True), live=live)
        everything = tuple(Block("paragraph", f"{question}\n{answer}") for question, answer in pairs)
        cut = [
            # A heading that says what the title says is dropped, but by its question a pair is known.
            replace(piece, heading=piece.heading or " ".join(question.split()))
            for question, answer in pairs
            for piece in self._chunks(
                Document(title, (Block("heading", question, level=1), Block("paragraph", answer)), "")
            )
        ]
        document = Document(title, everything, "application/json")
        return Fresh(replace(reading, document=document, chunks=tuple(numbered(cut))))

    def _chunks(self, document: Document) -> tuple[Chunk, ...]:
        sizes = self.sizes
        return tuple(chunk(document, count=sizes.count, target=sizes.target, maximum=sizes.maximum))


def same_bytes(reading: Reading, live: LivePage | None) -> bool:
    """Whether the server says, or the bytes do, that the page is as `live` has it, under the same address."""
    fetched = reading.fetched
    if live is None or fetched is None or reading.cited_url != live.cited_url:
        return False
    return fetched.status == 304 or hashlib.sha256(fetched.body).digest() == live.content_sha256


def _owned(found: SourceToTrain, reading: Reading, live: LivePage | None, filename: str | None = None) -> Fresh:
    """What its owner uploaded or wrote: unchanged only under the same title, which is embedded with every chunk."""
    title = found.source.title
    named = bool(live and title and live.title == storable(title))
    return Fresh(replace(reading, unchanged=named and same_bytes(reading, live)), filename, title, live, alone=True)


def _extracted(fresh: Fresh, outcome: Document | TrainingError) -> Reading:
    if isinstance(outcome, TrainingError):
        return replace(fresh.reading, error=outcome)
    title = storable(fresh.title or outcome.title or fresh.filename or "")
    document = replace(with_contact(outcome) if fresh.alone else outcome, title=title)
    reading = replace(fresh.reading, document=document)
    live = fresh.live
    if live and (live.title, live.cited_url, live.text_sha256) == (title, reading.cited_url, text_sha256(document)):
        return replace(reading, document=None, unchanged=True)
    return reading


def address_of(found: SourceToTrain) -> str:
    """The source's address. Raises InvalidUrl when it has none."""
    if not found.source.url:
        raise InvalidUrl("This source has no address. Give it one and train again.")
    return found.source.url


def renders(found: SourceToTrain) -> bool:
    """Whether the owner wants pages' JavaScript to run where they are empty without it."""
    return bool(given(found.source.options).get("render"))


def given(column: object) -> dict[str, Any]:
    """A JSON column as an object: its owner may have written anything there, and null counts as nothing."""
    return column if isinstance(column, dict) else {}


def limit_of(limits: dict[str, Any] | None, name: str, default: float) -> float:
    """The org's limit of this name, 0 for nothing at all, or `default` where it names no number from 0 up."""
    value = limit_in(limits, name)
    return default if value is None else value


def _public_url(found: SourceToTrain, base: str | None) -> str | None:
    options = given(found.source.options)
    public = options.get("public_url")
    if isinstance(public, str) and public.startswith(("http://", "https://")):
        return public
    if options.get("public") and base and found.file:
        return f"{base.rstrip('/')}/{quote(found.file.object_key)}"
    return None


def _pairs_of(content: dict[str, Any] | None) -> list[tuple[str, str]]:
    offered = given(content).get("pairs")
    pairs = [
        (pair["question"].strip(), pair["answer"].strip())
        for pair in (offered if isinstance(offered, list) else [])
        if isinstance(pair, dict) and isinstance(pair.get("question"), str) and isinstance(pair.get("answer"), str)
    ]
    pairs = [(question, answer) for question, answer in pairs if question and answer]
    if not pairs:
        raise NoText("There is no question with an answer here. Add one.")
    return pairs
