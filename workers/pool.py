"""The pool: worker processes, kept alive, ended together."""

import multiprocessing
import os
import secrets
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import structlog

from chat_api.core.settings import Settings
from workers.tasks.life import WORKER, holder_name

STOP_WITHIN_S = 6.0
RESTART_AFTER_S = 1.0
log = structlog.get_logger(__name__)


class Pool:
    """Keeps `count` worker processes alive until it is told to stop; `died` is told the holder name of each that dies."""

    def __init__(self, settings: Settings, count: int, *, died: Callable[[str], object]) -> None:
        self._settings, self._count, self._died = settings, count, died
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []

    def run(self, ended: threading.Event) -> None:
        """Starts the workers, replaces those that die, and ends them when `ended` is set."""
        while not ended.is_set():
            for dead in [process for process in self._processes if not process.is_alive()]:
                log.warning("worker_died", pid=dead.pid, exit_code=dead.exitcode)
                self._processes.remove(dead)
                self._died(holder_name(dead.pid, dead.name))
            while len(self._processes) < self._count:
                self._processes.append(self._start())
            ended.wait(RESTART_AFTER_S)
        self._stop()

    def _start(self) -> BaseProcess:
        # Its name is a part of its holder name, since another process may get its pid one day.
        name = f"{WORKER}{secrets.token_hex(4)}"
        process = self._context.Process(target=_work, args=(self._settings.queue_name, os.getpid()), name=name)
        process.start()
        return process

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()
        until = time.monotonic() + STOP_WITHIN_S
        for process in self._processes:
            process.join(max(0.1, until - time.monotonic()))
            process.kill()


def _work(queue_name: str, parent: int) -> None:
    # Here, because only the worker processes need what training stands on.
    from workers.worker import work_for_ever

    work_for_ever(queue_name, parent)
