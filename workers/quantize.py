"""Gives the vectors of large bots their codes, and measures how many a search that goes by them has to compare exactly."""

import time
from math import ceil
from typing import Any

import numpy as np
import structlog
from sqlalchemy import Connection, Engine, text

from chat_api.core.database import DATABASE_DOWN, of_org
from chat_api.core.keys import OF_GENERATION, OF_SOURCE
from chat_api.core.quantized import code_of, levels

LARGE = 20_000
"""Chunks of a bot from which on reading all their vectors takes longer than going by codes is worth."""
EVERY_S = 60.0
DUTY_S = 5.0
"""How long one sweep may write codes and measure; the next one goes on."""
BATCH = 20_000
ASKED, ASKED_AT_LEAST, NEAREST = 50, 10, 10
"""Chunks of the bot that its vectors are searched for, and how many neighbours of each are to be found."""
RECALL = 0.99
LEAST, MOST = 200, 0.05
"""Vectors that are compared at least, and the share of all above which a bot is better searched without codes."""
log = structlog.get_logger(__name__)

OF_BOT = "org_id = :org_id AND bot_id = :bot_id"
LIVE = f"{OF_BOT} AND deleted_at IS NULL AND live_generation IS NOT NULL"
# Without their orgs' content: how many chunks a generation has is in its receipt.
BOTS = text("""
    SELECT org_id, bot_id, space_id, model, dimensions, rescored, sum(chunks) AS chunks, bool_and(quantized) AS quantized
    FROM bots JOIN embedding_spaces USING (space_id) JOIN (
        SELECT org_id, bot_id, coalesce(CAST(receipt #>> '{chunks,total}' AS int), 0) AS chunks,
               quantized_generation IS NOT DISTINCT FROM live_generation AS quantized,
               quantized_generation IS NOT NULL AS was_quantized
        FROM sources JOIN generations AS build USING (org_id, bot_id, source_id)
        WHERE sources.deleted_at IS NULL AND build.generation = live_generation
    ) AS live USING (org_id, bot_id)
    WHERE bots.deleted_at IS NULL
    GROUP BY org_id, bot_id, model, dimensions
    HAVING sum(chunks) > :large AND NOT (bool_and(quantized) AND rescored IS NOT NULL)
        OR sum(chunks) <= :large AND (rescored IS NOT NULL OR bool_or(was_quantized))
""")
# The source before the bot, as trainings hold them. A source that is being switched has its turn later.
NEXT_SOURCE = text(f"""
    SELECT source_id, live_generation AS generation FROM sources
    WHERE {LIVE} AND quantized_generation IS DISTINCT FROM live_generation
    ORDER BY source_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608  # the parts are this module's own
READING = text(f"SELECT true FROM bots WHERE {OF_BOT} AND space_id = :space_id FOR SHARE")  # noqa: S608
LET_GO = text(f"""
    DELETE FROM quantized_embeddings WHERE {OF_SOURCE} AND (generation <> :generation OR space_id <> :space_id)
""")  # noqa: S608
WRITE = text(f"""
    INSERT INTO quantized_embeddings (org_id, bot_id, source_id, generation, space_id, chunk_id, code)
    SELECT org_id, bot_id, source_id, generation, space_id, chunk_id, {code_of("vector")}
    FROM embeddings WHERE {OF_GENERATION} AND space_id = :space_id AND chunk_id > coalesce((
        SELECT chunk_id FROM quantized_embeddings WHERE {OF_GENERATION} AND space_id = :space_id
        ORDER BY chunk_id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000')
    ORDER BY chunk_id LIMIT :batch
""")  # noqa: S608
PARTLY = text(f"UPDATE sources SET quantized_generation = NULL WHERE {OF_SOURCE}")  # noqa: S608
WHOLE = text(f"UPDATE sources SET quantized_generation = :generation WHERE {OF_SOURCE}")  # noqa: S608
DECIDE = text(f"UPDATE bots SET rescored = :rescored WHERE {OF_BOT} AND space_id = :space_id")  # noqa: S608
FORGET_SOURCES = text(f"UPDATE sources SET quantized_generation = NULL WHERE {OF_BOT}")  # noqa: S608
FORGET = text(f"UPDATE bots SET rescored = NULL WHERE {OF_BOT} AND rescored IS NOT NULL")  # noqa: S608
LET_ALL_GO = text(f"DELETE FROM quantized_embeddings WHERE {OF_BOT}")  # noqa: S608

OF_LIVE = "org_id = :org_id AND bot_id = :bot_id AND source_id = live.source_id AND generation = live.generation"
LIVE_SOURCES = f"live AS MATERIALIZED (SELECT source_id, live_generation AS generation FROM sources WHERE {LIVE})"  # noqa: S608
SAMPLE = text(f"""
    WITH {LIVE_SOURCES}
    SELECT source_id, generation, chunk_id FROM live CROSS JOIN LATERAL (
        SELECT chunk_id FROM quantized_embeddings WHERE {OF_LIVE} AND space_id = :space_id
    ) AS coded
    ORDER BY random() LIMIT :asked
""")  # noqa: S608
# Ties count as if what was looked for came last.
PLACES = text(f"""
    WITH {LIVE_SOURCES}, asked AS MATERIALIZED (
        SELECT vector, code FROM embeddings JOIN quantized_embeddings
            USING (org_id, bot_id, source_id, generation, space_id, chunk_id)
        WHERE {OF_GENERATION} AND space_id = :space_id AND chunk_id = :chunk_id
    ), nearest AS MATERIALIZED (
        SELECT live.source_id, chunk_id FROM live CROSS JOIN LATERAL (
            SELECT chunk_id, vector <#> (SELECT vector FROM asked) AS distance FROM embeddings
            WHERE {OF_LIVE} AND space_id = :space_id AND chunk_id <> :chunk_id OFFSET 0
        ) AS embedding
        ORDER BY distance LIMIT :nearest
    ), coded AS (
        SELECT live.source_id, chunk_id, count(*) OVER (ORDER BY distance) AS place
        FROM live CROSS JOIN LATERAL (
            SELECT chunk_id, code <~> (SELECT code FROM asked) AS distance FROM quantized_embeddings
            WHERE {OF_LIVE} AND space_id = :space_id OFFSET 0
        ) AS quantized
    )
    SELECT place FROM coded JOIN nearest USING (source_id, chunk_id)
""")  # noqa: S608


class Quantizer:
    """Looks once a minute which bots are large, or are so no more; one that is gets codes source by source.

    While a source has none, or not all of them, its vectors are read as in any other bot.
    """

    def __init__(self, engine: Engine, *, large: int = LARGE, batch: int = BATCH) -> None:
        """`large`: chunks above which a bot is; `batch`: codes that one transaction writes."""
        self._engine, self._large, self._batch = engine, large, batch
        self._due_at = time.monotonic()

    def quantize(self) -> bool:
        """Goes on for five seconds at most, where a minute has passed; whether anything is left for the next sweep.

        A bot whose rows are held waits a minute.
        """
        if time.monotonic() < self._due_at:
            return False
        until = time.monotonic() + DUTY_S
        with self._engine.connect() as connection:
            bots = [row._asdict() for row in connection.execute(BOTS, {"large": self._large})]
        for bot in bots:
            try:
                self._tend(bot, until)
            except DATABASE_DOWN as error:
                log.warning("bot_not_quantized", bot_id=str(bot["bot_id"]), error=type(error).__name__)
            if time.monotonic() >= until:
                return True
        self._due_at = time.monotonic() + EVERY_S
        return False

    def _tend(self, bot: dict[str, Any], until: float) -> None:
        if bot["chunks"] <= self._large:
            with of_org(self._engine, bot["org_id"]).begin() as connection:
                for statement in (FORGET_SOURCES, FORGET, LET_ALL_GO):
                    connection.execute(statement, bot)
            return
        values = {**bot, "batch": self._batch, "levels": levels(bot["dimensions"])}
        going = True
        while going and time.monotonic() < until:
            with of_org(self._engine, bot["org_id"]).begin() as connection:
                going = write_codes(connection, values)
        if not going:
            with of_org(self._engine, bot["org_id"]).begin() as connection:
                self._decide(connection, bot, until)

    def _decide(self, connection: Connection, bot: dict[str, Any], until: float) -> None:
        rescored = needed(places_of_neighbours(connection, bot, until), bot["chunks"])
        connection.execute(DECIDE, {**bot, "rescored": rescored})
        log.info("bot_quantized", bot_id=str(bot["bot_id"]), chunks=bot["chunks"], rescored=rescored)


def write_codes(connection: Connection, bot: dict[str, Any]) -> bool:
    """Writes a batch of codes of one source, in the bot's org; False when no source lacks any that is free to be changed."""
    source = connection.execute(NEXT_SOURCE, bot).mappings().one_or_none()
    if source is None or not connection.execute(READING, bot).scalar():
        return False
    values = {**bot, **source}
    connection.execute(LET_GO, values)
    whole = connection.execute(WRITE, values).rowcount < bot["batch"]
    # A rollback may make the generation live whose codes have just gone.
    connection.execute(WHOLE if whole else PARTLY, values)
    if whole:
        connection.execute(FORGET, values)
    return True


def places_of_neighbours(connection: Connection, bot: dict[str, Any], until: float) -> list[int]:
    """For some chunks of the bot, the places that their nearest neighbours have by their codes, from 1 on."""
    places: list[int] = []
    sample = connection.execute(SAMPLE, {**bot, "asked": ASKED}).mappings().all()
    for number, chunk in enumerate(sample):
        if number >= ASKED_AT_LEAST and time.monotonic() >= until:
            break
        places += connection.execute(PLACES, {**bot, **chunk, "nearest": NEAREST}).scalars()
    return places


def needed(places: list[int], chunks: int) -> int:
    """How many vectors must be compared for a recall of 0.99, twice over; 0 when that is too large a share of all."""
    if not places:
        return 0
    count = max(LEAST, 2 * ceil(np.quantile(places, RECALL)))
    return count if count <= MOST * chunks else 0
