"""Embedding what is stored anew, in the space that its bot is to read next; and the operator's command that begins it."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy import Connection, Engine, Row, text

from chat_api.core.database import DATABASE_DOWN, of_org
from chat_api.core.embeddings import EmbeddingSpace, make_embedder
from chat_api.core.errors import EmbeddingMisconfigured, EmbeddingRejected, QuotaExceeded, ServiceError
from chat_api.core.refusals import UnknownBot
from chat_api.core.settings import KNOWN_DIMENSIONS, LOCAL_DIMENSIONS, LOCAL_MODEL, Settings
from workers.chunk import embedded_text
from workers.learn import Stages, Vectors
from workers.receipt import Receipt
from workers.spaces import COLLECT_AT_ONCE, READABLE, BotKey, aim, built_beside, collect_stale_vectors, settle
from workers.store.beside import put_vectors, stage_vectors
from workers.store.generation import ensure_space
from workers.store.known import known_vectors
from workers.store.rows import Build
from workers.store.usage import add_usage
from workers.tasks.lease import Progress
from workers.tasks.life import HandBackError, LeaseLostError, Task, assert_held, conclude, hold, storable

BATCH_CHUNKS = 512
ASK_EVERY_S = 2.0
STILL_FOR_S = 600.0
"""How long a switch is waited for while nothing moves and nobody works."""
NAMED_FAILURES = 20
log = structlog.get_logger(__name__)

OF_SOURCE = "org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id"
# The live one first: it is what the bot waits for.
GENERATIONS = text(f"""
    SELECT generation, state FROM generations WHERE {OF_SOURCE} AND {READABLE}
    ORDER BY state = 'live' DESC, generation DESC
""")  # noqa: S608  # the parts are this module's own
MISSING = text(f"""
    SELECT chunk_id, title, heading, text, tokens, embedded_sha256
    FROM chunks JOIN documents USING (org_id, bot_id, source_id, generation, document_id)
    WHERE {OF_SOURCE} AND generation = :generation AND chunk_id > :after
      AND NOT EXISTS (SELECT FROM embeddings AS vector
                      WHERE vector.org_id = :org_id AND vector.bot_id = :bot_id AND vector.source_id = :source_id
                        AND vector.generation = :generation AND vector.space_id = :space_id
                        AND vector.chunk_id = chunks.chunk_id)
    ORDER BY chunk_id LIMIT :limit
""")  # noqa: S608
GIVE_UP = text(f"""
    UPDATE generations SET state = 'discarded'
    WHERE {OF_SOURCE} AND generation = :generation AND state IN ('kept', 'parked')
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
        settle(connection, bot)


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


# --- the command ------------------------------------------------------------------------------------------------------

BOTS = text("""
    SELECT org_id, bot_id, name, model, dimensions FROM bots JOIN embedding_spaces USING (space_id)
    WHERE deleted_at IS NULL AND (CAST(:bot_ids AS uuid[]) IS NULL OR bot_id = ANY (:bot_ids)) ORDER BY org_id, bot_id
""")
COUNT = text("""
    SELECT count(*) AS total, count(vector.chunk_id) AS done
    FROM generations AS build
    JOIN sources AS source USING (org_id, bot_id, source_id)
    JOIN chunks AS chunk ON chunk.org_id = :org_id AND chunk.bot_id = :bot_id
        AND chunk.source_id = build.source_id AND chunk.generation = build.generation
    LEFT JOIN embeddings AS vector ON vector.org_id = :org_id AND vector.bot_id = :bot_id
        AND vector.source_id = chunk.source_id AND vector.generation = chunk.generation
        AND vector.space_id = :space_id AND vector.chunk_id = chunk.chunk_id
    WHERE build.org_id = :org_id AND build.bot_id = :bot_id AND source.deleted_at IS NULL
      AND build.state IN ('live', 'kept', 'parked')
""")
AT_WORK = text("""
    SELECT EXISTS (SELECT FROM training_tasks
                   WHERE org_id = :org_id AND bot_id = :bot_id AND kind = 'reembed' AND status <> 'done')
""")
FAILED = text("""
    SELECT source_id, result #>> '{error,message}' AS message FROM training_tasks
    WHERE org_id = :org_id AND bot_id = :bot_id AND kind = 'reembed' AND status = 'done' AND result ? 'error'
    ORDER BY source_id LIMIT :limit
""")

AT_REST = text("""
    SELECT NOT EXISTS (SELECT FROM training_tasks WHERE status = 'running' AND lease_expires_at > now()
                       OR kind = 'reembed' AND status = 'waiting' AND run_after > now())
""")


def served_space(settings: Settings, model: str | None, dimensions: int | None) -> EmbeddingSpace:
    """`space_named`, after one text was embedded in it. Raises EmbeddingMisconfigured and whatever else is in the way."""
    space = space_named(settings, model, dimensions)
    make_embedder(settings, space).embed(["Is this model served?"])
    return space


def space_named(settings: Settings, model: str | None, dimensions: int | None) -> EmbeddingSpace:
    """The space that an operator asks for, by default the settings'. Raises EmbeddingMisconfigured."""
    if model is None or model == settings.space[0]:
        return EmbeddingSpace(settings.space[0], dimensions or settings.space[1])
    dimensions = dimensions or {**KNOWN_DIMENSIONS, LOCAL_MODEL: LOCAL_DIMENSIONS}.get(model)
    if dimensions is None:
        raise EmbeddingMisconfigured(f"The dimensions of {model} are not known here: add --dimensions.")
    return EmbeddingSpace(model, dimensions)


def reembed(
    chat: Engine, space: EmbeddingSpace | None, bot_ids: Sequence[UUID], say: Callable[[str], None]
) -> list[BotKey]:
    """Has bots, all unless some are named, embedded anew in `space`, or no longer (None); those it was begun for.

    Workers do it, and each bot is switched by itself when its passages are whole in the new space; until then it answers
    from the old one. Repeated, it tries again what was refused. What was built for nothing is removed. Raises UnknownBot
    when one that is named has no passages; then nothing was done.
    """
    with chat.begin() as connection:
        bots = _bots(connection, bot_ids)
        space_id = ensure_space(connection, space) if space else None
    begun = []
    for row in bots:
        bot = BotKey(row.org_id, row.bot_id)
        with chat.begin() as connection:
            changed = aim(connection, bot, space_id)
        if changed and space and space != EmbeddingSpace(row.model, row.dimensions):
            begun.append(bot)
            with of_org(chat, bot.org_id).begin() as connection:
                settle(connection, bot)
        say(f"{row.name or bot.bot_id}: {_said(row, space, changed=changed)}")
    if space is None:
        _collect(chat)
    return begun


def _bots(connection: Connection, bot_ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    bots = connection.execute(BOTS, {"bot_ids": list(bot_ids) or None}).all()
    if unknown := set(bot_ids) - {row.bot_id for row in bots}:
        raise UnknownBot(f"There is no bot with passages of this id: {', '.join(map(str, sorted(unknown)))}")
    return bots


def _said(row: Row[Any], space: EmbeddingSpace | None, *, changed: bool) -> str:
    if space is None:
        return f"stays with {row.model}." if changed else "nothing to abandon."
    if space == EmbeddingSpace(row.model, row.dimensions):
        return f"reads {row.model} already."
    return f"embedded anew, from {row.model} ({row.dimensions}) to {space.model} ({space.dimensions})."


def _collect(chat: Engine) -> None:
    removed: int | None = 0
    while removed is not None:
        with chat.begin() as connection:
            removed = collect_stale_vectors(connection, COLLECT_AT_ONCE)


def await_switch(
    chat: Engine, bots: Sequence[BotKey], say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Tells how far the bots are until each is switched, or held by a text that was refused; whether all are switched.

    Those left after ten minutes in which nothing moved though it was due, and no worker had anything in hand, are not.
    """
    waiting, held = list(bots), False
    told: dict[BotKey, str] = {}
    moved_at = time.monotonic()
    while waiting:
        for bot in list(waiting):
            with of_org(chat, bot.org_id).connect() as connection:
                words, over = _progress(connection, bot)
            if told.get(bot) != words:
                say(f"{bot.bot_id}: {words}")
                told[bot], moved_at = words, time.monotonic()
            if over is not None:
                held = held or not over
                waiting.remove(bot)
        if waiting and not _at_rest(chat):
            moved_at = time.monotonic()
        if waiting and time.monotonic() - moved_at >= STILL_FOR_S:
            say(
                f"{len(waiting)} bots are waited for no longer: no worker has a task in hand. Start `python -m workers`."
            )
            return False
        if waiting:
            sleep(ASK_EVERY_S)
    return not held


def _at_rest(chat: Engine) -> bool:
    """Whether nobody works, and nothing waits for its next try."""
    with chat.connect() as connection:
        return bool(connection.execute(AT_REST).scalar_one())


def _progress(connection: Connection, bot: BotKey) -> tuple[str, bool | None]:
    """How far a bot is, in words; and whether it is switched (True), held (False) or neither (None)."""
    beside = built_beside(connection, bot)
    if beside is None:
        return "done.", True
    failed = connection.execute(FAILED, {**bot.values, "limit": NAMED_FAILURES}).all()
    if failed and not connection.execute(AT_WORK, bot.values).scalar_one():
        return " ".join(["held:", *(f"source {row.source_id}: {row.message}" for row in failed)]), False
    counts = connection.execute(COUNT, {**bot.values, "space_id": beside[0]}).one()
    return f"{counts.done} of {counts.total} passages in {beside[1].model}", None
