"""The chat database: everything derived from the dashboard's sources.

Every key begins with org and bot. Chunks (text) and embeddings (vectors) are tables apart, partitioned by
HASH (bot_id), so that a search reads one bot's vectors in one place.
"""

from datetime import datetime
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

JOB_STATUSES = ("waiting", "running", "succeeded", "failed", "cancelled", "quarantined")
STAGES = ("fetch", "extract", "chunk", "embed", "store")
GENERATION_STATES = ("building", "live", "kept", "parked", "discarded")


def _one_of(column: str, values: tuple[str, ...]) -> str:
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
    name: Mapped[str] = mapped_column(server_default="")
    config: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    allowed_origins: Mapped[list[str]] = mapped_column(server_default="{}")
    deleted_at: Mapped[datetime | None]
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Source(ChatBase):
    """A source's pointer to the generation that answers; `deleted_at` is its tombstone."""

    __tablename__ = "sources"

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    live_generation: Mapped[int | None]
    last_generation: Mapped[int] = mapped_column(server_default="0")
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Generation(ChatBase):
    """One complete build of a source. Readers see the live one; it is replaced in one transaction."""

    __tablename__ = "generations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id"], ["sources.org_id", "sources.bot_id", "sources.source_id"]
        ),
        CheckConstraint(_one_of("state", GENERATION_STATES), name="state"),
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
    receipt: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    switched_at: Mapped[datetime | None]


def _in_generation() -> ForeignKeyConstraint:
    columns = ["org_id", "bot_id", "source_id", "generation"]
    return ForeignKeyConstraint(columns, [f"generations.{column}" for column in columns])


class Page(ChatBase):
    """The ledger: one row for every URL met by a generation, whatever came of it."""

    __tablename__ = "pages"
    __table_args__ = (_in_generation(),)

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


class DocumentRow(ChatBase):
    """A page or file that gave text."""

    __tablename__ = "documents"
    __table_args__ = (_in_generation(),)

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
    text_sha256: Mapped[bytes]


class ChunkRow(ChatBase):
    """A passage's text. `embedded_sha256` is its identity to the embedding model: space and text as embedded."""

    __tablename__ = "chunks"
    __table_args__ = (_in_generation(), {"postgresql_partition_by": "HASH (bot_id)"})

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


class Embedding(ChatBase):
    """A chunk's unit vector in its space: stored PLAIN, so that a scan never detoasts."""

    __tablename__ = "embeddings"
    __table_args__ = (_in_generation(), {"postgresql_partition_by": "HASH (bot_id)"})

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    chunk_id: Mapped[UUID] = mapped_column(primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("embedding_spaces.space_id"))
    vector: Mapped[Any] = mapped_column(HALFVEC())


class TrainingJob(ChatBase):
    """A run: the truth that a bell in Redis only points at.

    A claim sets lease and fence; every later write of that run names the fence. `status_version` grows with every
    change the owner can see, and `projected_version` follows when the dashboard's row has been told.
    """

    __tablename__ = "training_jobs"
    __table_args__ = (
        CheckConstraint(_one_of("status", JOB_STATUSES), name="status"),
        CheckConstraint(_one_of("stage", STAGES), name="stage"),
        CheckConstraint(_one_of("priority", ("interactive", "bulk")), name="priority"),
        Index(
            "training_jobs_one_waiting", "org_id", "source_id", unique=True, postgresql_where=text("status = 'waiting'")
        ),
        Index(
            "training_jobs_one_running", "org_id", "source_id", unique=True, postgresql_where=text("status = 'running'")
        ),
        Index("training_jobs_due", text("priority DESC"), "created_at", postgresql_where=text("status = 'waiting'")),
        Index("training_jobs_leases", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("training_jobs_unprojected", "job_id", postgresql_where=text("projected_version < status_version")),
        Index("training_jobs_source", "org_id", "bot_id", "source_id", "created_at"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID]
    bot_id: Mapped[UUID]
    source_id: Mapped[UUID]
    status: Mapped[str] = mapped_column(server_default="waiting")
    stage: Mapped[str | None]
    priority: Mapped[str] = mapped_column(server_default="interactive")
    force: Mapped[bool] = mapped_column(server_default=text("false"))
    source_version: Mapped[str | None]
    generation: Mapped[int | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    crash_count: Mapped[int] = mapped_column(server_default="0")
    fence: Mapped[int | None] = mapped_column(BigInteger)
    lease_holder: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    rung_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    progress_done: Mapped[int] = mapped_column(server_default="0")
    progress_total: Mapped[int | None]
    progress_unit: Mapped[str] = mapped_column(server_default="pages")
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_retryable: Mapped[bool | None]
    receipt: Mapped[dict[str, Any] | None]
    request_id: Mapped[str | None]
    status_version: Mapped[int] = mapped_column(BigInteger, server_default=status_version_sequence.next_value())
    projected_version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Lease(ChatBase):
    """A duty that one process at a time may hold until `expires_at`; `swept_at` is when it was last done."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    swept_at: Mapped[datetime | None]
