"""Codes of the vectors of large bots, which of them are whole, and how many vectors a search by them compares exactly.

In tables of their own, so that readers and writers of others are hardly waited for.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BOTS, GENERATIONS, EMBEDDINGS = "quantized_bots", "quantized_generations", "quantized_embeddings"
IDS = ("org_id", "bot_id", "source_id")
SPACE = (*IDS, "generation", "space_id")
OF_ORG = "org_id = CAST(nullif(current_setting('app.org_id', true), '') AS uuid)"
WORKERS = {
    BOTS: "SELECT, INSERT, UPDATE, DELETE",
    GENERATIONS: "SELECT, INSERT, UPDATE, DELETE",
    EMBEDDINGS: "SELECT, INSERT, DELETE",
}


def ids(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Uuid(), nullable=False) for name in names]


def numbers(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def now(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False)


def within(table: str, *key: str) -> sa.ForeignKeyConstraint:
    own = GENERATIONS if table == "generations" else EMBEDDINGS
    return sa.ForeignKeyConstraint(
        key, [f"{table}.{name}" for name in key], name=op.f(f"{own}_{table}_fkey"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        BOTS,
        *ids(*IDS[:2]),
        *numbers("space_id", "rescored", "chunks"),
        now("measured_at"),
        sa.PrimaryKeyConstraint(*IDS[:2], name=op.f(f"{BOTS}_pkey")),
    )
    op.create_table(
        GENERATIONS,
        *ids(*IDS),
        *numbers("generation", "space_id"),
        sa.Column("whole", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("chunks", sa.Integer(), server_default="0", nullable=False),
        now("changed_at"),
        sa.PrimaryKeyConstraint(*SPACE, name=op.f(f"{GENERATIONS}_pkey")),
        within("generations", *SPACE[:4]),
    )
    op.create_table(
        EMBEDDINGS,
        *ids(*IDS),
        *numbers("generation", "space_id"),
        *ids("chunk_id"),
        sa.Column("code", postgresql.BIT(varying=True), nullable=False),
        sa.PrimaryKeyConstraint(*SPACE, "chunk_id", name=op.f(f"{EMBEDDINGS}_pkey")),
        within(GENERATIONS, *SPACE),
    )
    op.execute(f"ALTER TABLE {EMBEDDINGS} ALTER code SET STORAGE PLAIN")
    for table, rights in WORKERS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY owner ON {table} TO CURRENT_USER USING (true)")
        op.execute(f"CREATE POLICY tenant ON {table} TO chat_api, chat_workers USING ({OF_ORG})")
        op.execute(f"GRANT SELECT ON {table} TO chat_api")
        op.execute(f"GRANT {rights} ON {table} TO chat_workers")
    for table in (BOTS, GENERATIONS):
        op.execute(f"CREATE POLICY across_orgs ON {table} TO chat_workers USING (true)")


def downgrade() -> None:
    for table in (EMBEDDINGS, GENERATIONS, BOTS):
        op.drop_table(table)
