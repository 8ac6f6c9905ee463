"""Embedding what is stored anew, in the space that its bot is to read next."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy import Connection, Engine, Row, text

from chat_api.core.database import DATABASE_DOWN
from chat_api.core.errors import EmbeddingMisconfigured, EmbeddingRejected, QuotaExceeded, ServiceError
from chat_api.core.keys import OF_GENERATION, OF_SOURCE
from chat_api.core.storable import storable
from workers.chunk import embedded_text
from workers.receipt import Receipt
from workers.spaces import READABLE, BotKey, built_beside, switch_if_whole
from workers.stages import Stages, Vectors
from workers.store.beside import put_vectors, stage_vectors
from workers.store.known import known_vectors
from workers.store.rows import Build
from workers.store.usage import add_usage
from workers.tasks.lease import Progress
from workers.tasks.life import HandBackError, LeaseLostError, Task, assert_held, conclude, hold

BATCH_CHUNKS = 512
log = structlog.get_logger(__name__)

# The live one first: it is what the bot waits for.
GENERATIONS = text(f"""
    SELECT generation, state FROM generations WHERE {OF_SOURCE} AND {READABLE}
    ORDER BY state = 'live' DESC, generation DESC
""")  # noqa: S608  # the parts are our own
MISSING = text(f"""
    SELECT chunk_id, title, heading, text, tokens, embedded_sha256
    FROM chunks JOIN documents USING (org_id, bot_id, source_id, generation, document_id)
    WHERE {OF_GENERATION} AND chunk_id > :after
      AND NOT EXISTS (SELECT FROM embeddings AS vector
                      WHERE vector.org_id = :org_id AND vector.bot_id = :bot_id AND vector.source_id = :source_id
                        AND vector.generation = :generation AND vector.space_id = :space_id
                        AND vector.chunk_id = chunks.chunk_id)
    ORDER BY chunk_id LIMIT :limit
""")  # noqa: S608
GIVE_UP = text(f"""
    UPDATE generations SET state = 'discarded'
    WHERE {OF_GENERATION} AND state IN ('kept', 'parked')
""")  # noqa: S608


def embed_again(task: Task, stages: Stages, progress: Progress, check: Callable[[], None]) -> None:
    """Gives the source's chunks vectors in the space its bot is to read next, and switches the bot when it was the last.

    What is there already stays, so that a task that was handed back goes on where it was. A text that the model refuses
    holds the bot where it is, unless it is of an older generation alone, which is then given up. Raises LeaseLostError,
    the errors that pass, and what `check` raises.
    """
    bot = BotKey(task.org_id, task.bot_id)
    with stages.chat.begin() as connection:
        assert_held(connection, task)
        beside = built_beside(connection, bot)
        generations = connection.execute(GENERATIONS, _source(task)).all()
    failure = None
    if beside:
        builds = ((Build(task, row.generation, *beside), row.state) for row in generations)
        failures = (_embed_generation(build, state, stages, progress, check) for build, state in builds)
        failure = next(filter(None, failures), None)
    with stages.chat.begin() as connection:
        assert_held(connection, task)
        conclude(connection, task, failure)
    with suppress(*DATABASE_DOWN), stages.chat.begin() as connection:  # the sweeper looks after it again
        switch_if_whole(connection, bot)


def _embed_generation(
    build: Build, state: str, stages: Stages, progress: Progress, check: Callable[[], None]
) -> dict[str, Any] | None:
    """Embeds what of a generation has no vector in the space yet; what holds it up, as the task's result says it."""
    after = UUID(int=0)
    try:
        while True:
            check()
            with stages.chat.connect() as connection:
                rows = _missing(connection, build, after)
                known = known_vectors(connection, *build.key[:2], build.space_id, [row.embedded_sha256 for row in rows])
            if not rows:
                return None
            if not _embed_rows(build, rows, known, stages, progress, check):
                return None
            after = rows[-1].chunk_id
    except (EmbeddingRejected, QuotaExceeded) as error:
        refused = not isinstance(error, EmbeddingMisconfigured | QuotaExceeded)
        log.warning("not_embedded_again", code=error.code, message=error.message, generation=build.generation)
        if refused and state != "live":
            _give_up(build, stages.chat)
            return None
        told = {"code": error.code, "message": storable(error.message)}
        return {"error": told, "generation": build.generation, "state": state}


def _missing(connection: Connection, build: Build, after: UUID) -> Sequence[Row[Any]]:
    """The next chunks of the generation, by id, that have no vector in the build's space."""
    values = {**_source(build.task), "generation": build.generation, "space_id": build.space_id}
    return connection.execute(MISSING, {**values, "after": after, "limit": BATCH_CHUNKS}).all()


def _embed_rows(
    build: Build,
    rows: Sequence[Row[Any]],
    known: dict[bytes, Vectors],
    stages: Stages,
    progress: Progress,
    check: Callable[[], None],
) -> bool:
    """Writes the chunks' vectors, known or embedded once for each text, as far as they come; `_keep`'s answer."""
    new = {row.embedded_sha256: row for row in rows if row.embedded_sha256 not in known}
    shas, come = list(new), dict(known)

    def received(batch: range, vectors: Vectors) -> None:
        come.update(zip(shas[batch.start : batch.stop], vectors, strict=True))

    texts = [embedded_text(row.title, row.heading, row.text, sha256) for sha256, row in new.items()]
    try:
        with progress.at("embed"):
            stages.embed(build.space, texts, check, on_batch=received)
    except (ServiceError, HandBackError, LeaseLostError):
        _keep(build, rows, new, come, stages)
        raise
    return _keep(build, rows, new, come, stages)


def _keep(
    build: Build, rows: Sequence[Row[Any]], new: Mapping[bytes, Row[Any]], come: Mapping[bytes, Vectors], stages: Stages
) -> bool:
    """Writes those of the rows whose vectors have come, under the task's fence, and on the account what they took.

    False when the generation is no longer to be read. Raises LeaseLostError, after the account was written.
    """
    there = [row for row in rows if row.embedded_sha256 in come]
    if not there:
        return True
    paid = [row for sha256, row in new.items() if sha256 in come]
    tokens, receipt = sum(row.tokens for row in paid), Receipt()
    cost = stages.cost(build.space, tokens)
    receipt.embedded(chunks=len(paid), reused=len(there) - len(paid), tokens=tokens, cost_microusd=cost)
    vectors = np.array([come[row.embedded_sha256] for row in there], np.float32)
    with stages.chat.begin() as connection:
        stage_vectors(connection, build, [row.chunk_id for row in there], vectors)
        held = bool(hold(connection, [build.task]))
        add_usage(connection, [(build, receipt)])
        written = held and put_vectors(connection, build)
    if not held:
        raise LeaseLostError
    return written


def _give_up(build: Build, chat: Engine) -> None:
    with chat.begin() as connection:
        assert_held(connection, build.task)
        connection.execute(GIVE_UP, {**_source(build.task), "generation": build.generation})


def _source(task: Task) -> dict[str, Any]:
    return {"org_id": task.org_id, "bot_id": task.bot_id, "source_id": task.source_id}
