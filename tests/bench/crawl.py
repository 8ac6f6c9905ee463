"""Crawls measured: `python -m tests.bench.crawl [manual] [speed[=PAGES]] [sitemap[=URLS]]`, all three without arguments.

`manual` is the HTML of Debian's `postgresql-doc-*`; `speed` a made-up site, and that one, each beside trafilatura alone on
the same pages.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
import trafilatura

from deploy.local.client import OVER, DashboardClient
from tests.bench.stage import counts, cpu_seconds, provider, running_stack
from tests.bench.website import Company
from tests.workers.fetch.loopback import Script, Site, reply, serving
from workers.fetch.addresses import AddressGuard
from workers.fetch.client import SafeClient
from workers.fetch.discovery import sitemap_frontier
from workers.fetch.limits import FetchLimits
from workers.fetch.robots import Robots
from workers.fetch.scope import MOST_PAGES, Scope

MANUALS = Path("/usr/share/doc")
SPEED_PAGES, SITEMAP_URLS = 1_000, 20_000
GIVE_UP_S = 1_800
LOOK_S = 0.5
"""Between two looks at a run: each costs the processor time of a page."""
TYPES = {".html": "text/html", ".svg": "image/svg+xml", ".css": "text/css"}
LEDGER = """
    SELECT outcome, count(*) FROM pages JOIN sources USING (org_id, bot_id, source_id)
    WHERE source_id = %s AND generation = live_generation GROUP BY outcome ORDER BY count(*) DESC
"""


class Conditional(Site):
    """A site whose files have an ETag; it answers 304 to whom has them, and counts the others."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        super().__init__()
        self.bodies = 0
        tags = {path: f'"{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"' for path, file in files.items()}
        self.pages = {path: self._script(path, file, tags[path]) for path, file in files.items()}

    def _script(self, path: str, file: Path, tag: str) -> Any:
        kind = TYPES.get(file.suffix, "application/octet-stream")

        def write(stream: socket.socket, _over: Event) -> None:
            # The head of this very request is the last one that its connection's thread has noted for the path.
            head = next(head for head in reversed(self.requests) if head.startswith(f"GET {path} ".encode()))
            if f"If-None-Match: {tag}".encode() in head:
                stream.sendall(reply(b"", "304 Not Modified", ETag=tag, Connection="close"))
                return
            self.bodies += 1
            stream.sendall(reply(file.read_bytes(), ETag=tag, Content_Type=kind, Connection="close"))

        return write


@contextlib.contextmanager
def trained(site: Site, workers: int) -> Iterator[tuple[DashboardClient, dict[str, Any], str]]:
    """A stack with so many workers that may read the site: its dashboard, what stack.json says, its provider."""
    settings = {"FETCH_ALLOW": f"127.0.0.1:{site.port}", "WORKERS": str(workers)}
    with provider(0) as base_url, running_stack(base_url, **settings) as (client, described):
        yield client, described, base_url


def run(client: DashboardClient, source_id: UUID) -> tuple[float, dict[str, Any]]:
    """Trains the source: seconds, and the job as it ended."""
    began = time.perf_counter()
    job = client.queue(source_id)
    while (now := client.job(job["job_id"]))["status"] not in OVER:
        if time.perf_counter() - began > GIVE_UP_S:
            raise TimeoutError(f"a run did not end: {now}")
        time.sleep(LOOK_S)
    if now["status"] != "succeeded":
        raise RuntimeError(f"a run failed: {now}")
    return time.perf_counter() - began, now


def ledger(dsn: str, source_id: UUID) -> dict[str, int]:
    """How many URLs ended with which outcome."""
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute(LEDGER, (source_id,)).fetchall())


def manual() -> dict[str, Any]:
    """Debian's PostgreSQL manual, crawled from its first page, and again unchanged."""
    folder = max(MANUALS.glob("postgresql-doc-*/html"))
    files = {f"/{path.relative_to(folder)}": path for path in sorted(folder.rglob("*")) if path.is_file()}
    site = Conditional(files)
    result: dict[str, Any] = {"pages_there": sum(path.endswith(".html") for path in files)}
    try:
        with trained(site, 2) as (client, described, base_url):
            source_id = client.add_site_source(client.add_bot("Manual", {}), site.url("/index.html"), max_pages=5_000)
            for name in ("first", "again"):
                asked, bodies, tokens = len(site.requests), site.bodies, counts(base_url)["tokens"].get("embeddings", 0)
                seconds, job = run(client, source_id)
                result[name] = {
                    "seconds": seconds,
                    "requests": len(site.requests) - asked,
                    "bodies": site.bodies - bodies,
                    "tokens": counts(base_url)["tokens"].get("embeddings", 0) - tokens,
                    "outcomes": ledger(described["chat_db_dsn"], source_id),
                    "chunks": job["receipt"]["chunks"]["total"],
                    "stages": job["receipt"]["seconds"],
                    "asked_again": _repeated(site.requests[asked:]),
                }
    finally:
        site.close()
    return result


def _repeated(heads: Sequence[bytes]) -> list[str]:
    """The targets that were asked for more than once."""
    found = Counter(head.split(b" ", 2)[1].decode() for head in heads)
    return sorted(target for target, count in found.items() if count > 1)


def speed(pages: int = SPEED_PAGES) -> dict[str, Any]:
    """A whole crawl, and trafilatura alone on the same pages and as many processes: pages per second, CPU ms a page.

    Of a made-up site of so many small pages, and of the manual.
    """
    kind = {"Content_Type": "text/html; charset=utf-8"}
    files = sorted(max(MANUALS.glob("postgresql-doc-*/html")).glob("*.html"))
    read = {f"/{file.name}": reply(file.read_bytes(), **kind) for file in files}
    return {"made_up": _raced(Company(pages).answers(), "/"), "manual": _raced(read, "/index.html")}


def _raced(answers: Mapping[str, bytes | Script], start: str) -> dict[str, Any]:
    html = [body.partition(b"\r\n\r\n")[2].decode() for body in answers.values() if isinstance(body, bytes)]
    processes = len(os.sched_getaffinity(0))
    before = _alone(html, processes)
    with serving(answers) as site:
        ours = _crawled(site, site.url(start), len(html), processes)
    after = _alone(html, processes)
    alone = {name: (before[name] + after[name]) / 2 for name in before}
    return {"pages": len(html), "processes": processes, "ours": ours, "trafilatura": alone}


def _crawled(site: Site, start: str, pages: int, processes: int) -> dict[str, Any]:
    with trained(site, processes) as (client, described, _):
        bot_id = client.add_bot("Speed", {})
        run(client, client.add_site_source(bot_id, start, max_pages=4 * processes))  # parsers are loaded at first use
        source_id = client.add_site_source(bot_id, start, max_pages=pages)
        kinds = {"workers": "worker", "postgres": "postgres", "redis": "redis"}
        pids = {
            kind: [pid for name, pid in described["pids"].items() if name.startswith(prefix)]
            for kind, prefix in kinds.items()
        }
        spent = {kind: -cpu_seconds(found) for kind, found in pids.items()}
        seconds, job = run(client, source_id)
        cpu = {f"{kind}_cpu_ms": 1000 * (spent[kind] + cpu_seconds(found)) / pages for kind, found in pids.items()}
        outcomes = ledger(described["chat_db_dsn"], source_id)
    if outcomes.get("indexed") != pages:
        raise RuntimeError(f"not all of {pages} pages were read: {outcomes}")
    return {"pages_per_s": pages / seconds, **cpu, "stages": job["receipt"]["seconds"]}


def _alone(html: Sequence[str], processes: int) -> dict[str, float]:
    """trafilatura's pages per second, and CPU ms a page."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_timed, html[: 4 * processes], 1)  # what is loaded at first use does not count
        began = time.perf_counter()
        cpu = sum(pool.map(_timed, html, 10))
        return {"pages_per_s": len(html) / (time.perf_counter() - began), "cpu_ms": 1000 * cpu / len(html)}


def _timed(html: str) -> float:
    began = time.process_time()
    trafilatura.extract(html)
    return time.process_time() - began


def sitemap(urls: int = SITEMAP_URLS) -> dict[str, Any]:
    """A sitemap of so many URLs read into a crawl's frontier: seconds, and peak memory in a process of its own."""
    with serving() as site:
        listed = "".join(f"<url><loc>{site.url(f'/shop/product-{n}.html')}</loc></url>" for n in range(urls))
        site.pages = {"/sitemap.xml": reply(f"<urlset>{listed}</urlset>".encode())}
        command = [sys.executable, "-m", "tests.bench.crawl", "--sitemap", site.url("/sitemap.xml")]
        found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    if found["accepted"] != urls:
        raise RuntimeError(f"not all of {urls} URLs were accepted: {found}")
    return found


def _sitemap_here(url: str) -> dict[str, Any]:
    host = url.removeprefix("http://").partition("/")[0]
    limits, guard = FetchLimits(), AddressGuard.parse(host)
    before, began = _peak_mb(), time.perf_counter()
    with SafeClient(limits, guard) as client:
        frontier, _ = sitemap_frontier(url, Scope(max_pages=MOST_PAGES), Robots(client), client)
    plan = json.dumps(list(iter(frontier.next, None)))
    peak = _peak_mb()
    return {
        "accepted": frontier.accepted,
        "seconds": time.perf_counter() - began,
        "state_mb": len(plan) / 2**20,
        "peak_mb": peak,
        "grown_mb": peak - before,
    }


def _peak_mb() -> float:
    """This process's own peak so far, in MiB: `ru_maxrss` is handed on by whoever started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


PARTS = {"manual": manual, "speed": speed, "sitemap": sitemap}


def main(arguments: Sequence[str]) -> int:
    """Prints what was measured as JSON."""
    if arguments[:1] == ["--sitemap"]:
        print(json.dumps(_sitemap_here(arguments[1])))
        return 0
    for argument in arguments or PARTS:
        name, _, size = argument.partition("=")
        measure: Any = PARTS[name]
        print(json.dumps({name: measure(int(size)) if size else measure()}, indent=2), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
