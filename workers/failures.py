"""Tells the ledger what was met by runs that have failed for good, and built nothing that it could stand in."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from chat_api.core.errors import ServiceError
from workers.dashboard import SourceToTrain
from workers.documents import Reading
from workers.fetch.urls import MAX_URL
from workers.stages import Stages
from workers.store.failed import Failure, write_failures
from workers.store.generation import remember_bot
from workers.tasks.life import Task
from workers.tasks.retries import retry_in


class Failed(NamedTuple):
    """A run's task, source and error, the version that was read, and what was met as far as anything was."""

    task: Task
    found: SourceToTrain
    error: ServiceError
    version: str
    met: Reading | None = None


def note_failures(failed: Sequence[Failed], stages: Stages) -> None:
    """Writes the ledger of those that are not tried again; their runs' end is the caller's."""
    final = [(one, _met(one, stages)) for one in failed if retry_in(one.task, one.error) is None]
    failures = [Failure(one.task, one.version, met) for one, met in final if met.url]
    if not failures:
        return
    bots = {one.found.bot.id: one.found.bot for one, _ in final}
    with stages.chat.begin() as connection:
        for bot_id in sorted(bots):
            remember_bot(connection, bots[bot_id])
        write_failures(connection, failures, stages.space)


def _met(failed: Failed, stages: Stages) -> Reading:
    met = failed.met or Reading(_told(stages.reader.address(failed.found)))
    return replace(met, document=None, chunks=(), unchanged=False, skipped=None, error=failed.error)


def _told(address: str) -> str:
    """An address that nothing was read of, as far as it can be a key of the ledger."""
    return address.encode()[:MAX_URL].decode(errors="ignore")
