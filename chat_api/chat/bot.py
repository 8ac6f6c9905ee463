"""A bot's configuration: read from the dashboard, cached for 30 seconds, kept as a snapshot for when it is away."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_api.chat.origins import are_origins
from chat_api.chat.waiting import within
from chat_api.core.bot_config import BotConfig, OrgLimits, parse_config, parse_limits
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import DatabaseUnavailable

CACHED_S = 30.0
MAX_CACHED = 10_000
DASHBOARD_WITHIN_S = 2.0
"""How long the dashboard is waited for before a snapshot stands in for it."""
UNHEARD_OF_WITHIN_S = 8.0
"""How much longer where there is no snapshot."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot as a conversation sees it."""

    org_id: UUID
    bot_id: UUID
    name: str
    config: BotConfig
    allowed_origins: tuple[str, ...] = field(default=())
    space: EmbeddingSpace | None = None
    """The space its passages are in; None until it was trained."""
    limits: OrgLimits = field(default=OrgLimits())
    """Its org's."""
    quantized: bool = False
    """Whether its vectors have codes, which are worth going by."""


def model_for(bot: Bot, usual: str) -> str:
    """The chat model of a bot: its own, or the `usual` one; where its org's list allows neither, the list's first."""
    allowed = bot.limits.allowed_models
    wanted = bot.config.model or usual
    if not allowed or wanted in allowed:
        return wanted
    return usual if usual in allowed else allowed[0]


FROM_DASHBOARD = text("""
    SELECT bots.name, config, allowed_origins, deleted_at, coalesce(limits, '{}') AS org_limits
    FROM bots JOIN orgs ON orgs.id = bots.org_id WHERE bots.id = :bot_id AND org_id = :org_id
""")
FROM_SNAPSHOT = text("""
    SELECT name, config, allowed_origins, deleted_at, org_limits, model, dimensions, rescored
    FROM bots LEFT JOIN embedding_spaces USING (space_id) LEFT JOIN quantized_bots USING (org_id, bot_id, space_id)
    WHERE bot_id = :bot_id AND org_id = :org_id
""")
KEEP_SNAPSHOT = text("""
    WITH kept AS (
        INSERT INTO bots AS bot (org_id, bot_id, name, config, allowed_origins, deleted_at, org_limits)
        VALUES (:org_id, :bot_id, :name, CAST(:config AS jsonb), :allowed_origins, :deleted_at,
                CAST(:org_limits AS jsonb))
        ON CONFLICT (org_id, bot_id) DO UPDATE
        SET name = excluded.name, config = excluded.config, allowed_origins = excluded.allowed_origins,
            deleted_at = excluded.deleted_at, org_limits = excluded.org_limits, read_at = now()
        WHERE (bot.name, bot.config, bot.allowed_origins, bot.deleted_at, bot.org_limits) IS DISTINCT FROM
            (excluded.name, excluded.config, excluded.allowed_origins, excluded.deleted_at, excluded.org_limits)
    )
    SELECT model, dimensions, rescored FROM bots JOIN embedding_spaces USING (space_id)
    LEFT JOIN quantized_bots USING (org_id, bot_id, space_id)
    WHERE bot_id = :bot_id AND org_id = :org_id
""")


class Bots:
    """The bots of this process's conversations, each at most 30 seconds old."""

    def __init__(self, engines: AsyncEngines) -> None:
        self._engines = engines
        self._cached: dict[tuple[UUID, UUID], tuple[float, Bot | None]] = {}
        self._reading: dict[tuple[UUID, UUID], asyncio.Task[Bot | None]] = {}

    async def get(self, org_id: UUID, bot_id: UUID) -> Bot | None:
        """The bot, or None when the org has no such bot (any more).

        Raises DatabaseUnavailable when the dashboard is away and the bot unheard of, SQLAlchemyError when both are away.
        """
        key = (org_id, bot_id)
        read_at, bot = self._cached.get(key, (0.0, None))
        if bot is None or time.monotonic() - read_at > CACHED_S:
            bot = await asyncio.shield(self._reading.get(key) or self._begin(key))
            if len(self._cached) >= MAX_CACHED:
                self._cached.clear()
            self._cached[key] = (time.monotonic(), bot)
        return bot

    def _begin(self, key: tuple[UUID, UUID]) -> asyncio.Task[Bot | None]:
        """Reads the bot for all who ask for it meanwhile: a dashboard that is slow is asked once."""

        def end(task: asyncio.Task[Bot | None]) -> None:
            _ = task.cancelled() or task.exception()  # whoever asked may have left
            if self._reading.get(key) is task:
                del self._reading[key]

        self._reading[key] = reading = asyncio.create_task(self._read(*key))
        reading.add_done_callback(end)
        return reading

    def forget(self, bot: Bot) -> None:
        """Has the bot read anew when it is next asked for."""
        self._cached.pop((bot.org_id, bot.bot_id), None)
        self._reading.pop((bot.org_id, bot.bot_id), None)

    async def _read(self, org_id: UUID, bot_id: UUID) -> Bot | None:
        values = {"org_id": org_id, "bot_id": bot_id}
        try:
            row = await self._ask_dashboard(values, DASHBOARD_WITHIN_S)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("dashboard_away", error=type(error).__name__)
            async with self._engines.tenant(org_id) as connection:
                row = (await connection.execute(FROM_SNAPSHOT, values)).one_or_none()
            if row is not None:
                return None if row.deleted_at is not None else _bot_of(values, row, row if row.model else None)
            row = await self._ask_patiently(values, error)
        if row is None:
            return None
        async with self._engines.tenant(org_id) as connection:
            reading = await _keep(connection, values, row)
        return None if row.deleted_at is not None else _bot_of(values, row, reading)

    async def _ask_dashboard(self, values: dict[str, UUID], within_s: float) -> Row[Any] | None:
        """Raises SQLAlchemyError, TimeoutError."""
        # The driver's own cancellation waits for a server that is frozen.
        return await within(within_s, self._select(values))

    async def _select(self, values: dict[str, UUID]) -> Row[Any] | None:
        async with self._engines.dashboard.connect() as connection:
            return (await connection.execute(FROM_DASHBOARD, values)).one_or_none()

    async def _ask_patiently(self, values: dict[str, UUID], error: Exception) -> Row[Any] | None:
        """Asks a dashboard that was slow once more. Raises DatabaseUnavailable: the bot may exist, nobody can say so."""
        if not isinstance(error, TimeoutError):
            raise DatabaseUnavailable from error
        try:
            return await self._ask_dashboard(values, UNHEARD_OF_WITHIN_S)
        except (SQLAlchemyError, TimeoutError) as still:
            raise DatabaseUnavailable from still


def _bot_of(key: dict[str, UUID], row: Row[Any], reading: Row[Any] | None) -> Bot:
    """The bot in a row of either database, and how its vectors are read; what can't be meant in it is logged.

    For that its default holds.
    """
    config, bad = parse_config(row.config)
    limits, bad_limits = parse_limits(row.org_limits)
    origins = _origins_of(row)
    if not are_origins(origins):
        bad.append("allowed_origins")
    if bad or bad_limits:
        log.warning("bot_config_has_bad_values", bot_id=str(key["bot_id"]), options=bad, limits=bad_limits)
    space = EmbeddingSpace(reading.model, reading.dimensions) if reading else None
    quantized = bool(reading and reading.rescored)
    return Bot(key["org_id"], key["bot_id"], row.name, config, origins, space, limits, quantized)


def _origins_of(row: Row[Any]) -> tuple[str, ...]:
    """The bot's origins; a null or a nested array, which the column's type allows, is an entry that is nobody's."""
    return tuple(origin if isinstance(origin, str) else "" for origin in row.allowed_origins or ())


async def _keep(connection: AsyncConnection, values: dict[str, UUID], row: Row[Any]) -> Row[Any] | None:
    """Keeps the snapshot; which vectors the bot reads, and how."""
    given = row._asdict()
    given["config"] = json.dumps(given["config"] or {})
    given["org_limits"] = json.dumps(given["org_limits"])
    given["allowed_origins"] = list(given["allowed_origins"] or [])
    return (await connection.execute(KEEP_SNAPSHOT, {**values, **given})).one_or_none()
