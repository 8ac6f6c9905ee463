"""Answers whose sources are deleted while they are written."""

import asyncio

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from chat_api.chat.bot import Bot
from chat_api.chat.record import TurnRecord
from chat_api.core.database import AsyncEngines

WITHIN_S = 2.0
DELETED = text("""
    SELECT 1 FROM sources WHERE org_id = :org_id AND bot_id = :bot_id
      AND source_id = ANY (CAST(:source_ids AS uuid[])) AND deleted_at IS NOT NULL
    LIMIT 1
""")
log = structlog.get_logger(__name__)


async def is_outdated(engines: AsyncEngines, bot: Bot, record: TurnRecord) -> bool:
    """Whether a source that the answer cites was deleted since it was found; False where that can't be told soon."""
    cited = [source["source_id"] for source in record.sources if source["n"] in record.citations]
    if not cited:
        return False
    values = {"org_id": bot.org_id, "bot_id": bot.bot_id, "source_ids": cited}
    try:
        async with asyncio.timeout(WITHIN_S):
            [deleted] = await engines.trip(bot.org_id, (DELETED, values))
    except (SQLAlchemyError, TimeoutError) as error:
        log.warning("deletions_not_read", error=type(error).__name__)  # whoever asks again is told
        return False
    return bool(deleted)
