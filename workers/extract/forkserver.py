"""Owns the warm process that forks confined children to read documents; started by `children.Server` and nothing else."""

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from chat_api.core.errors import ServiceError
from workers.documents import Document, Fetched
from workers.extract.confine import Limits, allow_cpu, confine
from workers.extract.wire import dump_document, dump_error, read_fetched, write_frame

MESSAGE_BYTES = 4096
OUT_OF_MEMORY = 99
"""The exit status of a child that ran into its memory limit."""
FAILED = 98
"""The exit status of a child whose reader raised what it should not."""

Extract = Callable[..., Document]


@dataclass(frozen=True, slots=True)
class _Job:
    """One request: how many documents, the seconds that each may take, the file they are in, the pipe for the answers."""

    documents: int
    seconds: float
    file: int
    answers: int


@dataclass(frozen=True, slots=True)
class _Child:
    """A child that reads: the descriptor of its process, and the socket to whoever waits for it."""

    pid: int
    pidfd: int
    link: socket.socket


class _ForkServer:
    """Forks a child per request, tells its asker of its start and end, and kills it when the asker hangs up."""

    def __init__(self, control: socket.socket, worker: int, extract: Extract, memory: int) -> None:
        self._control, self._worker = control, worker
        self._extract, self._memory = extract, memory
        self._missing = _probe(memory)
        self._children: dict[int, _Child] = {}  # by each of their two descriptors
        self._poll = select.poll()

    def serve(self) -> None:
        """Works until the worker's process ends or closes its end of the control socket; takes all children along."""
        for descriptor in (self._control.fileno(), self._worker):
            self._poll.register(descriptor, select.POLLIN)
        try:
            while all(self._handle(descriptor) for descriptor, _ in self._poll.poll()):
                pass
        finally:
            for child in set(self._children.values()):
                self._kill(child)
                os.waitpid(child.pid, 0)  # and tell nobody: this end says nothing of the document

    def _handle(self, descriptor: int) -> bool:
        """Does what a ready descriptor asks for; whether to go on."""
        if descriptor == self._worker:
            return False
        if descriptor == self._control.fileno():
            return self._accept()
        child = self._children.get(descriptor)
        if child and descriptor == child.pidfd:
            self._bury(child)
        elif child:
            self._kill(child)
        return True

    def _accept(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 3)
        if not data or len(descriptors) != 3:
            return False
        file, answers, link = descriptors
        self._fork(_Job(**json.loads(data), file=file, answers=answers), socket.socket(fileno=link))
        os.close(file)
        os.close(answers)
        return True

    def _fork(self, job: _Job, link: socket.socket) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _read_all(job, self._extract, Limits(self._memory, job.seconds, job.documents), parent)
        child = _Child(pid, os.pidfd_open(pid), link)
        for descriptor in (child.pidfd, link.fileno()):
            self._children[descriptor] = child
            self._poll.register(descriptor, select.POLLIN)
        _tell(link, {"missing": self._missing})

    def _kill(self, child: _Child) -> None:
        if self._children.pop(child.link.fileno(), None):
            self._poll.unregister(child.link)
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def _bury(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.pid, 0)
        _tell(child.link, {"status": status, "peak_kib": usage.ru_maxrss})
        for descriptor in (child.pidfd, child.link.fileno()):
            if self._children.pop(descriptor, None):
                self._poll.unregister(descriptor)
        os.close(child.pidfd)
        child.link.close()


def main(arguments: list[str]) -> None:
    """Serves until there is nobody left to serve.

    `arguments`: the control socket's descriptor, the reader as `module:function`, a child's memory in MiB, the worker's
    pid.
    """
    descriptor, entry, memory_mb, worker = arguments
    try:
        pidfd = os.pidfd_open(int(worker))
    except ProcessLookupError:
        return
    if os.getppid() != int(worker):
        return
    module_name, function = entry.split(":")
    module = importlib.import_module(module_name)
    getattr(module, "warm_up", lambda: None)()
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=int(descriptor))
    _ForkServer(control, pidfd, getattr(module, function), int(memory_mb) << 20).serve()


def _probe(memory: int) -> list[str]:
    """What `confine` can't take away here, found out by a child that then ends."""
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(confine(Limits(memory, 1), parent)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        missing = answer.read()
    os.waitpid(child, 0)
    return list(json.loads(missing or b'["confinement"]'))


def _tell(link: socket.socket, news: dict[str, Any]) -> None:
    with suppress(OSError):  # where nobody waits for it any more
        link.send(json.dumps(news).encode())


def _read_all(job: _Job, extract: Extract, limits: Limits, parent: int) -> NoReturn:
    """The child's life: confined before the first byte of a document is read."""
    status = FAILED
    gc.disable()
    try:
        _keep_only(job.file, job.answers)
        confine(limits, parent)
        for fetched, filename in read_fetched(job.file):
            allow_cpu(job.seconds)
            write_frame(job.answers, _answer(extract, fetched, filename))
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    except BaseException as error:  # noqa: BLE001  # the edge of a process: every end has a status
        write_frame(job.answers, f"X{type(error).__name__}".encode())
    finally:
        os._exit(status)


def _answer(extract: Extract, fetched: Fetched, filename: str | None) -> bytes:
    try:
        return dump_document(extract(fetched, filename=filename))
    except ServiceError as error:
        return dump_error(error)


def _keep_only(*descriptors: int) -> None:
    """Closes all but these and the standard ones, which lead nowhere."""
    os.dup2(0, 2)
    start = 3
    for descriptor in sorted(descriptors):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)
