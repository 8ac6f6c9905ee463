"""Whose a bot or a source is: an id of another org is refused as an unknown one is, wherever it is named."""

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal, require_bot
from chat_api.core.models.dashboard import DashboardBot, TrainingSource
from chat_api.core.refusals import UnknownBot, UnknownSource

KNOWN_BOT = text("SELECT EXISTS (SELECT FROM sources WHERE org_id = :org_id AND bot_id = :bot_id)")
KNOWN_SOURCE = text("""
    SELECT bot_id, deleted_at IS NOT NULL FROM sources WHERE org_id = :org_id AND source_id = :source_id
    ORDER BY deleted_at IS NOT NULL, created_at DESC LIMIT 1
""")
"""A source that was moved to another bot is that bot's, which may be known to the dashboard alone."""


async def require_known_bot(
    chat: AsyncSession, dashboard: AsyncSession, principal: Principal, bot_id: UUID | None
) -> UUID | None:
    """The bot that a list is narrowed to: the one asked for, else the token's, else None.

    Raises UnknownBot when neither database knows it in this org, ForbiddenBot for another than the token's.
    """
    if bot_id is None:
        return principal.bot_id
    if not (await chat.execute(KNOWN_BOT, {"org_id": principal.org_id, "bot_id": bot_id})).scalar_one():
        there = select(DashboardBot.id).where(DashboardBot.id == bot_id, DashboardBot.org_id == principal.org_id)
        if (await dashboard.execute(there)).scalar_one_or_none() is None:
            raise UnknownBot
    require_bot(principal, bot_id)
    return bot_id


async def bot_of_source(chat: AsyncSession, dashboard: AsyncSession, principal: Principal, source_id: UUID) -> UUID:
    """The bot that a source belongs to. Raises UnknownSource when neither database knows it here, ForbiddenBot."""
    values = {"org_id": principal.org_id, "source_id": source_id}
    bot_id, buried = (await chat.execute(KNOWN_SOURCE, values)).one_or_none() or (None, False)
    if bot_id is None or (buried and principal.bot_id not in {None, bot_id}):
        there = select(TrainingSource.bot_id).where(
            TrainingSource.id == source_id, TrainingSource.org_id == principal.org_id
        )
        bot_id = (await dashboard.execute(there)).scalar_one_or_none() or bot_id
    if bot_id is None:
        raise UnknownSource
    require_bot(principal, bot_id)
    return bot_id
