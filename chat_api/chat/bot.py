"""A bot's configuration: read from the dashboard, cached for 30 seconds, kept as a snapshot for when it is away."""

import asyncio
import json
import time
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Any, get_type_hints
from uuid import UUID

import structlog
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.core.database import AsyncEngines
from chat_api.core.errors import DatabaseUnavailable

CACHED_S = 30.0
MAX_CACHED = 10_000
DASHBOARD_WITHIN_S = 2.0
log = structlog.get_logger(__name__)

Sentence = Annotated[str, StringConstraints(max_length=4_000)]


@dataclass(frozen=True, slots=True)
class BotConfig:
    """What of `bots.config` a turn needs; `similarity_threshold` and scores are on the same scale of 0 to 1."""

    system_prompt: Annotated[str, StringConstraints(max_length=20_000)] = ""
    model: Annotated[str | None, StringConstraints(max_length=200)] = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.2
    max_tokens: Annotated[int, Field(ge=1, le=16_000)] = 800
    history_length: Annotated[int, Field(ge=0, le=50)] = 6
    retrieval_k: Annotated[int, Field(ge=1, le=50)] = 6
    similarity_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    language: Annotated[str | None, StringConstraints(max_length=35)] = None
    welcome_message: Sentence = "Hello! What would you like to know?"
    fallback_message: Sentence = "I could not find an answer to that in our pages."
    disclaimer: Sentence = ""
    sample_questions: Annotated[tuple[Sentence, ...], Field(max_length=20)] = ()


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot as a conversation sees it."""

    org_id: UUID
    bot_id: UUID
    name: str
    config: BotConfig
    allowed_origins: tuple[str, ...] = field(default=())


def parse_config(raw: object) -> tuple[BotConfig, list[str]]:
    """The configuration in `bots.config`, and the names of the values that were bad and fell back to the default."""
    given = raw if isinstance(raw, dict) else {}
    good: dict[str, Any] = {}
    bad = []
    for option in fields(BotConfig):
        if given.get(option.name) is None:
            continue
        try:
            good[option.name] = _adapters()[option.name].validate_python(given[option.name])
        except ValidationError:
            bad.append(option.name)
    return BotConfig(**good), bad


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(BotConfig, include_extras=True)
    return {option.name: TypeAdapter(hints[option.name]) for option in fields(BotConfig)}


FROM_DASHBOARD = text("""
    SELECT name, config, allowed_origins, deleted_at FROM bots WHERE id = :bot_id AND org_id = :org_id
""")
FROM_SNAPSHOT = text("""
    SELECT name, config, allowed_origins, deleted_at FROM bots WHERE bot_id = :bot_id AND org_id = :org_id
""")
KEEP_SNAPSHOT = text("""
    INSERT INTO bots AS bot (org_id, bot_id, name, config, allowed_origins, deleted_at)
    VALUES (:org_id, :bot_id, :name, CAST(:config AS jsonb), :allowed_origins, :deleted_at)
    ON CONFLICT (org_id, bot_id) DO UPDATE
    SET name = excluded.name, config = excluded.config, allowed_origins = excluded.allowed_origins,
        deleted_at = excluded.deleted_at, read_at = now()
    WHERE (bot.name, bot.config, bot.allowed_origins, bot.deleted_at)
        IS DISTINCT FROM (excluded.name, excluded.config, excluded.allowed_origins, excluded.deleted_at)
""")


class Bots:
    """The bots of this process's conversations, each at most 30 seconds old."""

    def __init__(self, engines: AsyncEngines) -> None:
        self._engines = engines
        self._cached: dict[tuple[UUID, UUID], tuple[float, Bot | None]] = {}

    async def get(self, org_id: UUID, bot_id: UUID) -> Bot | None:
        """The bot, or None when the org has no such bot (any more).

        Raises DatabaseUnavailable when the dashboard is away and the bot unheard of, SQLAlchemyError when both are away.
        """
        key = (org_id, bot_id)
        read_at, bot = self._cached.get(key, (0.0, None))
        if bot is None or time.monotonic() - read_at > CACHED_S:
            bot = await self._read(org_id, bot_id)
            if len(self._cached) >= MAX_CACHED:
                self._cached.clear()
            self._cached[key] = (time.monotonic(), bot)
        return bot

    async def _read(self, org_id: UUID, bot_id: UUID) -> Bot | None:
        values = {"org_id": org_id, "bot_id": bot_id}
        try:
            async with asyncio.timeout(DASHBOARD_WITHIN_S), self._engines.dashboard.connect() as connection:
                row = (await connection.execute(FROM_DASHBOARD, values)).one_or_none()
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("dashboard_away", error=type(error).__name__)
            async with self._engines.chat.connect() as connection:
                row = (await connection.execute(FROM_SNAPSHOT, values)).one_or_none()
            if row is None:
                # It may well exist; only nobody can say so now.
                raise DatabaseUnavailable from error
        else:
            if row is not None:
                async with self._engines.chat.begin() as connection:
                    await _keep(connection, values, row)
        if row is None or row.deleted_at is not None:
            return None
        config, bad = parse_config(row.config)
        if bad:
            log.warning("bot_config_has_bad_values", bot_id=str(bot_id), options=bad)
        return Bot(org_id, bot_id, row.name, config, tuple(row.allowed_origins or ()))


async def _keep(connection: AsyncConnection, values: dict[str, UUID], row: Row[Any]) -> None:
    given = row._asdict()
    given["config"] = json.dumps(given["config"] or {})
    given["allowed_origins"] = list(given["allowed_origins"] or [])
    await connection.execute(KEEP_SNAPSHOT, {**values, **given})
