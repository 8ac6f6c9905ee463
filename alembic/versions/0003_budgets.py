"""Tokens set aside before a model is called, the org's limits in a bot's snapshot, and what an answer's citations do not say."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "bots",
        sa.Column("org_limits", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
    )
    op.add_column(
        "turns",
        sa.Column("unsupported", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
    )
    op.create_table(
        "budget_reservations",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "bot_id", "reservation_id", name=op.f("budget_reservations_pkey")),
    )
    op.create_index("budget_reservations_day", "budget_reservations", ["org_id", "day"])
    op.create_index("usage_days_month", "usage_days", ["org_id", "day"])


def downgrade() -> None:
    op.drop_index("usage_days_month", "usage_days")
    op.drop_table("budget_reservations")
    op.drop_column("turns", "unsupported")
    op.drop_column("bots", "org_limits")
