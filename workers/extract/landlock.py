"""Owns which files a process may still read: Linux's Landlock, from kernel 5.13 on, without privileges."""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
# linux/landlock.h, the first version; the numbers are the same on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_EVERYTHING = (1 << 13) - 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3


def allow_reading(paths: Iterable[str]) -> bool:
    """From now on only what is below these paths can be opened, to read or run it; False where the kernel can't do it.

    What is open stays open. The process must have given up new privileges before. Raises OSError.
    """
    handled = struct.pack("Q", _EVERYTHING)
    ruleset = _LIBC.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return False
    for path in paths:
        if Path(path).exists():
            _allow(ruleset, path)
    done = _LIBC.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def _allow(ruleset: int, path: str) -> None:
    rights = _EXECUTE | _READ_FILE | (_READ_DIR if Path(path).is_dir() else 0)
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if _LIBC.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0):
            raise OSError(ctypes.get_errno(), f"{path} can't be allowed")
    finally:
        os.close(descriptor)
