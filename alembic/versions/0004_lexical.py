"""What the lexical search of a bot reads: the terms of each chunk."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chunks", sa.Column("lexemes", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("chunks", "lexemes")
