"""The chat database: codes of the vectors of large bots, by which they are searched; all of it can be made anew."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, func
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.core.models.chat import ChatBase, in_generation


class QuantizedBot(ChatBase):
    """What was measured of a large bot: how many vectors a search finds by their codes and compares exactly.

    As many as a recall of 0.99 needed among `chunks` in that space, and as many again; 0: it compares them all.
    """

    __tablename__ = "quantized_bots"

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    space_id: Mapped[int]
    rescored: Mapped[int]
    chunks: Mapped[int]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now())


class QuantizedGeneration(ChatBase):
    """A generation whose vectors in a space have codes: all of them where it is `whole`."""

    __tablename__ = "quantized_generations"
    __table_args__ = (in_generation(ondelete="CASCADE"),)

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    space_id: Mapped[int] = mapped_column(primary_key=True)
    whole: Mapped[bool] = mapped_column(server_default="false")
    chunks: Mapped[int] = mapped_column(server_default="0")
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class QuantizedEmbedding(ChatBase):
    """The code of a chunk's vector (chat_api/core/quantized.py), in bots of so many chunks that they are searched by them."""

    __tablename__ = "quantized_embeddings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "bot_id", "source_id", "generation", "space_id"],
            [f"quantized_generations.{name}" for name in ("org_id", "bot_id", "source_id", "generation", "space_id")],
            ondelete="CASCADE",
        ),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    space_id: Mapped[int] = mapped_column(primary_key=True)
    chunk_id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(BIT(varying=True))
