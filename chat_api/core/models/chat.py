"""The chat database: everything derived from the dashboard's sources.

Every key begins with org and bot. Chunks (text) and embeddings (vectors) are tables apart, partitioned by
HASH (bot_id), so that a search reads one bot's vectors in one place.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Sequence,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PARTITIONS = 64

DAYS = "'1900-01-01' AND '9999-12-31'"
"""What a document's dates may be: neither infinity nor a year that no client can read."""
GENERATION_STATES = ("building", "live", "kept", "parked", "discarded")


def one_of(column: str, values: tuple[str, ...]) -> str:
    """The condition of a check constraint on a column of words."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class ChatBase(DeclarativeBase):
    """Base of the chat database's tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(referred_table_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's own protocol
        str: TEXT,
        bytes: LargeBinary,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        list[str]: ARRAY(TEXT),
        list[int]: ARRAY(BigInteger),
    }


fence_sequence = Sequence("fences", metadata=ChatBase.metadata)
status_version_sequence = Sequence("status_versions", metadata=ChatBase.metadata)


class EmbeddingSpaceRow(ChatBase):
    """A model and its dimensions; vectors of different spaces are never compared."""

    __tablename__ = "embedding_spaces"
    __table_args__ = (UniqueConstraint("model", "dimensions"),)

    space_id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model: Mapped[str]
    dimensions: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Bot(ChatBase):
    """A bot's last known configuration, and the embedding space it reads."""

    __tablename__ = "bots"

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    space_id: Mapped[int | None] = mapped_column(ForeignKey("embedding_spaces.space_id"))
    next_space_id: Mapped[int | None]
    """The space that is built beside, while the bot is embedded anew."""
    name: Mapped[str] = mapped_column(server_default="")
    config: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    allowed_origins: Mapped[list[str]] = mapped_column(server_default="{}")
    org_limits: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    deleted_at: Mapped[datetime | None]
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Source(ChatBase):
    """A source's pointer to the generation that answers; `deleted_at` is its tombstone.

    `pinned_version` is the dashboard's version of a source that was rolled back: nothing but an explicit queue call, or
    an edit, trains it again. `removal_held_at` is since when it is gone from the dashboard: kept by the brake, or under a
    tombstone that goes when its row comes back.
    """

    __tablename__ = "sources"
    __table_args__ = (Index("sources_by_id", "source_id"),)

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    live_generation: Mapped[int | None]
    last_generation: Mapped[int] = mapped_column(server_default="0")
    deleted_at: Mapped[datetime | None]
    pinned_version: Mapped[str | None]
    removal_held_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Generation(ChatBase):
    """One complete build of a source. Readers see the live one; it is replaced in one transaction.

    `reader_version` is the extraction and chunking it was read with; `crawl` is what a crawl's tasks share (robots,
    scope, how many pages are accepted); a parked one has the error code in `held_by` and its `diff` to the live one. A
    discarded one says there whether its failed run's pages are kept (`ledger`) or no more (`no_ledger`).
    """

    __tablename__ = "generations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id"], ["sources.org_id", "sources.bot_id", "sources.source_id"]
        ),
        CheckConstraint(one_of("state", GENERATION_STATES), name="state"),
        Index("generations_unreadable", "state", postgresql_where=text("state IN ('building', 'discarded')")),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="building")
    space_id: Mapped[int] = mapped_column(ForeignKey("embedding_spaces.space_id"))
    job_id: Mapped[UUID]
    source_version: Mapped[str]
    reader_version: Mapped[int] = mapped_column(server_default="0")
    crawl: Mapped[dict[str, Any] | None]
    held_by: Mapped[str | None]
    diff: Mapped[dict[str, Any] | None]
    receipt: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    switched_at: Mapped[datetime | None]


def in_generation(ondelete: str | None = None) -> ForeignKeyConstraint:
    """The key of the generation that a row is of."""
    columns = ["org_id", "bot_id", "source_id", "generation"]
    return ForeignKeyConstraint(columns, [f"generations.{column}" for column in columns], ondelete=ondelete)


class Page(ChatBase):
    """The ledger: one row for every URL met by a generation, whatever came of it; `waiting` until it is read.

    `position` is a crawled page's place in the order of reading, `links` what it links to within the crawl.
    """

    __tablename__ = "pages"
    __table_args__ = (in_generation(),)

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str]
    message: Mapped[str | None]
    http_status: Mapped[int | None]
    fetched_at: Mapped[datetime | None]
    content_sha256: Mapped[bytes | None]
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    document_id: Mapped[UUID | None]
    chunks: Mapped[int] = mapped_column(server_default="0")
    position: Mapped[int | None]
    depth: Mapped[int | None]
    links: Mapped[list[str] | None]


class DocumentRow(ChatBase):
    """A page or file that gave text, with the days that it names as its own."""

    __tablename__ = "documents"
    __table_args__ = (
        in_generation(),
        CheckConstraint(f"published_on BETWEEN {DAYS}", name="published_on"),
        CheckConstraint(f"modified_on BETWEEN {DAYS}", name="modified_on"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str | None]
    title: Mapped[str]
    media_type: Mapped[str]
    language: Mapped[str | None]
    pages: Mapped[int | None]
    published_on: Mapped[date | None]
    modified_on: Mapped[date | None]
    text_sha256: Mapped[bytes]


class ChunkRow(ChatBase):
    """A passage's text. `embedded_sha256` is the checksum of what the embedding model read: title, heading path, text.

    With a vector's `space_id` (model and dimensions) it is the chunk's identity to the embedding model, so that the
    same text is paid for once in each space. `lexemes` are the terms of title, heading and text, as
    chat_api/core/lexemes.py packs them; without them, or in another format, readers make them of the text.
    """

    __tablename__ = "chunks"
    __table_args__ = (
        in_generation(),
        Index("chunks_embedded", "org_id", "bot_id", "embedded_sha256"),
        Index("chunks_document", "org_id", "bot_id", "source_id", "generation", "document_id", "ordinal"),
        {"postgresql_partition_by": "HASH (bot_id)"},
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    chunk_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID]
    ordinal: Mapped[int]
    heading: Mapped[str]
    page: Mapped[int | None]
    text: Mapped[str]
    tokens: Mapped[int]
    language: Mapped[str | None]
    embedded_sha256: Mapped[bytes]
    lexemes: Mapped[bytes | None]


class Embedding(ChatBase):
    """A chunk's unit vector in a space: stored PLAIN, so that a scan never detoasts."""

    __tablename__ = "embeddings"
    __table_args__ = (in_generation(), {"postgresql_partition_by": "HASH (bot_id)"})

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("embedding_spaces.space_id"), primary_key=True)
    chunk_id: Mapped[UUID] = mapped_column(primary_key=True)
    vector: Mapped[Any] = mapped_column(HALFVEC())
