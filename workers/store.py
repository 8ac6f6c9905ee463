"""Builds a generation beside the live one, and switches to it in one transaction.

Rows are locked in one order by everybody: source, job, generation, bot.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import SourceDeleted
from chat_api.core.models.dashboard import DashboardBot
from workers.documents import Reading
from workers.rows import Build, stage_readings
from workers.runs import LeaseLostError, Run, assert_held


def _ensure_space(connection: Connection, space: EmbeddingSpace) -> int:
    """The space's id, made on first use."""
    values = {"model": space.model, "dimensions": space.dimensions}
    connection.execute(
        text("INSERT INTO embedding_spaces (model, dimensions) VALUES (:model, :dimensions) ON CONFLICT DO NOTHING"),
        values,
    )
    found = text("SELECT space_id FROM embedding_spaces WHERE model = :model AND dimensions = :dimensions")
    return int(connection.execute(found, values).scalar_one())


REMEMBER_BOT = text("""
    INSERT INTO bots (org_id, bot_id, name, config, allowed_origins)
    VALUES (:org_id, :bot_id, :name, CAST(:config AS jsonb), :allowed_origins)
    ON CONFLICT (org_id, bot_id) DO NOTHING
""")


def remember_bot(connection: Connection, bot: DashboardBot) -> None:
    """Makes the bot known, with a first snapshot of its configuration."""
    values = {
        "org_id": bot.org_id,
        "bot_id": bot.id,
        "name": bot.name,
        "config": json.dumps(bot.config if isinstance(bot.config, dict) else {}),
        "allowed_origins": bot.allowed_origins or [],
    }
    connection.execute(REMEMBER_BOT, values)


NEXT_GENERATION = text("""
    UPDATE sources SET last_generation = last_generation + 1
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND deleted_at IS NULL
    RETURNING last_generation
""")
DISCARD_OLDER_BUILDS = text("""
    UPDATE generations SET state = 'discarded'
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND state = 'building'
""")
INSERT_GENERATION = text("""
    INSERT INTO generations (org_id, bot_id, source_id, generation, space_id, job_id, source_version)
    VALUES (:org_id, :bot_id, :source_id, :generation, :space_id, :job_id, :source_version)
""")
NAME_GENERATION = text("""
    UPDATE training_jobs SET generation = :generation, source_version = :source_version WHERE job_id = :job_id
""")


def open_generation(connection: Connection, run: Run, space: EmbeddingSpace, source_version: str) -> Build:
    """Begins the run's generation; an unfinished one of an earlier attempt is discarded. Raises SourceDeleted."""
    values = _source_key(run)
    generation = connection.execute(NEXT_GENERATION, values).scalar_one_or_none()
    assert_held(connection, run)
    if generation is None:
        raise SourceDeleted
    space_id = _ensure_space(connection, space)
    values |= {"generation": generation, "space_id": space_id, "job_id": run.job_id, "source_version": source_version}
    connection.execute(DISCARD_OLDER_BUILDS, values)
    connection.execute(INSERT_GENERATION, values)
    connection.execute(NAME_GENERATION, values)
    return Build(run, generation, space_id, space)


def _source_key(run: Run) -> dict[str, Any]:
    return {"org_id": run.org_id, "bot_id": run.bot_id, "source_id": run.source_id}


def write_readings(
    connection: Connection, build: Build, readings: Sequence[Reading], vectors: NDArray[np.float32]
) -> None:
    """Adds what was read to the generation, under the run's fence, in the caller's transaction.

    `vectors` has one unit row per chunk of `readings`, in their order. Raises LeaseLostError, RunCancelledError.
    """
    staged = stage_readings(connection, build, readings, vectors)
    assert_held(connection, build.run)
    for insert in staged:
        connection.exec_driver_sql(insert)


LOCK_SOURCE = text("""
    SELECT live_generation FROM sources
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND deleted_at IS NULL
    FOR UPDATE
""")
RETIRE = text("""
    UPDATE generations SET state = CASE state WHEN 'live' THEN 'kept' ELSE 'discarded' END
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND state IN ('live', 'kept')
""")
MAKE_LIVE = text("""
    UPDATE generations SET state = 'live', switched_at = now(), receipt = CAST(:receipt AS jsonb)
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = :generation
      AND state = 'building'
""")
POINT_AT_LIVE = text("""
    UPDATE sources SET live_generation = :generation
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id
""")
READ_SPACE = text("""
    UPDATE bots SET space_id = :space_id
    WHERE org_id = :org_id AND bot_id = :bot_id AND space_id IS DISTINCT FROM :space_id
""")


def switch(connection: Connection, build: Build, receipt: str) -> None:
    """Makes the generation live in the caller's transaction: readers see the old one or this one, whole.

    The previous one is kept, older ones are left to the collector. Raises SourceDeleted, LeaseLostError,
    RunCancelledError, and then nothing has changed.
    """
    values = {
        **_source_key(build.run),
        "generation": build.generation,
        "receipt": receipt,
        "space_id": build.space_id,
    }
    source = connection.execute(LOCK_SOURCE, values).one_or_none()
    assert_held(connection, build.run)
    if source is None:
        raise SourceDeleted
    connection.execute(RETIRE, values)
    if connection.execute(MAKE_LIVE, values).rowcount != 1:
        raise LeaseLostError  # somebody has given this build up, and the collector may have been at it
    connection.execute(POINT_AT_LIVE, values)
    connection.execute(READ_SPACE, values)
