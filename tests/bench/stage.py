"""What a benchmark stands on: a provider in a process of its own, an embedded stack, and their processor time."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
import psutil

from deploy.local import stack
from deploy.local.children import embedded
from deploy.local.client import DashboardClient, read_stack

UNLIMITED = {"VISITOR_MESSAGES_PER_MINUTE": "1000000", "ADDRESS_MESSAGES_PER_MINUTE": "1000000"}
"""For a stack that one visitor asks as fast as it can."""
DIMENSIONS = 1536


@contextlib.contextmanager
def provider(latency_ms: float) -> Iterator[str]:
    """The loopback provider in its own process; its base URL."""
    command = [sys.executable, "-m", "tests.provider", "--port", "0", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(10)


def counts(base_url: str) -> dict[str, Any]:
    """What the provider has counted so far."""
    answer: dict[str, Any] = httpx2.get(f"{base_url.removesuffix('/v1')}/counts", trust_env=False).json()
    return answer


@contextlib.contextmanager
def running_stack(base_url: str, **settings: str) -> Iterator[tuple[DashboardClient, dict[str, Any]]]:
    """A stack whose models are the provider's; its dashboard and what stack.json says."""
    environ = {
        **os.environ,
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "sk-bench",
        "EMBEDDING_PROVIDER": "openai",
        "LLM_PROVIDER": "openai",
        "LOG_LEVEL": "WARNING",
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "state"
        try:
            described = stack.up(root, lambda state: embedded(state, environ))
            yield DashboardClient(read_stack(root / "stack.json")), described
        finally:
            stack.remove(root)


@contextlib.contextmanager
def resting(described: dict[str, Any]) -> Iterator[None]:
    """Holds the workers still: their sweeper would delete sources that the dashboard knows nothing of."""
    workers = [psutil.Process(pid) for name, pid in described["pids"].items() if name.startswith("worker")]
    family = [one for worker in workers for one in [worker, *worker.children(recursive=True)]]
    for one in family:
        one.suspend()
    try:
        yield
    finally:
        for one in family:
            one.resume()


def percentile(values: Sequence[float], percent: int) -> float:
    """One of the 99 percentiles, between the values where it falls between them."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def cpu_seconds(pids: list[int]) -> float:
    """Processor time of these processes and all their descendants, living and ended."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system
                if one is process or not one.children():
                    total += times.children_user + times.children_system
    return total
