"""How large a run of the bench is: read from the environment, small and quick by default."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

LARGE = 200
"""Sources from which on leases and stops have their real length."""


@dataclass(frozen=True)
class Size:
    """The seed and the figures of a run; all times in seconds."""

    seed: int = 1
    sources: int = 60
    workers: int = 3
    seconds: float = 40
    """How long faults go on."""
    lease_s: float = 15
    """Length of a task's lease in the workers; 60 in the product."""
    stop_s: float = 22
    """How long a stopped worker stays stopped: longer than its lease."""
    killers: int = 3
    """Files that kill the worker that reads them."""
    trials: int = 60
    """Deletions and cancellations."""
    retrainings: int = 30

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """The size that SEED, SOURCES, WORKERS, SECONDS, LEASE, STOP, KILLERS, TRIALS, RETRAININGS ask for.

        Raises ValueError when one is no number.
        """
        sources = int(environ.get("SOURCES") or cls.sources)
        large = sources >= LARGE

        def number(name: str, small: float, full: float) -> float:
            return float(environ.get(name) or (full if large else small))

        return cls(
            seed=int(environ.get("SEED") or cls.seed),
            sources=sources,
            workers=int(number("WORKERS", cls.workers, 4)),
            seconds=number("SECONDS", cls.seconds, 0.6 * sources),
            lease_s=number("LEASE", cls.lease_s, 60),
            stop_s=number("STOP", cls.stop_s, 90),
            killers=int(number("KILLERS", cls.killers, 20)),
            trials=int(number("TRIALS", cls.trials, 1000)),
            retrainings=int(number("RETRAININGS", cls.retrainings, 200)),
        )
