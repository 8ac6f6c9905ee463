"""Why a child is not ready yet: TCP, HTTP and worker probes over loopback."""

import contextlib
import http.client
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    import redis

SECONDS = 2.0


def unready(ready: str, pid: int) -> str | None:
    """Why the child `pid` is not ready by its `ready` (see Child), or None when it is."""
    if ready.startswith("tcp:"):
        return _tcp(int(ready.removeprefix("tcp:")))
    if ready.startswith("http://"):
        return http_problem(ready)
    if ready.startswith("rq+"):
        return _worker(ready.removeprefix("rq+"), pid)
    return None


def http_problem(url: str) -> str | None:
    """What is wrong with a GET of `url`, or None when it answers 200. No proxy is asked."""
    path = urlsplit(url).path or "/"
    try:
        status, body = _get(url, path)
    except (OSError, http.client.HTTPException) as error:
        return f"{path} did not answer: {error}"
    return None if status == 200 else f"{path} answered {status}: {' '.join(body.split())}"


def _get(url: str, path: str) -> tuple[int, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(400).decode(errors="replace")


def _tcp(port: int) -> str | None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except OSError as error:
        return f"port {port} did not answer: {error}"
    return None


def _worker(redis_url: str, pid: int) -> str | None:
    # Here, because it is slow to import and the commands need only the other probes.
    import redis

    try:
        family = {pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))}
        with redis.Redis.from_url(redis_url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
            registered = {_pid(client, key) for key in _members(client)}
    except (redis.RedisError, psutil.Error) as error:
        return f"its registration could not be read: {type(error).__name__}"
    return None if family & registered else "it has not registered as a worker"


def _members(client: "redis.Redis") -> list[str]:
    return [key.decode() for key in client.smembers("rq:workers") if isinstance(key, bytes)]


def _pid(client: "redis.Redis", key: str) -> int:
    value = client.hget(key, "pid")
    return int(value) if isinstance(value, (bytes, str)) else 0
