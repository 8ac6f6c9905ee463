"""Frames of answers, kept so that any replica can go on with them; indexes for lists of conversations."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = ("org_id", "bot_id", "conversation_id", "ask_id")
NOW = sa.text("now()")


def key() -> tuple[sa.Column[object], ...]:
    return (
        *(sa.Column(name, sa.Uuid(), nullable=False) for name in KEY[:3]),
        sa.Column("ask_id", sa.TEXT(), nullable=False),
    )


def moment(name: str, **options: object) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "answers",
        *key(),
        sa.Column("visitor", sa.TEXT(), nullable=False),
        sa.Column("question", sa.TEXT(), nullable=False),
        sa.Column("page_url", sa.TEXT(), nullable=True),
        sa.Column("state", sa.TEXT(), server_default="streaming", nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False),
        moment("expires_at"),
        moment("followed_at", nullable=True),
        sa.Column("stop_requested", sa.Boolean(), server_default="false", nullable=False),
        moment("created_at", server_default=NOW),
        sa.PrimaryKeyConstraint(*KEY, name=op.f("answers_pkey")),
    )
    op.create_index("answers_created", "answers", ["org_id", "created_at"])
    op.create_index(
        "answers_streaming", "answers", ["org_id", "bot_id", "visitor"], postgresql_where=sa.text("state = 'streaming'")
    )
    op.create_table(
        "answer_frames",
        *key(),
        sa.Column("first_seq", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("frames", sa.TEXT(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY, "first_seq", name=op.f("answer_frames_pkey")),
        sa.ForeignKeyConstraint(
            KEY, [f"answers.{name}" for name in KEY], name=op.f("answer_frames_answers_fkey"),
            ondelete="CASCADE",
        ),
    )  # fmt: skip
    op.create_index("conversations_latest", "conversations", ["org_id", "bot_id", "last_turn_at", "conversation_id"])
    op.create_index(
        "turns_unanswered", "turns", ["org_id", "bot_id", "created_at"],
        postgresql_where=sa.text("finish_reason = 'no_answer' AND error_code IS NULL"),
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("turns_unanswered", "turns")
    op.drop_index("conversations_latest", "conversations")
    op.drop_table("answer_frames")
    op.drop_table("answers")
