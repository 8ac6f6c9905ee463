"""The values that training's stages hand to each other."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from chat_api.core.errors import ServiceError

READER_VERSION = 8
"""Raised whenever extraction or chunking gives other chunks for the same bytes: what was read before is read again."""

BlockKind = Literal["heading", "paragraph", "list", "table", "code"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one address or object gave: the body's bytes as sent after content decoding, and what its server said of them."""

    url: str
    """The address the body came from, after redirects; for a bucket object `s3://bucket/key`."""
    status: int
    body: bytes
    media_type: str | None = None
    """Lower case, without parameters, as declared: a hint, never believed over the content."""
    charset: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fetched_at: datetime | None = None
    robots: str | None = None
    """The X-Robots-Tag headers as sent, one a line."""
    canonical_url: str | None = None
    """The absolute address that its Link headers name as the canonical one."""


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a document's structure, in reading order. Tables and lists are Markdown; code is verbatim."""

    kind: BlockKind
    text: str
    level: int = 0
    """1–6 for headings, else 0."""
    page: int | None = None
    """1-based page of a paged document."""
    language: str = ""
    """What code is written in, as its author names it in lower case; empty where that is unknown."""


@dataclass(frozen=True, slots=True)
class Document:
    """A page or file as structured text, free of NUL and lone surrogates."""

    title: str
    blocks: tuple[Block, ...]
    media_type: str
    language: str | None = None
    """BCP 47 as declared by the document, lower case, or None."""
    pages: int | None = None
    published_on: date | None = None
    """The day that the document gives itself; of a file, that on which it was made."""
    modified_on: date | None = None
    links: tuple[str, ...] = ()
    """Absolute http(s) addresses the document links to, without fragments, in order, once each."""
    canonical_url: str | None = None
    directives: tuple[str, ...] = ()
    """What the page asks of robots (`noindex`, `nofollow`, `none` …), lower case."""
    contact: tuple[Block, ...] = ()
    """What a web page's footer says of how to reach its owner: no part of the page's own text, see `with_contact`."""
    warnings: tuple[str, ...] = ()
    """What was repaired or dropped, one sentence each, for the receipt."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document, the unit that is embedded, found and cited."""

    ordinal: int
    """0-based position in its document."""
    text: str
    heading: str = ""
    """The heading path, outermost first, joined by ` › `."""
    page: int | None = None
    """1-based page on which the passage begins."""
    embedded_text: str = field(default="", repr=False)
    """Title, heading path and text: what the embedding model reads."""
    tokens: int = 0
    """Size of `embedded_text` by the counter that `chunk()` was given."""
    repeat: int = 0
    """How many chunks before it in its document have the same `embedded_text`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of one URL or file of a source: text in chunks, or the error that says why not."""

    url: str
    """The ledger's key: the address as met, or `s3://bucket/key`, or `source:<id>` for texts and Q&A pairs."""
    cited_url: str | None = None
    """The address a visitor is given, or None where there is none."""
    fetched: Fetched | None = None
    document: Document | None = None
    chunks: tuple[Chunk, ...] = ()
    error: ServiceError | None = None
    skipped: str | None = None
    """Why a crawl did not read it, where that is no error."""
    unchanged: bool = False
    """Whether it is as the live generation has it: nothing was extracted, and its rows are copied from there."""
    position: int | None = None
    """Its place in the order of a crawl."""
    depth: int | None = None
    links: tuple[str, ...] | None = None
    """What a crawled page links to within the crawl."""
    chunks_in_all: int | None = None
    """The document's chunks, where `chunks` are only the first of them."""

    @property
    def outcome(self) -> str:
        """`indexed`, `unchanged`, the error's code, or why it was skipped."""
        return self.error.code if self.error else self.skipped or ("unchanged" if self.unchanged else "indexed")
