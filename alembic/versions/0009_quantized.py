"""Codes of the vectors of large bots, and how many vectors a search compares exactly that has found them by their codes."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLE = "quantized_embeddings"
GENERATION = ("org_id", "bot_id", "source_id", "generation")
OF_ORG = "org_id = CAST(nullif(current_setting('app.org_id', true), '') AS uuid)"


def upgrade() -> None:
    op.create_table(
        TABLE,
        *(sa.Column(name, sa.Uuid(), nullable=False) for name in GENERATION[:3]),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("chunk_id", sa.Uuid(), nullable=False),
        sa.Column("code", postgresql.BIT(varying=True), nullable=False),
        sa.PrimaryKeyConstraint(*GENERATION, "space_id", "chunk_id", name=op.f(f"{TABLE}_pkey")),
        sa.ForeignKeyConstraint(
            GENERATION,
            [f"generations.{name}" for name in GENERATION],
            name=op.f(f"{TABLE}_generations_fkey"),
            ondelete="CASCADE",
        ),
    )
    op.execute(f"ALTER TABLE {TABLE} ALTER code SET STORAGE PLAIN")
    op.execute(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY owner ON {TABLE} TO CURRENT_USER USING (true)")
    op.execute(f"CREATE POLICY tenant ON {TABLE} TO chat_api, chat_workers USING ({OF_ORG})")
    op.execute(f"GRANT SELECT ON {TABLE} TO chat_api")
    op.execute(f"GRANT SELECT, INSERT, DELETE ON {TABLE} TO chat_workers")
    op.add_column("sources", sa.Column("quantized_generation", sa.Integer(), nullable=True))
    op.add_column("bots", sa.Column("rescored", sa.Integer(), nullable=True))
    op.execute("GRANT SELECT (rescored), UPDATE (rescored) ON bots TO chat_workers")


def downgrade() -> None:
    op.drop_column("bots", "rescored")
    op.drop_column("sources", "quantized_generation")
    op.drop_table(TABLE)
