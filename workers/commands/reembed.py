"""Has bots embedded anew with another model, at an operator's wish, and waits until they are switched."""

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, text

from chat_api.core.database import DATABASE_DOWN, is_held, of_org
from chat_api.core.embeddings import EmbeddingSpace, make_embedder
from chat_api.core.errors import EmbeddingMisconfigured, Held
from chat_api.core.refusals import UnknownBot
from chat_api.core.settings import KNOWN_DIMENSIONS, LOCAL_DIMENSIONS, LOCAL_MODEL, Settings
from workers.spaces import COLLECT_AT_ONCE, BotKey, aim, built_beside, collect_stale_vectors, switch_if_whole
from workers.store.generation import ensure_space

ASK_EVERY_S = 2.0
STILL_FOR_S = 600.0
"""How long a switch is waited for while nothing moves and nobody works."""
NAMED_FAILURES = 20

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
    when one that is named has no passages; then nothing was done; Held at the end when some were left out.
    """
    with chat.begin() as connection:
        bots = _bots(connection, bot_ids)
        space_id = ensure_space(connection, space) if space else None
    begun, busy = [], 0
    for row in bots:
        bot = BotKey(row.org_id, row.bot_id)
        changed = _aim(chat, bot, space_id)
        busy += changed is None
        if changed and space and space != EmbeddingSpace(row.model, row.dimensions):
            begun.append(bot)
        say(f"{row.name or bot.bot_id}: {_said(row, space, changed=changed)}")
    if space is None:
        _collect(chat)
    if busy:
        raise Held(f"{busy} bots were left out, since other work holds them: run the command again.")
    return begun


def _aim(chat: Engine, bot: BotKey, space_id: int | None) -> bool | None:
    """Whether anything was to change for the bot; then the workers have their tasks. None while others hold it."""
    try:
        with chat.begin() as connection:
            changed = aim(connection, bot, space_id)
        if changed and space_id is not None:
            with of_org(chat, bot.org_id).begin() as connection:
                switch_if_whole(connection, bot)
    except DATABASE_DOWN as error:
        if is_held(error):
            return None
        raise
    return changed


def _bots(connection: Connection, bot_ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    bots = connection.execute(BOTS, {"bot_ids": list(bot_ids) or None}).all()
    if unknown := set(bot_ids) - {row.bot_id for row in bots}:
        raise UnknownBot(f"There is no bot with passages of this id: {', '.join(map(str, sorted(unknown)))}")
    return bots


def _said(row: Row[Any], space: EmbeddingSpace | None, *, changed: bool | None) -> str:
    if changed is None:
        return "left out, since other work holds it."
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
    waiting, told = list(bots), dict.fromkeys(bots, "")
    held = False
    moved_at = time.monotonic()
    while True:
        for bot in list(waiting):
            words, over = _progress(chat, bot)
            if told[bot] != words:
                say(f"{bot.bot_id}: {words}")
                told[bot], moved_at = words, time.monotonic()
            if over is not None:
                held = held or not over
                waiting.remove(bot)
        if not waiting:
            return not held
        if not _at_rest(chat):
            moved_at = time.monotonic()
        if time.monotonic() - moved_at >= STILL_FOR_S:
            say(
                f"{len(waiting)} bots are waited for no longer: no worker has a task in hand. Start `python -m workers`."
            )
            return False
        sleep(ASK_EVERY_S)


def _at_rest(chat: Engine) -> bool:
    """Whether nobody works, and nothing waits for its next try."""
    with chat.connect() as connection:
        return bool(connection.execute(AT_REST).scalar_one())


def _progress(chat: Engine, bot: BotKey) -> tuple[str, bool | None]:
    """How far a bot is, in words; and whether it is switched (True), held (False) or neither (None)."""
    with of_org(chat, bot.org_id).connect() as connection:
        beside = built_beside(connection, bot)
        if beside is None:
            return "done.", True
        failed = connection.execute(FAILED, {**bot.values, "limit": NAMED_FAILURES}).all()
        if failed and not connection.execute(AT_WORK, bot.values).scalar_one():
            return " ".join(["held:", *(f"source {row.source_id}: {row.message}" for row in failed)]), False
        counts = connection.execute(COUNT, {**bot.values, "space_id": beside[0]}).one()
    return f"{counts.done} of {counts.total} passages in {beside[1].model}", None
