"""The stack's folder: its lock, the ports and passwords it remembers, its key pair, and stack.json."""

import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

MEBIBYTE = 1024 * 1024
# A fresh cluster takes 40 MiB, its first training some WAL segments of 16 MiB more.
BYTES_TO_BEGIN, BYTES_TO_GO_ON = 256 * MEBIBYTE, 64 * MEBIBYTE
PORT_NAMES = ("api", "dashboard", "postgres", "redis", "s3")
SECRET_NAMES = ("postgres", "redis", "s3", "chat_migrator", "chat_workers", "chat_api")
# Below every system's ephemeral range, so that no outgoing connection sits on a port between two runs.
FIRST_PORT, LAST_PORT = 20_000, 31_999
# A process that was just killed may hold its port while its last threads end.
PORT_PATIENCE_SECONDS = 1.5
LOCK_PATIENCE_SECONDS = 0.5


class StackError(Exception):
    """Why the stack can't be started, in one line."""


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user may still write on the disk of `path`."""
    return shutil.disk_usage(path).free


@dataclass(frozen=True)
class State:
    """One stack's folder; `root` is absolute."""

    root: Path

    @classmethod
    def create(cls, root: Path, free: Callable[[Path], int] = free_bytes) -> "State":
        """The folder at `root`, made if need be; StackError if it can't be written or its disk is full."""
        state = cls(root.absolute())
        # Others may pass through: as root, PostgreSQL runs under another account below it.
        state.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        state.logs.mkdir(mode=0o700, exist_ok=True)
        needed = BYTES_TO_GO_ON if state._choices_file.exists() else BYTES_TO_BEGIN
        if (left := free(state.root)) < needed:
            raise StackError(
                f"disk full: {left // MEBIBYTE} MiB are free for {state.root}, {needed // MEBIBYTE} MiB are needed"
            )
        return state

    @property
    def stack_json(self) -> Path:
        """What other programs read to find the running stack."""
        return self.root / "stack.json"

    @property
    def logs(self) -> Path:
        """The folder with one log per process."""
        return self.root / "logs"

    @property
    def server_folders(self) -> list[Path]:
        """Where PostgreSQL and Redis work, whose processes are known by their folder."""
        home = self.choices().get("postgres_home")
        return [self.root / "redis", *([Path(home) / "data"] if home else [])]

    @property
    def _choices_file(self) -> Path:
        return self.root / "choices.json"

    def take_lock(self) -> int | None:
        """The lock's file descriptor, or None when a supervisor (or another `up`) has it.

        The lock belongs to the open file: whoever inherits the descriptor keeps it, and death gives it back.
        """
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            if time.monotonic() > deadline:
                os.close(handle)
                return None
            time.sleep(0.05)

    def locked(self) -> bool:
        """Whether a supervisor runs, or an `up` is starting one."""
        try:
            handle = os.open(self.root / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def stack(self) -> dict[str, Any]:
        """What stack.json holds, {} when there is none."""
        return _read_json(self.stack_json)

    def write_stack(self, stack: Mapping[str, Any]) -> None:
        """Replace stack.json atomically; its passwords are the owner's alone."""
        _write_json(self.stack_json, stack)

    def forget_stack(self) -> None:
        """Remove stack.json: nothing runs."""
        self.stack_json.unlink(missing_ok=True)

    def choices(self) -> dict[str, Any]:
        """What the stack remembers between runs: ports, passwords, PostgreSQL's folder."""
        return _read_json(self._choices_file)

    def remember(self, **choices: Any) -> None:
        """Add to what the stack remembers."""
        _write_json(self._choices_file, {**self.choices(), **choices})

    def ports(self, environ: Mapping[str, str]) -> dict[str, int]:
        """A port per server: the one given by `<NAME>_PORT`, else the last run's if free, else a free one."""
        remembered = self.choices().get("ports", {})
        ports: dict[str, int] = {}
        for name in PORT_NAMES:
            variable = f"{name.upper()}_PORT"
            given = environ.get(variable)
            ports[name] = (
                _given_port(variable, given, ports) if given else _free_port(remembered.get(name), ports.values())
            )
        self.remember(ports=ports)
        return ports

    def secrets(self) -> dict[str, str]:
        """A password per server and per login to the chat database, made at the first start."""
        known = self.choices().get("secrets", {})
        if missing := {name: secrets.token_urlsafe(24) for name in SECRET_NAMES if name not in known}:
            known = {**known, **missing}
            self.remember(secrets=known)
        return {name: str(known[name]) for name in SECRET_NAMES}

    def key_pair(self) -> tuple[Path, Path]:
        """Paths of the private and the public PEM file with which the stand-in dashboard signs tokens."""
        folder = self.root / "jwt"
        private, public = folder / "private.pem", folder / "public.pem"
        if not (private.exists() and public.exists()):
            folder.mkdir(mode=0o700, exist_ok=True)
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            public.write_bytes(
                key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            _write_private(private, pem)
        return private, public


def _given_port(variable: str, given: str, taken: Mapping[str, int]) -> int:
    if not (given.isascii() and given.isdigit() and 0 < int(given) < 65_536):
        raise StackError(f"{variable}={given} is not a port")
    port = int(given)
    if port in taken.values():
        raise StackError(f"{variable}={port}: the stack already uses this port for another server")
    if problem := _lasting_problem(port):
        raise StackError(f"{variable}={port}: {problem}")
    return port


def _free_port(remembered: int | None, taken: Collection[int]) -> int:
    if remembered and remembered not in taken and not _lasting_problem(remembered):
        return remembered
    for _ in range(1000):
        port = random.randint(FIRST_PORT, LAST_PORT)
        if port not in taken and not _port_problem(port):
            return port
    raise StackError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def _lasting_problem(port: int) -> str | None:
    deadline = time.monotonic() + PORT_PATIENCE_SECONDS
    while problem := _port_problem(port):
        if time.monotonic() > deadline:
            return problem
        time.sleep(0.05)
    return None


def _port_problem(port: int) -> str | None:
    with socket.socket() as probe:
        # As the servers do: a port that only waits for old connections to fade counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return f"port {port} needs more rights than this user has"
        except OSError:
            return f"port {port} is in use"
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write_private(path, json.dumps(value, indent=2).encode() + b"\n")


def _write_private(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    fresh.replace(path)
