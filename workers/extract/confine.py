"""Owns how a process gives up its powers before it reads what strangers wrote: limits, user, system calls (Linux)."""

import ctypes
import math
import os
import platform
import resource
import signal
import struct
import time
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_NOBODY = 65534
_EPERM = 1

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_OFFSET, _ARCH_OFFSET = 0, 4
_X32 = 0x40000000
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# System calls that a parser never needs, by number: sockets; programs, processes and signals; other processes' memory;
# kernel interfaces; opening and changing files; System V and POSIX queues.
_DENIED = {
    "x86_64": (
        *(41, 53, 42, 49, 50, 43, 288, 44, 46, 307, 45, 47, 299),
        *(59, 322, 57, 58, 56, 435, 62, 200, 234, 129, 297, 434, 438, 424),
        *(101, 310, 311),
        *(425, 426, 427, 321, 298, 323, 248, 249, 250, 272, 308, 165, 166, 155, 161, 304, 303, 319),
        *(
            2,
            257,
            437,
            85,
            87,
            263,
            82,
            264,
            316,
            83,
            258,
            84,
            86,
            265,
            88,
            266,
            133,
            259,
            90,
            268,
            452,
            92,
            94,
            260,
            76,
        ),
        *(132, 235, 261, 280, 188, 189, 197, 198),
        *(29, 30, 68, 64, 240, 241),
    ),
    "aarch64": (
        *(198, 199, 203, 200, 201, 202, 242, 206, 211, 269, 207, 212, 243),
        *(221, 281, 220, 435, 129, 130, 131, 138, 240, 434, 438, 424),
        *(117, 270, 271),
        *(425, 426, 427, 280, 241, 282, 217, 218, 219, 97, 268, 40, 39, 41, 51, 264, 265, 279),
        *(56, 437, 35, 38, 276, 34, 37, 36, 33, 53, 452, 54, 45, 88, 5, 6, 14, 15),
        *(194, 196, 186, 190, 180, 181),
    ),
}

# What another program needs of them: to be started, and to open its files.
_NEEDED = {"x86_64": frozenset({59, 2, 257}), "aarch64": frozenset({221, 56})}
_PROGRAM_FILES = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use: bytes of memory beyond what it starts with, and seconds of CPU time for each document."""

    memory: int
    seconds: float
    documents: int = 1


def confine(limits: Limits, parent: int) -> tuple[str, ...]:
    """Takes this process's powers away for good; returns what the system did not allow to take, in words.

    It dies with `parent`, the process that forked it. Open descriptors stay open; none can be opened any more.
    """
    _limit(limits)
    missing = []
    if os.geteuid() == 0 and not _become_nobody():
        missing.append("an unprivileged user")
    # Changing the user clears the death signal, so it comes after.
    if not _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != parent:
        os._exit(1)
    if not _prctl(_PR_SET_NO_NEW_PRIVS, 1) or not _filter_system_calls(_FILTER):
        missing.append("the system call filter")
    return tuple(missing)


def confine_program(limits: Limits, parent: int) -> tuple[str, ...]:
    """As `confine`, for a program that this process is about to become: it may open files, and write to none."""
    _limit(limits, descriptors=_PROGRAM_FILES)
    missing = [] if os.geteuid() or _become_nobody() else ["an unprivileged user"]
    # Of a process whose user has changed, an earlier limit would refuse the program itself.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if not _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != parent:
        os._exit(1)
    if not _prctl(_PR_SET_NO_NEW_PRIVS, 1) or not _filter_system_calls(_PROGRAM_FILTER):
        missing.append("the system call filter")
    return tuple(missing)


def allow_cpu(seconds: float) -> None:
    """Lets this process use so many more seconds of CPU time, within what `confine` set for all its documents."""
    _, highest = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(math.ceil(time.process_time() + seconds), highest), highest))


def die_with_parent(parent: int) -> None:
    """Has this process killed when the thread that started it, of the process `parent`, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit(limits: Limits, *, descriptors: int = 0) -> None:
    seconds = max(1, math.ceil(limits.seconds * limits.documents))
    address_space = _address_space() + limits.memory
    for what, soft, hard in (
        (resource.RLIMIT_AS, address_space, address_space),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_FSIZE, 0, 0),
        *(() if descriptors else ((resource.RLIMIT_NPROC, 0, 0),)),
        (resource.RLIMIT_NOFILE, descriptors, descriptors),
    ):
        _, highest = resource.getrlimit(what)
        bounded = highest != resource.RLIM_INFINITY
        resource.setrlimit(what, (min(soft, highest), min(hard, highest)) if bounded else (soft, hard))


def _address_space() -> int:
    """This process's address space in bytes."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 64).split()[0]) * resource.getpagesize()
    finally:
        os.close(descriptor)


def _become_nobody() -> bool:
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        return False
    return True


def _filter_system_calls(program: bytes) -> bool:
    if not program:
        return False
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    return _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header, len(header)))


def _program(arch: int, denied: tuple[int, ...]) -> bytes:
    """A BPF program that answers the denied calls, and those of any other architecture, with EPERM."""
    count = len(denied)
    lines = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_EQUAL, 0, count + 3, arch),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_AT_LEAST, count + 1, 0, _X32),
        *((_EQUAL, count - index, 0, number) for index, number in enumerate(denied)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _prctl(option: int, value: int, pointer: object = 0) -> bool:
    return bool(_LIBC.prctl(option, ctypes.c_ulong(value), pointer, 0, 0) == 0)


_MACHINE = platform.machine()
# Made once, before any child is forked.
_FILTER = _program(_AUDIT_ARCH[_MACHINE], _DENIED[_MACHINE]) if _MACHINE in _DENIED else b""
_PROGRAM_FILTER = (
    _program(_AUDIT_ARCH[_MACHINE], tuple(number for number in _DENIED[_MACHINE] if number not in _NEEDED[_MACHINE]))
    if _MACHINE in _DENIED
    else b""
)
