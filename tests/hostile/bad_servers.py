"""What servers that don't behave cost: `python -m tests.hostile.bad_servers [seconds]` prints time, memory and outcome.

Each is fetched in a process of its own, so that its peak memory is its own.
"""

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from chat_api.core.errors import ServiceError
from tests.bench.stage import percentile
from tests.hostile.server_scripts import BROKEN, LARGE, REDIRECTING, SLOW, SPEAKING
from tests.workers.fetch.loopback import SHORT, Script, serving
from workers.fetch.addresses import AddressGuard
from workers.fetch.client import SafeClient

MAX_BYTES = 100_000
SERVERS: dict[str, bytes | Script] = {
    **SLOW,
    **LARGE,
    **{name: answer for name, (answer, _) in (BROKEN | REDIRECTING | SPEAKING).items()},
}


class Cost(NamedTuple):
    """What one bad server came to."""

    code: str
    seconds: float
    megabytes: float
    """Beyond what the process had before."""


def fetch(url: str, timeout_s: float) -> Cost:
    """One fetch in this process: the error's code, or `page`; what has no type ends the process."""
    host = url.removeprefix("http://").partition("/")[0]
    client = SafeClient(replace(SHORT, timeout_s=timeout_s, max_bytes=MAX_BYTES), AddressGuard.parse(host))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        client.get(url)
        code = "page"
    except ServiceError as error:
        code = error.code
    took = time.perf_counter() - began
    return Cost(code, took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def cost_of(answer: bytes | Script, timeout_s: float) -> Cost:
    """As `fetch`, of a server with this one answer, in a process of its own."""
    with serving({"/": answer}) as site:
        command = [sys.executable, "-m", "tests.hostile.bad_servers", "--fetch", site.url(), str(timeout_s)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s + 60, check=False)
    if found.returncode:
        return Cost(f"died: {found.stderr.strip().rpartition(chr(10))[2]}", 0.0, 0.0)
    return Cost(*json.loads(found.stdout))


def main(arguments: Sequence[str]) -> int:
    """Prints the table; 0 when every server ended in one typed error within its time."""
    if arguments[:1] == ["--fetch"]:
        print(json.dumps(fetch(arguments[1], float(arguments[2]))))
        return 0
    timeout_s = float(arguments[0]) if arguments else 3.0
    costs = {name: cost_of(answer, timeout_s) for name, answer in SERVERS.items()}
    for name, cost in costs.items():
        print(f"{name:<52}{cost.code:<20}{cost.seconds:>7.2f} s{cost.megabytes:>8.1f} MB")
    for what, values in (
        ("seconds", [c.seconds for c in costs.values()]),
        ("MB", [c.megabytes for c in costs.values()]),
    ):
        print(f"{what}: p50 {percentile(values, 50):.2f}, p99 {percentile(values, 99):.2f}, max {max(values):.2f}")
    print(
        f"{len(costs)} servers, at most {timeout_s:g} s and {MAX_BYTES:,} bytes: {dict(Counter(c.code for c in costs.values()))}"
    )
    late = [name for name, cost in costs.items() if cost.seconds > timeout_s + 1]
    bad = [name for name, cost in costs.items() if cost.code == "page" or cost.code.startswith("died")]
    return int(bool(late or bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
