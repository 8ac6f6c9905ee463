"""What the lexical search of a bot reads: the terms of each chunk; and an index for a passage's neighbours."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DOCUMENT = ["org_id", "bot_id", "source_id", "generation", "document_id"]


def upgrade() -> None:
    op.add_column("chunks", sa.Column("lexemes", sa.LargeBinary(), nullable=True))
    op.drop_index("chunks_document", "chunks")
    op.create_index("chunks_document", "chunks", [*DOCUMENT, "ordinal"])


def downgrade() -> None:
    op.drop_index("chunks_document", "chunks")
    op.create_index("chunks_document", "chunks", DOCUMENT)
    op.drop_column("chunks", "lexemes")
