"""Readers for the sandbox that do what a hostile document might make a parser do; the body says which."""

import ctypes
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from chat_api.core.errors import EncryptedDocument
from chat_api.core.refusals import Unauthenticated
from workers.documents import Block, Document, Fetched

_PR_GET_NO_NEW_PRIVS = 39

Deed = Callable[[], Sequence[str]]


def extract(fetched: Fetched, *, filename: str | None = None) -> Document:
    """Does the deed that the body names; what it returns is the document's text."""
    if fetched.body.startswith(b"echo"):
        return Document(filename or "", (Block("paragraph", fetched.body.decode()),), fetched.media_type or "")
    lines = _DEEDS[fetched.body.decode().strip()]()
    return Document("deed", tuple(Block("paragraph", line) for line in lines), "text/plain")


def _segfault() -> Sequence[str]:
    ctypes.string_at(0)
    return ()


_hoarded: list[bytearray] = []


def _hoard() -> Sequence[str]:
    """Leaves most of 128 MiB taken for whoever comes after it in the same process."""
    _hoarded.append(bytearray(80 << 20))
    return ()


def _need() -> Sequence[str]:
    """Needs what a hoard does not leave."""
    return [str(len(bytearray(80 << 20)))]


def _pid() -> Sequence[str]:
    return [str(os.getpid())]


def _nap() -> Sequence[str]:
    time.sleep(0.7)
    return ["rested"]


def _hush() -> Sequence[str]:
    """Closes the pipe for its answer and lives on."""
    os.closerange(3, 64)
    return _sleep()


def _boast() -> Sequence[str]:
    """Announces an answer larger than any memory."""
    for descriptor in range(3, 64):
        with suppress(OSError):
            os.write(descriptor, b"\xff" * 8)
    return _sleep()


def _spin() -> Sequence[str]:
    while True:
        pass


def _sleep() -> Sequence[str]:
    time.sleep(600)
    return ()


def _eat() -> Sequence[str]:
    return [str(len(bytearray(300 << 20)))]


def _eat_natively() -> Sequence[str]:
    """Takes all memory that there is, outside of Python, then dies of its lack."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while block := libc.malloc(ctypes.c_size_t(1 << 20)):
        ctypes.memset(block, 1, 1 << 20)
    libc.abort()
    return ()


def _flood() -> Sequence[str]:
    return ["x" * (1 << 20)] * 40


def _typed() -> Sequence[str]:
    raise EncryptedDocument("A sentence of its own.")


def _foreign_error() -> Sequence[str]:
    raise Unauthenticated


def _untyped() -> Sequence[str]:
    raise KeyError("secret words of the document")


def _recurse() -> Sequence[str]:
    return _recurse()


def _exit() -> Sequence[str]:
    os._exit(0)


def _system_exit() -> Sequence[str]:
    sys.exit(0)


def _killed() -> Sequence[str]:
    """Dies like of the kernel's hand, by a limit that the filter does not see."""
    resource.setrlimit(resource.RLIMIT_CPU, (0, 0))
    return _spin()


def _report() -> Sequence[str]:
    found = {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "no_new_privileges": ctypes.CDLL(None).prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
        "environment": dict(os.environ),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "size": resource.getrlimit(resource.RLIMIT_FSIZE),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "descriptors": [number for number in range(64) if _is_open(number)],
    }
    return [json.dumps(found)]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _forbidden() -> Sequence[str]:
    """What each forbidden deed ended with: the error's name, or `done`."""
    deeds: dict[str, Callable[[], object]] = {
        "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "open a unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "make a socket pair": socket.socketpair,
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "read a file": lambda: Path("/etc/passwd").read_bytes(),
        "write a file": lambda: Path("/tmp/leak").write_bytes(b"x"),
        "delete a file": lambda: Path("/tmp/leak").unlink(),
        "make a folder": lambda: Path("/tmp/leak-folder").mkdir(),
        "change a file": lambda: Path("/tmp").chmod(0o777),
        "kill its parent": lambda: os.kill(os.getppid(), 0),
        "open a pipe": os.pipe,
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        "become root": lambda: os.setuid(0) if os.getuid() else None,
        "make a memory file": lambda: os.memfd_create("x"),
    }
    return [f"{name}: {_outcome(deed)}" for name, deed in deeds.items()]


def _outcome(deed: Callable[[], object]) -> str:
    try:
        deed()
    except OSError as error:
        return type(error).__name__
    except ValueError:
        return "ValueError"
    return "done"


_DEEDS: dict[str, Deed] = {
    "segfault": _segfault,
    "hoard": _hoard,
    "need": _need,
    "pid": _pid,
    "nap": _nap,
    "hush": _hush,
    "boast": _boast,
    "spin": _spin,
    "sleep": _sleep,
    "eat": _eat,
    "eat natively": _eat_natively,
    "flood": _flood,
    "typed": _typed,
    "foreign error": _foreign_error,
    "untyped": _untyped,
    "recurse": _recurse,
    "exit": _exit,
    "system exit": _system_exit,
    "killed": _killed,
    "report": _report,
    "forbidden": _forbidden,
}
