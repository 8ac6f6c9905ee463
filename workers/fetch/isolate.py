"""Starts a program in a network of its own, where nothing exists but one listener whose other end is the parent.

Run as a script, before anything is imported: `isolate.py FD PROGRAM ARGUMENTS…`. The listener goes to the parent over
the Unix socket FD; in the arguments `{port}` stands for its port.
"""

import array
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from pathlib import Path

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
SET_FLAGS, UP = 0x8914, 0x1
DIE_WITH_PARENT, NO_NEW_PRIVILEGES = 1, 38
NOBODY = 65534


def main(parent: socket.socket, command: list[str]) -> None:
    """Becomes the program. Raises OSError where the kernel allows no network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(NEW_NETWORK if uid == 0 else NEW_USER | NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network namespace")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text, "ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    parent.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))])
    port = listener.getsockname()[1]
    if uid == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
    os.execv(command[0], [part.replace("{port}", str(port)) for part in command])  # noqa: S606  # the caller's own words


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
