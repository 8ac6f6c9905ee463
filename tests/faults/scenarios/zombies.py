"""R3: a worker is stopped past its lease at each of the five stages, another does its work, then it is woken."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psutil
import psycopg

from tests.faults.check import live_chunks, read_markers
from tests.faults.report import Figure, none_of
from tests.faults.signs import AT_DOOR, DOORS
from tests.faults.size import Size
from tests.faults.sources import Owner, Source
from tests.faults.world import Row, World, insist, until, world

REACH_S, WAKE_S = 40.0, 15.0
EMBEDDING_MS = 4000
STORED = """
    SELECT tableoid::regclass::text AS place, ctid::text AS row, xmin::text AS writer FROM {table}
    WHERE source_id = ANY (%s)
"""
STATES = """
    SELECT source_id, generation, state FROM generations WHERE source_id = ANY (%s) AND state <> 'discarded'
    UNION ALL SELECT source_id, live_generation, 'pointer' FROM sources WHERE source_id = ANY (%s)
"""
TABLES = ("pages", "documents", "chunks", "embeddings")
Release = Callable[[], None]
Written = set[tuple[object, ...]]


@dataclass(slots=True)
class Stopped:
    """A worker that stands still in the middle of a stage, with the source in its hands."""

    stage: str
    source: Source
    family: list[psutil.Process]
    release: Release


def run(size: Size, broken: str = "") -> list[Figure]:
    """The figures of five stopped workers."""
    size = replace(size, workers=len(STAGES) + 1)
    with world(size, broken=broken) as made, contextlib.ExitStack() as locks:
        owner = Owner(made)
        stopped = [one for stage in STAGES if (one := _stop_at(made, owner, stage, locks))]
        began = time.monotonic()
        overtaken = until(lambda: _all_over(made, owner), 2 * size.lease_s + 90)
        time.sleep(max(0.0, began + size.lease_s + 1 - time.monotonic()))  # a lease counts from before the stop
        asleep_s = time.monotonic() - began
        before = _written(made, owner)
        for one in stopped:
            one.release()
            for process in one.family:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
        time.sleep(WAKE_S)
        zombies = _written(made, owner) - before
        chunks = live_chunks(made.described["chat_db_dsn"])
        wrong = [one for one in owner.sources if not read_markers(chunks.get(one.source_id, ()), one)]
    names = [one.stage for one in stopped]
    return [
        Figure("R3", "stages at which a worker was stopped", ", ".join(names), "all five", names == list(STAGES)),
        Figure("R3", "their sources done by others meanwhile", str(bool(overtaken)), "True", bool(overtaken)),
        Figure("R3", "  least seconds asleep", round(asleep_s, 1), f"> {size.lease_s:g} s", asleep_s > size.lease_s),
        none_of("R3", "rows written by those that woke", len(zombies)),
        none_of("R3", "sources that say not what they must", wrong),
    ]


def _stop_at(made: World, owner: Owner, stage: str, locks: contextlib.ExitStack) -> Stopped | None:
    """Queue a source and stop the worker that takes it, in the middle of the stage; None when it was not reached."""
    number = list(STAGES).index(stage)
    note = AT_DOOR.format(stage=stage, name=stage) if stage in {"extract", "chunk"} else ""
    source = owner.create("url" if stage == "fetch" else "text", number, note)
    reached, release = STAGES[stage](made, source, locks)
    owner.queue([source])
    if not until(reached, REACH_S):
        release()
        return None
    rows = made.chat(
        "SELECT lease_holder FROM training_tasks WHERE source_id = %s AND status = 'running'", source.source_id
    )
    family = _family_of(made, rows)
    for process in family:
        process.send_signal(signal.SIGSTOP)
    if stage in {"embed", "store"}:
        release()  # others must get on
    return Stopped(stage, source, family, release) if family else None


def _family_of(made: World, rows: list[Row]) -> list[psutil.Process]:
    holders = {part for row in rows for part in str(row["lease_holder"]).split(":")}
    for name in made.workers:
        family = made.family(name)
        if holders & {str(process.pid) for process in family}:
            return family
    return []


# --- how each stage is held up ----------------------------------------------------------------------------------------


def _at_fetch(made: World, source: Source, _locks: contextlib.ExitStack) -> tuple[Callable[[], object], Release]:
    assert source.host
    door = source.host.door(f"/{source.source_id}.html")
    return door.reached.is_set, door.opened.set


def _at_door(name: str) -> Callable[[World, Source, contextlib.ExitStack], tuple[Callable[[], object], Release]]:
    def hold(made: World, _source: Source, _locks: contextlib.ExitStack) -> tuple[Callable[[], object], Release]:
        door = made.sites[0].door(DOORS + name)
        return door.reached.is_set, door.opened.set

    return hold


def _at_embed(made: World, _source: Source, _locks: contextlib.ExitStack) -> tuple[Callable[[], object], Release]:
    before = made.provider.counts.requests["embeddings"]
    made.provider.controls.latency_ms = EMBEDDING_MS
    return (
        lambda: made.provider.counts.requests["embeddings"] > before,
        lambda: setattr(made.provider.controls, "latency_ms", 0),
    )


def _at_store(made: World, _source: Source, locks: contextlib.ExitStack) -> tuple[Callable[[], object], Release]:
    lock = locks.enter_context(_locked(made, "LOCK TABLE chunks IN SHARE ROW EXCLUSIVE MODE"))
    return (
        lambda: made.chat("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%chunks%%'"),
        lock.rollback,
    )


@contextlib.contextmanager
def _locked(made: World, statement: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(made.described["chat_db_dsn"]) as connection:
        connection.execute(statement.encode())
        yield connection


STAGES: dict[str, Callable[[World, Source, contextlib.ExitStack], tuple[Callable[[], object], Release]]] = {
    "fetch": _at_fetch,
    "extract": _at_door("extract"),
    "chunk": _at_door("chunk"),
    "embed": _at_embed,
    "store": _at_store,
}


# --- what is written --------------------------------------------------------------------------------------------------


def _all_over(made: World, owner: Owner) -> bool:
    source_ids = [source.source_id for source in owner.sources]
    rows = insist(
        lambda: made.chat("SELECT DISTINCT source_id, status FROM training_jobs WHERE source_id = ANY (%s)", source_ids)
    )
    return len(rows) == len(source_ids) and all(row["status"] == "succeeded" for row in rows)


def _written(made: World, owner: Owner) -> Written:
    """Every row of the sources' contents, by place and writing transaction, and which generation is in which state."""
    source_ids = [source.source_id for source in owner.sources]
    found: Written = set()
    for table in TABLES:
        found |= {tuple(row.values()) for row in made.chat(STORED.format(table=table), source_ids)}
    return found | {tuple(row.values()) for row in made.chat(STATES, source_ids, source_ids)}
