"""Questions to offer where there was no answer: the bot's own, or what its passages are headed with."""

from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.chat.bot import Bot
from chat_api.core.database import AsyncEngines

OFFERED = 3
MAX_CHARS = 120
LOOKED_AT = 2_000
"""Passages whose headings are looked at, of however many there are."""
log = structlog.get_logger(__name__)

# A heading is a path; its last part is the section's own. Questions first, the others as topics, always in one order.
HEADINGS = text("""
    WITH heading AS (
        SELECT DISTINCT btrim(regexp_replace(looked_at.heading, '^.* › ', '')) AS words
        FROM (
            SELECT chunk.heading
            FROM sources AS source
            JOIN chunks AS chunk ON chunk.org_id = source.org_id AND chunk.bot_id = source.bot_id
                AND chunk.source_id = source.source_id AND chunk.generation = source.live_generation
            WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.deleted_at IS NULL
              AND chunk.org_id = :org_id AND chunk.bot_id = :bot_id AND chunk.heading <> ''
            LIMIT :looked_at
        ) AS looked_at
    )
    SELECT words FROM heading WHERE length(words) BETWEEN 3 AND :chars
    ORDER BY words ~ '[?？؟]$' DESC, words LIMIT :offered
""")


async def sample_questions(connection: AsyncConnection, bot: Bot) -> list[str]:
    """The bot's own sample questions, or up to three from its content. Raises SQLAlchemyError."""
    if bot.config.sample_questions:
        return list(bot.config.sample_questions)
    values: dict[str, UUID | int] = {"org_id": bot.org_id, "bot_id": bot.bot_id}
    values |= {"looked_at": LOOKED_AT, "chars": MAX_CHARS, "offered": OFFERED}
    return list((await connection.execute(HEADINGS, values)).scalars())


async def samples_at_end(engines: AsyncEngines, bot: Bot) -> list[str]:
    """The same for an answer that is about to end, whatever the database says: then the bot's own."""
    try:
        async with engines.tenant(bot.org_id) as connection:
            return await sample_questions(connection, bot)
    except SQLAlchemyError as error:
        log.warning("no_sample_questions", error=type(error).__name__)
        return list(bot.config.sample_questions)
