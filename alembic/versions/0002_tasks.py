"""Runs are done in tasks, which carry the leases; pages keep their links; a chunk may have vectors in two spaces."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
MOVED = (
    sa.Column("crash_count", sa.Integer(), server_default="0", nullable=False),
    sa.Column("fence", sa.BigInteger(), nullable=True),
    sa.Column("lease_holder", sa.TEXT(), nullable=True),
    sa.Column("lease_expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
    sa.Column("run_after", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
    sa.Column("rung_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
    sa.Column("cancel_requested_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
)
ADDED = {
    "bots": (sa.Column("next_space_id", sa.Integer(), nullable=True),),
    "sources": (
        sa.Column("pinned_version", sa.TEXT(), nullable=True),
        sa.Column("removal_held_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
    ),
    "generations": (
        sa.Column("reader_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crawl", postgresql.JSONB(), nullable=True),
        sa.Column("held_by", sa.TEXT(), nullable=True),
        sa.Column("diff", postgresql.JSONB(), nullable=True),
    ),
    "pages": (
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=True),
        sa.Column("links", postgresql.ARRAY(sa.TEXT()), nullable=True),
    ),
    "training_jobs": (sa.Column("source_type", sa.TEXT(), server_default="url", nullable=False),),
}


def upgrade() -> None:
    create_tables()
    op.execute(
        "UPDATE training_jobs SET status = 'cancelled', finished_at = now(), status_version = nextval('status_versions')"
        " WHERE status IN ('waiting', 'running') AND cancel_requested_at IS NOT NULL"
    )
    # What waits or runs goes on as one task, and begins anew: runs whose worker is at work meet a fence that is gone.
    op.execute(
        "UPDATE training_jobs AS job SET status = 'cancelled', finished_at = now(),"
        " status_version = nextval('status_versions') WHERE status = 'running' AND EXISTS"
        " (SELECT FROM training_jobs AS newer WHERE newer.org_id = job.org_id AND newer.source_id = job.source_id"
        " AND newer.status = 'waiting')"
    )
    op.execute(
        "UPDATE training_jobs SET status = 'waiting', status_version = nextval('status_versions') WHERE status = 'running'"
    )
    op.execute(
        "INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, priority, run_after, attempt, crash_count)"
        " SELECT job_id, org_id, bot_id, source_id, 'read', priority, run_after, attempt, crash_count FROM training_jobs"
        " WHERE status = 'waiting'"
    )
    op.drop_index("training_jobs_due", "training_jobs")
    op.drop_index("training_jobs_leases", "training_jobs")
    for column in MOVED:
        op.drop_column("training_jobs", column.name)
    for table, columns in ADDED.items():
        for added in columns:
            op.add_column(table, added.copy())
    op.create_index("training_jobs_listed", "training_jobs", ["org_id", "created_at", "job_id"])
    op.create_index("training_jobs_events", "training_jobs", ["org_id", "status_version"])
    op.create_index("training_jobs_finished", "training_jobs", ["finished_at"])
    op.create_index("sources_by_id", "sources", ["source_id"])
    op.create_index("chunks_embedded", "chunks", ["org_id", "bot_id", "embedded_sha256"])
    op.create_index("chunks_document", "chunks", ["org_id", "bot_id", "source_id", "generation", "document_id"])
    key_embeddings("source_id, generation, space_id, chunk_id")


def downgrade() -> None:
    op.execute(
        "DELETE FROM embeddings USING bots WHERE bots.org_id = embeddings.org_id AND bots.bot_id = embeddings.bot_id"
        " AND bots.space_id <> embeddings.space_id"
    )
    key_embeddings("source_id, generation, chunk_id")
    op.drop_index("chunks_document", "chunks")
    op.drop_index("chunks_embedded", "chunks")
    op.drop_index("sources_by_id", "sources")
    op.drop_index("training_jobs_finished", "training_jobs")
    op.drop_index("training_jobs_events", "training_jobs")
    op.drop_index("training_jobs_listed", "training_jobs")
    for table, columns in ADDED.items():
        for added in columns:
            op.drop_column(table, added.name)
    for column in MOVED:
        op.add_column("training_jobs", column.copy())
    op.execute("UPDATE training_jobs SET status = 'waiting' WHERE status = 'running'")
    op.create_index(
        "training_jobs_due",
        "training_jobs",
        [sa.text("priority DESC"), "created_at"],
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "training_jobs_leases",
        "training_jobs",
        ["lease_expires_at"],
        postgresql_where=sa.text("status = 'running'"),
    )
    op.drop_table("usage_days")
    op.drop_table("training_tasks")


def create_tables() -> None:
    op.create_table(
        "training_tasks",
        sa.Column("task_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.TEXT(), nullable=False),
        sa.Column("ordinal", sa.Integer(), server_default="0", nullable=False),
        sa.Column("small", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("status", sa.TEXT(), server_default="waiting", nullable=False),
        sa.Column("priority", sa.TEXT(), server_default="interactive", nullable=False),
        sa.Column("run_after", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.Column("rung_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("lease_holder", sa.TEXT(), nullable=True),
        sa.Column("lease_expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crash_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("suspect", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("at_url", sa.TEXT(), nullable=True),
        sa.Column("plan", postgresql.JSONB(), nullable=True),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('read', 'pages', 'finish', 'dry_run', 'reembed')", name=op.f("training_tasks_kind_check")
        ),
        sa.CheckConstraint("status IN ('waiting', 'running', 'done')", name=op.f("training_tasks_status_check")),
        sa.CheckConstraint("priority IN ('interactive', 'bulk')", name=op.f("training_tasks_priority_check")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["training_jobs.job_id"], name=op.f("training_tasks_training_jobs_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("training_tasks_pkey")),
    )
    op.create_index(
        "training_tasks_due",
        "training_tasks",
        [sa.text("priority DESC"), "org_id", "run_after", "task_id"],
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "training_tasks_leases",
        "training_tasks",
        ["org_id", "lease_expires_at"],
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index("training_tasks_job", "training_tasks", ["job_id", "ordinal"])
    op.create_index("training_tasks_source", "training_tasks", ["org_id", "source_id"])
    op.create_table(
        "usage_days",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("purpose", sa.TEXT(), nullable=False),
        sa.Column("model", sa.TEXT(), nullable=False),
        sa.Column("calls", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_microusd", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "day", "purpose", "model", name=op.f("usage_days_pkey")),
    )


def key_embeddings(columns: str) -> None:
    op.execute("ALTER TABLE embeddings DROP CONSTRAINT embeddings_pkey")
    op.execute(f"ALTER TABLE embeddings ADD CONSTRAINT embeddings_pkey PRIMARY KEY (org_id, bot_id, {columns})")
