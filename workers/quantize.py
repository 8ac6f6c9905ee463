"""Gives the vectors of large bots their codes, and measures how many a search that goes by them has to compare exactly.

Nothing that trains or answers waits for this.
"""

import time
from collections import deque
from collections.abc import Sequence
from itertools import chain
from math import ceil
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy import Connection, Engine, text

from chat_api.core.database import DATABASE_DOWN, of_org
from chat_api.core.quantized import code_of, levels

LARGE = 20_000
"""Chunks above which a bot's vectors are given codes."""
EVERY_S = 60.0
"""How often all bots are looked through."""
DUTY_S = 5.0
"""How long one sweep may write codes and measure; the next one goes on."""
BATCH = 20_000
PART = 100_000
"""Chunks that neighbours are looked for among; of a larger bot as large a share of each source."""
ASKED, NEAREST = 50, 10
"""Chunks of the bot that its vectors are searched for, and how many neighbours of each are to be found."""
RECALL = 0.99
LEAST, MOST = 200, 0.05
"""Vectors that are compared at least, and the share of all above which a bot is better searched without codes."""
log = structlog.get_logger(__name__)

# How many chunks a generation has is in its receipt. A bot that is not large, and has codes, has 0 here.
BOTS = text("""
    SELECT org_id, bot_id, coalesce(chunks, 0) AS chunks FROM (
        SELECT org_id, bot_id, sum(CAST(receipt #>> '{chunks,total}' AS int)) AS chunks
        FROM sources JOIN generations AS build USING (org_id, bot_id, source_id)
        WHERE deleted_at IS NULL AND build.generation = live_generation
        GROUP BY org_id, bot_id HAVING sum(CAST(receipt #>> '{chunks,total}' AS int)) > :large
    ) AS large
    FULL JOIN (SELECT org_id, bot_id FROM quantized_generations UNION SELECT org_id, bot_id FROM quantized_bots) AS known
        USING (org_id, bot_id)
""")
OF_BOT = "org_id = :org_id AND bot_id = :bot_id"
SPACE = text(f"""
    SELECT space_id, dimensions FROM bots JOIN embedding_spaces USING (space_id) WHERE {OF_BOT} AND deleted_at IS NULL
""")  # noqa: S608  # the parts are this module's own
WANTED = f"""
    (source_id, generation) IN (SELECT source_id, live_generation FROM sources WHERE {OF_BOT} AND deleted_at IS NULL)
    AND coalesce(space_id = CAST(:space_id AS int), false)
"""  # noqa: S608
OF_MARK = f"{OF_BOT} AND source_id = :source_id AND generation = :generation AND space_id = :space_id"

BEGIN = text(f"""
    INSERT INTO quantized_generations (org_id, bot_id, source_id, generation, space_id)
    SELECT org_id, bot_id, source_id, live_generation, :space_id FROM sources
    WHERE {OF_BOT} AND deleted_at IS NULL AND live_generation IS NOT NULL ON CONFLICT DO NOTHING
""")  # noqa: S608
UNFINISHED = text(f"""
    SELECT source_id, generation FROM quantized_generations WHERE {OF_BOT} AND {WANTED} AND NOT whole
    ORDER BY source_id LIMIT 1 FOR UPDATE
""")  # noqa: S608
WRITE = text(f"""
    INSERT INTO quantized_embeddings (org_id, bot_id, source_id, generation, space_id, chunk_id, code)
    SELECT org_id, bot_id, source_id, generation, space_id, chunk_id, {code_of("vector")}
    FROM embeddings WHERE {OF_MARK} AND chunk_id > coalesce((
        SELECT chunk_id FROM quantized_embeddings WHERE {OF_MARK}
        ORDER BY chunk_id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000')
    ORDER BY chunk_id LIMIT :batch
""")  # noqa: S608
WHOLE = text(f"""
    UPDATE quantized_generations SET whole = true, changed_at = now(),
        chunks = (SELECT count(*) FROM quantized_embeddings WHERE {OF_MARK})
    WHERE {OF_MARK}
""")  # noqa: S608

# What is not read any more is no longer whole before its first code goes, and its last ones go first: a rollback may have
# it read again, and written on.
RETIRE = text(f"UPDATE quantized_generations SET whole = false WHERE {OF_BOT} AND whole AND NOT ({WANTED})")  # noqa: S608
RETIRED = text(f"""
    SELECT source_id, generation, space_id FROM quantized_generations WHERE {OF_BOT} AND NOT whole AND NOT ({WANTED})
    ORDER BY source_id, generation, space_id LIMIT 1 FOR UPDATE
""")  # noqa: S608
LET_GO = text(f"""
    DELETE FROM quantized_embeddings WHERE {OF_MARK} AND ctid = ANY (ARRAY(
        SELECT ctid FROM quantized_embeddings WHERE {OF_MARK} ORDER BY chunk_id DESC LIMIT :batch))
""")  # noqa: S608
UNMARK = text(f"DELETE FROM quantized_generations WHERE {OF_MARK}")  # noqa: S608
FORGET = text(f"DELETE FROM quantized_bots WHERE {OF_BOT}")  # noqa: S608

# What was measured holds for a day, or longer where nothing was written; not for another space, or a tenth more chunks.
MEASURED = text(f"""
    SELECT true FROM quantized_bots AS bot WHERE {OF_BOT} AND space_id = :space_id
    AND bot.chunks BETWEEN 0.9 * :chunks AND 1.1 * :chunks
    AND (measured_at > now() - interval '1 day' OR NOT EXISTS (
        SELECT FROM quantized_generations WHERE {OF_BOT} AND changed_at > bot.measured_at))
""")  # noqa: S608
PARTS = f"""
    live AS MATERIALIZED (
        SELECT source_id, generation, chunks, CAST(ceil(chunks * CAST(:share AS float8)) AS int) AS part
        FROM quantized_generations WHERE {OF_BOT} AND {WANTED} AND whole
    )
"""  # noqa: S608
OF_LIVE = f"{OF_BOT} AND source_id = live.source_id AND generation = live.generation AND space_id = :space_id"
SAMPLE = text(f"""
    WITH {PARTS}
    SELECT source_id, generation, chunk_id, (SELECT CAST(sum(part) AS float8) / sum(chunks) FROM live) AS share
    FROM live CROSS JOIN LATERAL (
        SELECT chunk_id FROM quantized_embeddings WHERE {OF_LIVE} ORDER BY chunk_id LIMIT part
    ) AS coded
    ORDER BY random() LIMIT 1
""")  # noqa: S608
# The first chunks of each source, whose ids tell nothing of them. Ties count as if what was looked for came last.
PLACES = text(f"""
    WITH {PARTS}, asked AS MATERIALIZED (
        SELECT vector, code FROM embeddings JOIN quantized_embeddings
            USING (org_id, bot_id, source_id, generation, space_id, chunk_id)
        WHERE {OF_MARK} AND chunk_id = :chunk_id
    ), nearest AS MATERIALIZED (
        SELECT live.source_id, chunk_id FROM live CROSS JOIN LATERAL (
            SELECT chunk_id, vector <#> (SELECT vector FROM asked) AS distance FROM embeddings
            WHERE {OF_LIVE} ORDER BY chunk_id LIMIT part
        ) AS embedding
        WHERE chunk_id <> :chunk_id ORDER BY distance LIMIT :nearest
    ), coded AS (
        SELECT live.source_id, chunk_id, count(*) OVER (ORDER BY distance) AS place
        FROM live CROSS JOIN LATERAL (
            SELECT chunk_id, code <~> (SELECT code FROM asked) AS distance FROM quantized_embeddings
            WHERE {OF_LIVE} ORDER BY chunk_id LIMIT part
        ) AS quantized
    )
    SELECT place FROM coded JOIN nearest USING (source_id, chunk_id)
""")  # noqa: S608
DECIDE = text("""
    INSERT INTO quantized_bots (org_id, bot_id, space_id, rescored, chunks)
    VALUES (:org_id, :bot_id, :space_id, :rescored, :chunks)
    ON CONFLICT (org_id, bot_id) DO UPDATE SET space_id = excluded.space_id, rescored = excluded.rescored,
        chunks = excluded.chunks, measured_at = now()
""")


class Quantizer:
    """Looks once a minute which bots are large, or are so no more, and goes through them a few seconds at a time.

    While a source has not all its codes, its vectors are read as in any other bot.
    """

    def __init__(self, engine: Engine, *, large: int = LARGE, batch: int = BATCH) -> None:
        """`large`: chunks above which a bot is; `batch`: codes that one transaction writes or removes."""
        self._engine, self._large, self._batch = engine, large, batch
        self._due_at = time.monotonic()
        self._left: deque[dict[str, Any]] = deque()
        """Bots that have their turn before all are looked through again."""
        self._places: dict[tuple[UUID, int], list[Sequence[int]]] = {}
        """By bot and space, what was measured so far."""

    def quantize(self) -> bool:
        """Goes on for five seconds, bot by bot; whether any is left. One whose turn fails is met again at the next look."""
        until = time.monotonic() + DUTY_S
        if not self._left and time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + EVERY_S
            with self._engine.connect() as connection:
                self._left.extend(row._asdict() for row in connection.execute(BOTS, {"large": self._large}))
            self._places.clear()
        while self._left and time.monotonic() < until:
            bot = self._left.popleft()
            try:
                if not self._tend({**bot, "batch": self._batch, "nearest": NEAREST}, until):
                    self._left.append(bot)
            except DATABASE_DOWN as error:
                log.warning("bot_not_quantized", bot_id=str(bot["bot_id"]), error=type(error).__name__)
        return bool(self._left)

    def _tend(self, bot: dict[str, Any], until: float) -> bool:
        """Whether all is done for the bot, for now."""
        with of_org(self._engine, bot["org_id"]).begin() as connection:
            space = connection.execute(SPACE, bot).mappings().one_or_none() if bot["chunks"] else None
        values = {**bot, **(space or {"space_id": None})}
        if space:
            values |= {"levels": levels(space["dimensions"]), "share": min(1.0, PART / bot["chunks"])}
        steps = (write_codes, let_go, self._measure) if space else (forget, let_go)
        for step in steps:
            going = True
            while going:
                if time.monotonic() >= until:
                    return False
                with of_org(self._engine, bot["org_id"]).begin() as connection:
                    going = step(connection, values)
        return True

    def _measure(self, connection: Connection, bot: dict[str, Any]) -> bool:
        """Searches for one more chunk, or decides; whether there is more to do."""
        places = self._places.setdefault((bot["bot_id"], bot["space_id"]), [])
        if not places and connection.execute(MEASURED, bot).scalar():
            return False
        sample = connection.execute(SAMPLE, bot).mappings().one_or_none()
        if sample and len(places) < ASKED:
            places.append(connection.execute(PLACES, {**sample, **bot}).scalars().all())
            return True
        rescored = needed([*chain.from_iterable(places)], bot["chunks"], sample["share"]) if sample else 0
        connection.execute(DECIDE, {**bot, "rescored": rescored})
        log.info("bot_quantized", bot_id=str(bot["bot_id"]), chunks=bot["chunks"], rescored=rescored)
        return False


def write_codes(connection: Connection, bot: dict[str, Any]) -> bool:
    """Writes a batch of one source's codes, in the bot's org; False when all sources have theirs."""
    connection.execute(BEGIN, bot)
    mark = connection.execute(UNFINISHED, bot).mappings().one_or_none()
    if mark is None:
        return False
    values = {**bot, **mark}
    if connection.execute(WRITE, values).rowcount < bot["batch"]:
        connection.execute(WHOLE, values)
    return True


def let_go(connection: Connection, bot: dict[str, Any]) -> bool:
    """Removes a batch of codes that are not read any more; False when there are none."""
    connection.execute(RETIRE, bot)
    mark = connection.execute(RETIRED, bot).mappings().one_or_none()
    if mark is None:
        return False
    values = {**bot, **mark}
    if connection.execute(LET_GO, values).rowcount < bot["batch"]:
        connection.execute(UNMARK, values)
    return True


def forget(connection: Connection, bot: dict[str, Any]) -> bool:
    """Has a bot that is not large searched without codes."""
    connection.execute(FORGET, bot)
    return False


def needed(places: list[int], chunks: int, share: float = 1.0) -> int:
    """How many vectors must be compared for a recall of 0.99, twice over; 0 when that is too large a share of all.

    `places` are those of neighbours by their codes, from 1 on, among such a `share` of the bot's `chunks`.
    """
    if not places:
        return 0
    count = max(LEAST, ceil(2 * np.quantile(places, RECALL) / share))
    return count if count <= MOST * chunks else 0
