"""What the loopback provider is told (controls, faults) and what it has seen (counts)."""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Kind = Literal["embeddings", "chat", "models"]
Act = int | Literal["hang", "malformed", "cut"]


class BadControl(ValueError):
    """The body of /control names something that does not exist."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one request: an HTTP status, no answer at all, a body that is not JSON, or a cut stream."""

    act: Act
    kind: Kind = "embeddings"
    retry_after: float | str | None = None
    code: str | None = None
    after: int = 0
    """Deltas that are sent before a stream is cut."""


@dataclass
class Controls:
    """How the provider behaves until it is told otherwise; each field may be set at any time, from any thread."""

    latency_ms: float = 0
    token_delay_ms: float = 0
    poison: str | None = None
    """An embedding request with an input that contains this is refused with 400."""
    max_inputs: int = 2048
    max_input_tokens: int = 8192
    max_tokens: int = 300_000
    dimensions: int | None = None
    """Every vector gets this length, whatever was asked for."""
    float_only: bool = False
    """Whether `encoding_format` is ignored."""
    thought_tokens: int = 0
    """How many of the tokens that an answer may have its model thinks with before it speaks."""
    answers: deque[str] = field(default_factory=deque)
    """The next chat answers, each used once, instead of the derived one."""
    faults: deque[Fault] = field(default_factory=deque)
    """What befalls the next requests, first come, first served for each kind."""

    def apply(self, orders: dict[str, Any]) -> None:
        """Carry out the body of /control: field names and values; `faults` (with `times`) and `answers` are appended."""
        unknown = orders.keys() - {each.name for each in fields(self)}
        if unknown:
            raise BadControl(f"unknown: {', '.join(sorted(unknown))}")
        for name, value in orders.items():
            if name == "faults":
                for fault in value:
                    times = fault.pop("times", 1)
                    self.faults.extend([Fault(**fault)] * times)
            elif name == "answers":
                self.answers.extend(value)
            else:
                setattr(self, name, value)

    def next_fault(self, kind: Kind) -> Fault | None:
        """Take the first waiting fault for this kind of request."""
        found = next((fault for fault in self.faults if fault.kind == kind), None)
        if found:
            self.faults.remove(found)
        return found


@dataclass
class Counts:
    """What happened since the start or the last reset."""

    requests: Counter[str] = field(default_factory=Counter)
    """By kind, refused ones included."""
    refused: Counter[str] = field(default_factory=Counter)
    """By status, as a string."""
    inputs: int = 0
    """Texts embedded; refused requests add none."""
    models: Counter[str] = field(default_factory=Counter)
    """Texts embedded, by the model that was asked for."""
    tokens: Counter[str] = field(default_factory=Counter)
    """`embeddings`, `prompt`, `completion`."""
    client_closed: int = 0
    """Requests whose client went away before the answer's end."""
    running: int = 0
    peak: int = 0
    """Most requests that were open at once."""
    seen: set[int] = field(default_factory=set)

    @contextmanager
    def one_more_running(self) -> Iterator[None]:
        """Count a request as open."""
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            yield
        finally:
            self.running -= 1

    def report(self) -> dict[str, Any]:
        """The counts as JSON, with `distinct_inputs`."""
        report = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "seen"}
        return report | {"distinct_inputs": len(self.seen)}
