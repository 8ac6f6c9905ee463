"""The tables of training and chat; chunks and embeddings in 64 partitions by bot."""

import sqlalchemy as sa
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


PARTITIONS = 64


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.execute("CREATE SEQUENCE fences")
    op.execute("CREATE SEQUENCE status_versions")
    create_tables()
    op.execute("ALTER TABLE embeddings ALTER COLUMN vector SET STORAGE PLAIN")
    for table in ("chunks", "embeddings"):
        for number in range(PARTITIONS):
            op.execute(
                f"CREATE TABLE {table}_{number:02} PARTITION OF {table} "
                f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
            )


def create_tables() -> None:
    op.create_table(
        "conversations",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("visitor", sa.TEXT(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_turn_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "conversation_id", name=op.f("conversations_pkey")),
    )
    op.create_index(
        "conversations_visitor", "conversations", ["org_id", "bot_id", "visitor", "last_turn_at"], unique=False
    )
    op.create_table(
        "embedding_spaces",
        sa.Column("space_id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("model", sa.TEXT(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("space_id", name=op.f("embedding_spaces_pkey")),
        sa.UniqueConstraint("model", "dimensions", name=op.f("embedding_spaces_model_dimensions_key")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.TEXT(), nullable=False),
        sa.Column("holder", sa.TEXT(), nullable=True),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("swept_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("leases_pkey")),
    )
    op.create_table(
        "sources",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("live_generation", sa.Integer(), nullable=True),
        sa.Column("last_generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deleted_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "source_id", name=op.f("sources_pkey")),
    )
    op.create_table(
        "training_jobs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.TEXT(), server_default="waiting", nullable=False),
        sa.Column("stage", sa.TEXT(), nullable=True),
        sa.Column("priority", sa.TEXT(), server_default="interactive", nullable=False),
        sa.Column("force", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("source_version", sa.TEXT(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crash_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("lease_holder", sa.TEXT(), nullable=True),
        sa.Column("lease_expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("run_after", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("rung_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("progress_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("progress_total", sa.Integer(), nullable=True),
        sa.Column("progress_unit", sa.TEXT(), server_default="pages", nullable=False),
        sa.Column("error_code", sa.TEXT(), nullable=True),
        sa.Column("error_message", sa.TEXT(), nullable=True),
        sa.Column("error_retryable", sa.Boolean(), nullable=True),
        sa.Column("receipt", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("request_id", sa.TEXT(), nullable=True),
        sa.Column(
            "status_version", sa.BigInteger(), server_default=sa.text("nextval('status_versions')"), nullable=False
        ),
        sa.Column("projected_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("priority IN ('interactive', 'bulk')", name=op.f("training_jobs_priority_check")),
        sa.CheckConstraint(
            "stage IN ('fetch', 'extract', 'chunk', 'embed', 'store')", name=op.f("training_jobs_stage_check")
        ),
        sa.CheckConstraint(
            "status IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled', 'quarantined')",
            name=op.f("training_jobs_status_check"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("training_jobs_pkey")),
    )
    op.create_index(
        "training_jobs_due",
        "training_jobs",
        [sa.text("priority DESC"), "created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "training_jobs_leases",
        "training_jobs",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "training_jobs_one_running",
        "training_jobs",
        ["org_id", "source_id"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "training_jobs_one_waiting",
        "training_jobs",
        ["org_id", "source_id"],
        unique=True,
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "training_jobs_source", "training_jobs", ["org_id", "bot_id", "source_id", "created_at"], unique=False
    )
    op.create_index(
        "training_jobs_unprojected",
        "training_jobs",
        ["job_id"],
        unique=False,
        postgresql_where=sa.text("projected_version < status_version"),
    )
    op.create_table(
        "bots",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.TEXT(), server_default="", nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("allowed_origins", postgresql.ARRAY(sa.TEXT()), server_default="{}", nullable=False),
        sa.Column("deleted_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("read_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["embedding_spaces.space_id"], name=op.f("bots_embedding_spaces_fkey")),
        sa.PrimaryKeyConstraint("org_id", "bot_id", name=op.f("bots_pkey")),
    )
    op.create_table(
        "generations",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.TEXT(), server_default="building", nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("source_version", sa.TEXT(), nullable=False),
        sa.Column("receipt", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("switched_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('building', 'live', 'kept', 'parked', 'discarded')", name=op.f("generations_state_check")
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id"],
            ["sources.org_id", "sources.bot_id", "sources.source_id"],
            name=op.f("generations_sources_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["embedding_spaces.space_id"], name=op.f("generations_embedding_spaces_fkey")
        ),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "source_id", "generation", name=op.f("generations_pkey")),
    )
    op.create_index(
        "generations_unreadable",
        "generations",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state IN ('building', 'discarded')"),
    )
    op.create_table(
        "turns",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("ask_id", sa.TEXT(), nullable=False),
        sa.Column("page_url", sa.TEXT(), nullable=True),
        sa.Column("question", sa.TEXT(), nullable=False),
        sa.Column("answer", sa.TEXT(), nullable=False),
        sa.Column("finish_reason", sa.TEXT(), nullable=False),
        sa.Column("sources", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("citations", postgresql.ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("model", sa.TEXT(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("timings", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("error_code", sa.TEXT(), nullable=True),
        sa.Column("feedback", sa.TEXT(), nullable=True),
        sa.Column("feedback_comment", sa.TEXT(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "bot_id", "conversation_id"],
            ["conversations.org_id", "conversations.bot_id", "conversations.conversation_id"],
            name=op.f("turns_conversations_fkey"),
        ),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "message_id", name=op.f("turns_pkey")),
        sa.UniqueConstraint(
            "org_id", "bot_id", "conversation_id", "ask_id", name=op.f("turns_org_id_bot_id_conversation_id_ask_id_key")
        ),
    )
    op.create_table(
        "chunks",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("chunk_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("heading", sa.TEXT(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("text", sa.TEXT(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("language", sa.TEXT(), nullable=True),
        sa.Column("embedded_sha256", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id", "generation"],
            ["generations.org_id", "generations.bot_id", "generations.source_id", "generations.generation"],
            name=op.f("chunks_generations_fkey"),
        ),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "source_id", "generation", "chunk_id", name=op.f("chunks_pkey")),
        postgresql_partition_by="HASH (bot_id)",
    )
    op.create_table(
        "documents",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.TEXT(), nullable=True),
        sa.Column("title", sa.TEXT(), nullable=False),
        sa.Column("media_type", sa.TEXT(), nullable=False),
        sa.Column("language", sa.TEXT(), nullable=True),
        sa.Column("pages", sa.Integer(), nullable=True),
        sa.Column("text_sha256", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id", "generation"],
            ["generations.org_id", "generations.bot_id", "generations.source_id", "generations.generation"],
            name=op.f("documents_generations_fkey"),
        ),
        sa.PrimaryKeyConstraint(
            "org_id", "bot_id", "source_id", "generation", "document_id", name=op.f("documents_pkey")
        ),
    )
    op.create_table(
        "embeddings",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("chunk_id", sa.Uuid(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("vector", HALFVEC(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id", "generation"],
            ["generations.org_id", "generations.bot_id", "generations.source_id", "generations.generation"],
            name=op.f("embeddings_generations_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["embedding_spaces.space_id"], name=op.f("embeddings_embedding_spaces_fkey")
        ),
        sa.PrimaryKeyConstraint(
            "org_id", "bot_id", "source_id", "generation", "chunk_id", name=op.f("embeddings_pkey")
        ),
        postgresql_partition_by="HASH (bot_id)",
    )
    op.create_table(
        "pages",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("url", sa.TEXT(), nullable=False),
        sa.Column("outcome", sa.TEXT(), nullable=False),
        sa.Column("message", sa.TEXT(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("fetched_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("content_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("etag", sa.TEXT(), nullable=True),
        sa.Column("last_modified", sa.TEXT(), nullable=True),
        sa.Column("document_id", sa.Uuid(), nullable=True),
        sa.Column("chunks", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id", "generation"],
            ["generations.org_id", "generations.bot_id", "generations.source_id", "generations.generation"],
            name=op.f("pages_generations_fkey"),
        ),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "source_id", "generation", "url", name=op.f("pages_pkey")),
    )


def downgrade() -> None:
    for table in [
        "pages",
        "embeddings",
        "documents",
        "chunks",
        "turns",
        "generations",
        "bots",
        "training_jobs",
        "sources",
        "leases",
        "embedding_spaces",
        "conversations",
    ]:
        op.drop_table(table)
    op.execute("DROP SEQUENCE status_versions")
    op.execute("DROP SEQUENCE fences")
