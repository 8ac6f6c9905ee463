"""When a document was published and last changed, by its own word."""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = ("published_on", "modified_on")
DAYS = "BETWEEN '1900-01-01' AND '9999-12-31'"


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("documents", sa.Column(name, sa.Date(), nullable=True))
        op.create_check_constraint(op.f(f"documents_{name}_check"), "documents", f"{name} {DAYS}")


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("documents", name)
