"""Runs on their way through the stages together, with what came of each so far."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from chat_api.core.errors import ServiceError
from workers.dashboard import SourceToTrain
from workers.documents import Reading
from workers.reading import Fresh
from workers.receipt import Receipt
from workers.store.known import LivePage
from workers.store.rows import Build
from workers.tasks.lease import Progress
from workers.tasks.life import Task


class Training(NamedTuple):
    """A claimed `read` task, its source as read from the dashboard, and where its progress is told."""

    task: Task
    found: SourceToTrain
    progress: Progress


@dataclass(slots=True)
class Run:
    """A training on its way, with what came of it so far."""

    training: Training
    fresh: Fresh = field(init=False)
    met: Reading | None = None
    """What its server or bucket gave."""
    reading: Reading = field(init=False)
    build: Build = field(init=False)
    live: LivePage | None = None
    error: ServiceError | None = None
    lost: bool = False
    parked: bool = False
    receipt: Receipt = field(default_factory=Receipt)
    began: float = field(default_factory=time.perf_counter)

    @property
    def task(self) -> Task:
        """The task that it was claimed with."""
        return self.training.task

    @property
    def goes_on(self) -> bool:
        """Whether there is more to do for it."""
        return self.error is None and not self.lost and not self.parked


def going_on(runs: Sequence[Run]) -> list[Run]:
    """Those for which there is more to do."""
    return [run for run in runs if run.goes_on]


@contextmanager
def at_stage(runs: Sequence[Run], stage: str) -> Iterator[None]:
    """Within it all the runs are at `stage`, and the time counts for each."""
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.training.progress.at(stage))
        yield
