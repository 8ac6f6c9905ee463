"""Owns the warm process that forks one confined child per document; started by `sandbox.Sandbox` and nothing else."""

import gc
import importlib
import json
import os
import select
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from chat_api.core.errors import ServiceError
from workers.documents import Document, Fetched
from workers.extract.confine import Limits, confine, die_with_parent
from workers.extract.wire import dump_document, dump_error

MESSAGE_BYTES = 65_536
OUT_OF_MEMORY = 99
"""The exit status of a child that ran into its memory limit."""
FAILED = 98
"""The exit status of a child whose reader raised what it should not."""

Extract = Callable[..., Document]


@dataclass(frozen=True, slots=True)
class _Job:
    """One request: what is known of the document, and the descriptors of its body and for the answer."""

    request: dict[str, Any]
    body: int
    answer: int
    memory: int


def main(arguments: list[str]) -> None:
    """Serves documents until the other end of the control socket is closed.

    `arguments`: the socket's descriptor, the reader as `module:function`, the child's memory in MiB, the worker's pid.
    """
    descriptor, entry, memory_mb, worker = arguments
    die_with_parent(int(worker))
    control = socket.socket(fileno=int(descriptor))
    module_name, function = entry.split(":")
    module = importlib.import_module(module_name)
    getattr(module, "warm_up", lambda: None)()
    memory = int(memory_mb) << 20
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"missing": _probe(memory)}).encode())
    while job := _next(control, memory):
        control.send(json.dumps(_serve(control, job, getattr(module, function))).encode())


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


def _next(control: socket.socket, memory: int) -> _Job | None:
    data, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
    if not data or len(descriptors) != 2:
        return None
    return _Job(json.loads(data), descriptors[0], descriptors[1], memory)


def _serve(control: socket.socket, job: _Job, extract: Extract) -> dict[str, Any]:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        control.close()
        _child(job, extract, parent)
    os.close(job.body)
    os.close(job.answer)
    timed_out = not _ends(child, control, job.request["seconds"])
    if timed_out:
        os.kill(child, 9)
    _, status, usage = os.wait4(child, 0)
    return {"status": status, "timed_out": timed_out, "peak_kib": usage.ru_maxrss}


def _ends(child: int, control: socket.socket, seconds: float) -> bool:
    """Whether the child ends by itself in time, and before the worker that waits for it."""
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(control, select.POLLHUP)
        ready = poll.poll(max(0.0, seconds) * 1000)
        return any(descriptor == pidfd for descriptor, _ in ready)
    finally:
        os.close(pidfd)


def _child(job: _Job, extract: Extract, parent: int) -> NoReturn:
    status = FAILED
    gc.disable()
    try:
        _keep_only(job.body, job.answer)
        confine(Limits(job.memory, job.request["seconds"]), parent)
        _write(job.answer, _answer(job, extract))
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    except BaseException as error:  # noqa: BLE001  # the edge of a process: every end has a status
        _write(job.answer, f"X{type(error).__name__}".encode())
    finally:
        os._exit(status)


def _answer(job: _Job, extract: Extract) -> bytes:
    request = job.request
    fetched = Fetched(
        url=request["url"],
        status=request["status"],
        body=_read(job.body),
        media_type=request["media_type"],
        charset=request["charset"],
    )
    try:
        return dump_document(extract(fetched, filename=request["filename"]))
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


def _read(descriptor: int) -> bytes:
    size, parts, offset = os.fstat(descriptor).st_size, [], 0
    while offset < size:
        parts.append(os.pread(descriptor, size - offset, offset))
        offset += len(parts[-1])
    return b"".join(parts)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main(sys.argv[1:])
