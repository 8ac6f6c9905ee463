"""What a supervisor is told: the children to keep running, tier by tier, and what stack.json says of them."""

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Child:
    """One process to keep running.

    ready: when it counts as started: "" at once, "tcp:PORT", an "http://…" address that answers 200, or
    "rq+redis://…" where it, or a child of its own, is registered as a worker.
    once: it runs to its end, with code 0, before the next tier starts.
    attempts: deaths during the start, before the start is given up.
    pidfile: PostgreSQL's, removed before a start when none of its processes is left.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    ready: str = ""
    once: bool = False
    account: tuple[int, int] | None = None
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10
    attempts: int = 1
    pidfile: str | None = None


@dataclass(frozen=True)
class Plan:
    """Tiers start one after the other and end in reverse; `info` is stack.json without its pids.

    start_seconds: the limit of the whole start.
    """

    tiers: tuple[tuple[Child, ...], ...]
    info: Mapping[str, Any]
    start_seconds: float = 100

    def to_json(self) -> str:
        """The plan as text. It holds secrets: send it through a pipe."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `to_json` wrote."""
        value = json.loads(text)
        tiers = tuple(tuple(_child(child) for child in tier) for tier in value["tiers"])
        return cls(tiers=tiers, info=value["info"], start_seconds=value["start_seconds"])


def _child(value: dict[str, Any]) -> Child:
    account = value["account"]
    return Child(**{**value, "command": tuple(value["command"]), "account": tuple(account) if account else None})
