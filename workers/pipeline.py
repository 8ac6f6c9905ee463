"""Small runs, several at once, each with its own outcome: fetch → extract → chunk → embed → store, then the switch."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from chat_api.core.errors import EmbeddingUnavailable, ServiceError
from chat_api.core.models.dashboard import source_version, version_of_row
from workers.dashboard import SourceToTrain
from workers.documents import Reading
from workers.failures import Failed, note_failures
from workers.gate.verdict import lost_error, lost_questions
from workers.quota import pages_left
from workers.reading import Fresh
from workers.runs import Run, Training, at_stage, going_on
from workers.stages import Stages
from workers.store.generation import copy_pages, open_generations, remember_bot, write_readings
from workers.store.known import live_pages
from workers.store.rows import Part
from workers.store.switch import park, switch, why_not
from workers.store.usage import add_usage
from workers.tasks.life import LeaseLostError, note_versions
from workers.vectors import Embedded, embed_readings

BATCH_CHUNKS = 512
"""Chunks that are embedded and written together."""
FETCHES_AT_ONCE = 8
LATE_S = 0.5
"""How long what is there waits for what is still being fetched."""


def train(
    group: Sequence[Training], stages: Stages, check: Callable[[], None], lost: Callable[[], frozenset[int]]
) -> dict[int, ServiceError]:
    """Builds each source's next generation beside the live one and switches to it; nothing changes before that.

    By task id, why those did not that failed; a run whose lease is `lost` is left alone. Raises what `check` raises when
    all must stop, and what a database raises that is away.
    """
    runs = [Run(training) for training in group]
    _within_quota(runs, stages)
    _find_live(going_on(runs), stages)
    for fetched in _fetched(going_on(runs), stages, check):
        for pack in packs(_read(fetched, stages, check)):
            for run in pack:
                run.lost = run.lost or run.task.task_id in lost()
            _build(pack, stages, check)
    _note_failures(runs, stages)
    return {run.task.task_id: run.error for run in runs if run.error}


# --- reading ----------------------------------------------------------------------------------------------------------


def _within_quota(runs: Sequence[Run], stages: Stages) -> None:
    """Fails the web pages beyond those that their org may still read this month; all runs are of one org."""
    pages = [run for run in runs if run.training.found.source.type == "url"]
    quota = pages_left(stages.chat, pages[0].task.org_id, pages[0].training.found.org.limits) if pages else None
    if quota:
        for run in pages[max(0, quota.left) :]:
            run.error = quota.used_up


def _find_live(runs: Sequence[Run], stages: Stages) -> None:
    """Finds what the runs' pages can be compared with: nothing where everything is to be read again, or was edited."""
    wanted = {run.task.task_id: run for run in runs if not run.task.force}
    if not wanted:
        return
    with stages.chat.begin() as connection:
        urls = [(run.task, _page_url(run.training.found)) for run in wanted.values()]
        found = live_pages(connection, urls)
    for task_id, live in found.items():
        run = wanted[task_id]
        by_address = run.training.found.source.type == "url"
        if by_address or version_of_row(live.source_version) == run.training.found.row_version:
            run.live = live


def _page_url(found: SourceToTrain) -> str | None:
    return found.source.url if found.source.type == "url" else None


def _fetched(runs: Sequence[Run], stages: Stages, check: Callable[[], None]) -> Iterator[list[Run]]:
    """The runs as they are fetched: those together that are there together, and the late ones later."""
    threads = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch")
    flying = {threads.submit(_fetch, run, stages): run for run in runs}
    try:
        while flying:
            check()
            done, _ = wait(flying, LATE_S)
            ready = {future: run for future, run in flying.items() if future in done}
            for future, run in ready.items():
                del flying[future]
                try:
                    run.fresh = future.result()
                    run.met = run.fresh.reading
                except ServiceError as error:
                    run.error = error
            _note_objects([run for run in ready.values() if run.goes_on and run.training.found.file], stages)
            yield [run for run in ready.values() if run.goes_on]
    finally:  # whoever stops does not wait for servers that are slow
        threads.shutdown(wait=False, cancel_futures=True)


def _fetch(run: Run, stages: Stages) -> Fresh:
    with run.training.progress.at("fetch"):
        return stages.reader.fetch(run.training.found, run.live)


def _note_objects(runs: Sequence[Run], stages: Stages) -> None:
    """Has an object that is overwritten from now on get a run of its own."""
    if runs:
        with stages.chat.begin() as connection:
            note_versions(connection, [(run.task, _full_version(run, run.met)) for run in runs])


def _read(runs: Sequence[Run], stages: Stages, check: Callable[[], None]) -> list[Run]:
    """Extracts what was fetched and cuts it into chunks; the runs that have something to store."""
    with at_stage(runs, "extract"):
        readings = stages.reader.extract([run.fresh for run in runs], check)
    for run, reading in zip(runs, readings, strict=True):
        check()
        with run.training.progress.at("chunk"):
            run.reading = stages.reader.chunk(reading)
        run.error = run.reading.error
        run.training.progress.total, run.training.progress.unit = len(run.reading.chunks), "chunks"
    return [run for run in runs if run.goes_on]


def packs(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs that are embedded, written and switched to together: 512 chunks at most, or one run that has more."""
    pack: list[Run] = []
    chunks = 0
    for run in runs:
        if pack and chunks + len(run.reading.chunks) > BATCH_CHUNKS:
            yield pack
            pack, chunks = [], 0
        pack.append(run)
        chunks += len(run.reading.chunks)
    if pack:
        yield pack


# --- building ---------------------------------------------------------------------------------------------------------


def _build(pack: Sequence[Run], stages: Stages, check: Callable[[], None]) -> None:
    _open(going_on(pack), stages)
    for number, batch in enumerate(_batches(going_on(pack))):
        check()
        _embed_and_write(batch, stages, check, ledger=number == 0)
    _gate(going_on(pack), stages, check)
    _switch(going_on(pack), stages)


def _open(runs: Sequence[Run], stages: Stages) -> None:
    wanted = [(run.task, _full_version(run, run.met)) for run in runs]
    bots = {run.task.bot_id: run.training.found.bot for run in runs}
    with at_stage(runs, "store"), stages.chat.begin() as connection:
        for bot_id in sorted(bots):
            remember_bot(connection, bots[bot_id])
        builds = open_generations(connection, wanted, stages.space) if wanted else {}
    for run in runs:
        if run.task.task_id in builds:
            run.build = builds[run.task.task_id]
        else:
            _leave(run, stages)


def _full_version(run: Run, met: Reading | None) -> str:
    found, fetched = run.training.found, met.fetched if met else None
    return source_version(found.row_version, fetched.etag if found.file and fetched else None)


def _batches(pack: Sequence[Run]) -> Iterator[list[tuple[Run, Reading]]]:
    """What is embedded and written together: the whole pack, or a long document's chunks, some at a time."""
    if len(pack) != 1 or len(pack[0].reading.chunks) <= BATCH_CHUNKS:
        yield [(run, run.reading) for run in pack]
        return
    chunks = pack[0].reading.chunks
    for start in range(0, len(chunks), BATCH_CHUNKS):
        some = chunks[start : start + BATCH_CHUNKS]
        yield [(pack[0], replace(pack[0].reading, chunks=some, chunks_in_all=len(chunks)))]


def _embed_and_write(
    batch: Sequence[tuple[Run, Reading]], stages: Stages, check: Callable[[], None], *, ledger: bool
) -> None:
    batch = [(run, reading) for run, reading in batch if run.goes_on]
    with at_stage([run for run, _ in batch], "embed"):
        outcomes = embed_readings(stages, [(run.build, [reading]) for run, reading in batch], check)
    written: list[tuple[Run, Reading, Embedded]] = []
    for (run, reading), outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, ServiceError):
            run.error = outcome
        else:
            if ledger:
                outcome.receipt.count(run.reading)
            written.append((run, reading, outcome))
    if written:
        _write(written, stages, ledger=ledger)


def _write(batch: Sequence[tuple[Run, Reading, Embedded]], stages: Stages, *, ledger: bool) -> None:
    copied = [(run, run.live) for run, reading, _ in batch if reading.unchanged and run.live]
    parts: list[Part] = [(run.build, [reading], embedded.vectors) for run, reading, embedded in batch]
    with at_stage([run for run, _, _ in batch], "store"), stages.chat.begin() as connection:
        held = write_readings(connection, parts, ledger=ledger)
        kept = [(run.build, live.generation, live.url) for run, live in copied if run.task.task_id in held]
        copy_pages(connection, kept, "unchanged")
        add_usage(connection, [(run.build, embedded.receipt) for run, _, embedded in batch])
    for run, live in copied:
        run.receipt.copied(live.chunks)
    for run, reading, embedded in batch:
        run.receipt.merge(embedded.receipt)
        run.lost = run.lost or run.task.task_id not in held
        run.training.progress.done += len(reading.chunks)


def _gate(runs: Sequence[Run], stages: Stages, check: Callable[[], None]) -> None:
    """Sets aside, for their owners to release, the generations that would lose test questions."""
    for run in runs:
        try:
            with run.training.progress.at("store"):
                lost = lost_questions(run.build, run.training.found.bot, run.receipt, stages, check)
            if lost:
                _park(run, lost, stages)
        except ServiceError as error:
            run.error = error
        except LeaseLostError:
            run.lost = True


def _park(run: Run, lost: Sequence[str], stages: Stages) -> None:
    run.receipt.spent(run.training.progress.seconds, time.perf_counter() - run.began)
    with stages.chat.begin() as connection:
        park(connection, run.build, lost_error(lost), run.receipt, {"lost_questions": list(lost)})
    run.parked = True


def _switch(runs: Sequence[Run], stages: Stages) -> None:
    if not runs:
        return
    for run in runs:
        run.receipt.spent(run.training.progress.seconds, time.perf_counter() - run.began)
    try:
        with stages.chat.begin() as connection:
            switched = switch(connection, [(run.build, run.receipt) for run in runs])
    except EmbeddingUnavailable as error:
        for run in runs:
            run.error = error
        return
    for run in runs:
        if run.task.task_id not in switched:
            _leave(run, stages)


def _leave(run: Run, stages: Stages) -> None:
    """Finds out why a run could not go on."""
    try:
        with stages.chat.begin() as connection:
            run.error = why_not(connection, run.task)
    except LeaseLostError:
        run.lost = True


def _note_failures(runs: Sequence[Run], stages: Stages) -> None:
    """Has the ledger say what runs have met that have failed for good."""
    note_failures(
        [
            Failed(run.task, run.training.found, run.error, _full_version(run, run.met), run.met)
            for run in runs
            if run.error and not run.lost
        ],
        stages,
    )
