"""The one transaction that makes generations live and ends their runs; and a generation that has to wait for its owner."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from chat_api.core.errors import EmbeddingUnavailable, ServiceError, SourceDeleted
from workers.receipt import Receipt
from workers.store.generation import SPACE_CHANGED, alive_sources
from workers.store.rows import Build, keys_of
from workers.tasks.life import LeaseLostError, Task, assert_held, hold, settle

# The receipts are one document: in an array of texts the driver would escape each of their quotes.
GIVEN = """
    given AS (
        SELECT task_id, job_id, org_id, bot_id, source_id, generation, space_id,
               CAST(:receipts AS jsonb) -> CAST(place - 1 AS int) AS receipt
        FROM unnest(CAST(:task_ids AS bigint[]), CAST(:job_ids AS uuid[]), CAST(:org_ids AS uuid[]),
                    CAST(:bot_ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:generations AS int[]),
                    CAST(:space_ids AS int[])) WITH ORDINALITY
             AS given (task_id, job_id, org_id, bot_id, source_id, generation, space_id, place)
    )
"""
READY = text(f"""
    WITH {GIVEN}
    SELECT task_id, bots.space_id IS NULL AS first FROM given
    JOIN generations AS build USING (org_id, bot_id, source_id, generation)
    JOIN bots USING (org_id, bot_id)
    WHERE build.state = 'building' AND coalesce(bots.space_id, given.space_id) = given.space_id
""")  # noqa: S608  # the part is this module's own
END_RUNS = text(f"""
    WITH {GIVEN}, over AS (
        DELETE FROM training_tasks WHERE job_id IN (SELECT job_id FROM given)
    )
    UPDATE training_jobs AS job
    SET status = 'succeeded', finished_at = now(), stage = 'store', receipt = given.receipt, error_code = NULL,
        error_message = NULL, error_retryable = NULL, progress_unit = CASE WHEN progress_total IS NULL THEN 'chunks'
                                                                           ELSE progress_unit END,
        progress_total = coalesce(progress_total, CAST(given.receipt #>> '{{chunks,total}}' AS int)),
        progress_done = coalesce(progress_total, CAST(given.receipt #>> '{{chunks,total}}' AS int)),
        status_version = nextval('status_versions')
    FROM given WHERE job.job_id = given.job_id AND job.status = 'running'
""")  # noqa: S608
# What is not live after it is the one before, which is kept, or given up: older ones, parked ones, earlier attempts.
MAKE_LIVE = text(f"""
    WITH {GIVEN}, turned AS (
        UPDATE generations AS other
        SET state = CASE WHEN other.generation = given.generation THEN 'live'
                         WHEN state = 'live' THEN 'kept' ELSE 'discarded' END,
            switched_at = CASE WHEN other.generation = given.generation THEN now() ELSE switched_at END,
            receipt = CASE WHEN other.generation = given.generation THEN given.receipt ELSE other.receipt END
        FROM given
        WHERE other.org_id = given.org_id AND other.bot_id = given.bot_id AND other.source_id = given.source_id
          AND state <> 'discarded'
    )
    UPDATE sources SET live_generation = given.generation FROM given
    WHERE sources.org_id = given.org_id AND sources.bot_id = given.bot_id AND sources.source_id = given.source_id
""")  # noqa: S608
# All the bots are held in one order, also those that read a space already, as READ_SPACES holds them: whoever held some
# of them here and the others there would wait for one who does the same the other way about.
FIRST_SPACE = text("""
    UPDATE bots SET space_id = held.space_id
    FROM (
        SELECT org_id, bot_id, given.space_id
        FROM bots JOIN (SELECT DISTINCT * FROM unnest(CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[]),
                                                      CAST(:space_ids AS int[])))
                       AS given (org_id, bot_id, space_id) USING (org_id, bot_id)
        ORDER BY bot_id FOR NO KEY UPDATE OF bots
    ) AS held
    WHERE bots.org_id = held.org_id AND bots.bot_id = held.bot_id AND bots.space_id IS NULL
""")
READ_SPACES = text("""
    SELECT bots.space_id = given.space_id
    FROM bots JOIN unnest(CAST(:org_ids AS uuid[]), CAST(:bot_ids AS uuid[]), CAST(:space_ids AS int[]))
                   AS given (org_id, bot_id, space_id) USING (org_id, bot_id)
    ORDER BY bot_id FOR SHARE OF bots
""")


def switch(connection: Connection, finished: Sequence[tuple[Build, Receipt]]) -> set[int]:
    """Makes the generations live in the caller's transaction, each or not at all, and ends their runs; the task ids.

    Readers see the old one or this one, whole. Left as they are: those whose fence or source is gone, whose build was
    given up, or whose bot reads another space by now (see `why_not`). Raises EmbeddingUnavailable when a bot's space is
    changed in this very moment: then nothing has happened.
    """
    tasks = [build.task for build, _ in finished]
    alive = alive_sources(connection, tasks)
    held = hold(connection, tasks)
    finished = [one for one in finished if one[0].task.source_id in alive and one[0].task.task_id in held]
    ready = {row.task_id: row.first for row in connection.execute(READY, _values(finished))} if finished else {}
    finished = [one for one in finished if one[0].task.task_id in ready]
    if finished:
        values = _values(finished)
        connection.execute(END_RUNS, values)
        connection.execute(MAKE_LIVE, values)
        _read_spaces(connection, values, first=any(ready.values()))
    return set(ready)


def why_not(connection: Connection, task: Task) -> ServiceError:
    """Why `switch` left a task's generation as it is, or none was opened. Raises LeaseLostError when it is not held."""
    alive = alive_sources(connection, [task])
    assert_held(connection, task)
    return EmbeddingUnavailable(SPACE_CHANGED) if alive else SourceDeleted()


def _read_spaces(connection: Connection, values: dict[str, Any], *, first: bool) -> None:
    """Has the bots read the builds' spaces where they read none yet. Raises EmbeddingUnavailable when one reads another.

    `first`: whether there may be bots that read none. They get theirs before it is read: two who have both read a bot's
    row, and hold it, would each wait for the other to write it.
    """
    if first:
        connection.execute(FIRST_SPACE, values)
    if not all(connection.execute(READ_SPACES, values).scalars()):
        raise EmbeddingUnavailable(SPACE_CHANGED)


def _values(finished: Sequence[tuple[Build, Receipt]]) -> dict[str, Any]:
    return keys_of([build.task for build, _ in finished]) | {
        "job_ids": [build.task.job_id for build, _ in finished],
        "generations": [build.generation for build, _ in finished],
        "space_ids": [build.space_id for build, _ in finished],
        "receipts": f"[{','.join(receipt.as_json() for _, receipt in finished)}]",
    }


PARK = text("""
    UPDATE generations AS other
    SET state = CASE WHEN generation = :generation THEN 'parked' ELSE 'discarded' END,
        held_by = CASE WHEN generation = :generation THEN :code END,
        diff = CASE WHEN generation = :generation THEN CAST(:diff AS jsonb) END,
        receipt = CASE WHEN generation = :generation THEN CAST(:receipt AS jsonb) ELSE receipt END
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id
      AND (state = 'parked' OR state = 'building' AND generation = :generation)
""")


def park(connection: Connection, build: Build, error: ServiceError, receipt: Receipt, diff: Mapping[str, Any]) -> None:
    """Sets the generation aside, complete, for the owner to release; its run fails with `error`.

    An older parked one is given up. Raises SourceDeleted, LeaseLostError.
    """
    alive = alive_sources(connection, [build.task])
    assert_held(connection, build.task)
    if not alive:
        raise SourceDeleted
    org_id, bot_id, source_id, generation = build.key
    values = {
        **{"org_id": org_id, "bot_id": bot_id, "source_id": source_id, "generation": generation},
        **{"code": error.code, "diff": json.dumps(diff), "receipt": receipt.as_json()},
    }
    connection.execute(PARK, values)
    if settle(connection, build.task, "failed", error=error, receipt=receipt.as_json()) is None:
        raise LeaseLostError
