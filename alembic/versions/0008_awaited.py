"""Workers may see how far the migrations are: new ones wait for those that they need."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT SELECT ON alembic_version TO chat_workers")


def downgrade() -> None:
    op.execute("REVOKE SELECT ON alembic_version FROM chat_workers")
