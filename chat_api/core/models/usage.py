"""What is used and what it costs, by day."""

from datetime import date
from uuid import UUID

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.core.models.chat import ChatBase


class UsageDay(ChatBase):
    """What one bot used of one model on one day (UTC), by purpose; `fetch` counts pages as calls."""

    __tablename__ = "usage_days"
    __table_args__ = (Index("usage_days_month", "org_id", "day"),)

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    """`embed` (training), `query` (a question's embedding), `chat`, `rewrite`, `fetch`."""
    model: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger, server_default="0")
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    completion_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cost_microusd: Mapped[int] = mapped_column(BigInteger, server_default="0")


class BudgetReservation(ChatBase):
    """Tokens set aside for a turn before its model is called; gone when the turn's usage is written.

    One whose process died stays, and counts as spent until its month is over: what the provider was paid is unknown.
    """

    __tablename__ = "budget_reservations"
    __table_args__ = (Index("budget_reservations_day", "org_id", "day"),)

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(primary_key=True)
    reservation_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date]
    tokens: Mapped[int] = mapped_column(BigInteger)
