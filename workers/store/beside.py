"""Writes vectors of a further embedding space beside the chunks of a generation that is there."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from workers.spaces import READABLE
from workers.store.rows import COPY_HEADER, COPY_TRAILER, KEY_COLUMNS, Build, embedding_rows

STILL_READABLE = text(f"""
    SELECT true FROM generations
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = :generation AND {READABLE}
    FOR SHARE
""")  # noqa: S608  # the condition is a module's own
NAMES = ", ".join([*KEY_COLUMNS, "chunk_id", "space_id", "vector"])
PUT = f"INSERT INTO embeddings ({NAMES}) SELECT {NAMES} FROM staged_beside ON CONFLICT DO NOTHING"  # noqa: S608


def stage_vectors(
    connection: Connection, build: Build, chunk_ids: Sequence[UUID], vectors: NDArray[np.float32]
) -> None:
    """Sends one unit row for each chunk, once in the caller's transaction: no lock is held while the network carries them."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE staged_beside (LIKE embeddings) ON COMMIT DROP")
        with cursor.copy(f"COPY staged_beside ({NAMES}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(COPY_HEADER + embedding_rows(build, chunk_ids, vectors) + COPY_TRAILER)


def put_vectors(connection: Connection, build: Build) -> bool:
    """Puts what was staged in place, in the transaction that holds the task; False when nobody is to read it any more."""
    org_id, bot_id, source_id, generation = build.key
    values = {"org_id": org_id, "bot_id": bot_id, "source_id": source_id, "generation": generation}
    if not connection.execute(STILL_READABLE, values).scalar():
        return False
    connection.exec_driver_sql(PUT)
    return True
