"""Files measured: PDFs to searchable (made ones of ten pages, 500 pages of a real one), and what large files take.

The real one is R's reference manual, of Debian's package `r-doc-pdf`.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pypdfium2

from deploy.local.client import OVER, DashboardClient
from tests.bench import langchain
from tests.bench.crawl import sitemap
from tests.bench.files import MEMORY, SECONDS, large, read_all
from tests.bench.stage import cpu_seconds, provider, running_stack
from tests.bench.training import text_file, train
from tests.workers.extract.files import Manual, manual

DOCUMENTS, PAGES, PAGE_BYTES = 40, 10, 1_500
REAL_PAGES = 500
GIVE_UP_S, LOOK_S = 900, 0.1
WAY = "all files in one call"
SAMPLE_S = 0.1
"""Between two looks at the processes' memory: each costs the processor time of a page."""
CSV = "200 MB.csv"
MIB = 2**20


def small(first: int, count: int) -> list[bytes]:
    """PDFs of ten full pages, different for each number from `first` on."""
    return [manual(PAGES, write=partial(_write, number)) for number in range(first, first + count)]


def _write(seed: int, pdf: Manual, page: int) -> None:
    pdf.text_block(text_file(1_000 * seed + page, PAGE_BYTES).decode().replace("#", "").strip())


def real() -> bytes:
    """The first pages of R's reference manual; its package is fetched, and not installed."""
    with tempfile.TemporaryDirectory(prefix="r-doc-") as folder:
        for command in (["apt-get", "download", "r-doc-pdf"], ["sh", "-c", "dpkg -x r-doc-pdf_*.deb ."]):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        out = io.BytesIO()
        with (
            pypdfium2.PdfDocument(Path(folder, "usr/share/R/doc/manual/fullrefman.pdf")) as whole,
            pypdfium2.PdfDocument.new() as part,
        ):
            part.import_pages(whole, list(range(REAL_PAGES)))
            part.save(out)
    return out.getvalue()


def measure() -> dict[str, Any]:
    """PDFs to searchable; what a large CSV costs worker and parser, and large files alone; a sitemap of 20,000 URLs."""
    return {
        "pdfs": _pdfs(),
        "refused": _refused(),
        "large": {name: dict(read_all([(name, body)])) for name, body in large()},
        "sitemap": sitemap(),
    }


def _refused() -> dict[str, Any]:
    """A CSV of 200 MB that the limits let through to the reader: its outcome, and the peak of worker and parser."""
    body = next(body for name, body in large() if name == CSV)
    with provider(0) as base_url, running_stack(base_url, WORKERS="1", MAX_FILE_MB="256") as (client, described):
        bot_id = client.add_bot("Large", {})
        workers = [pid for name, pid in described["pids"].items() if name.startswith("worker")]
        with _peaks(workers) as peaks:
            source_id = client.add_file(bot_id, CSV, io.BytesIO(body), len(body))
            job = _ended(client, client.queue(source_id))
    return {"outcome": (job["error"] or {}).get("code", job["status"]), "peak_mib": dict(peaks)}


def _kinds() -> Iterator[tuple[str, list[bytes]]]:
    yield f"{DOCUMENTS} PDFs of {PAGES} pages", small(0, DOCUMENTS)
    try:
        yield f"{REAL_PAGES} pages of a real PDF", [real()]
    except (OSError, subprocess.SubprocessError) as error:
        print(f"files: without a real PDF: {error}", file=sys.stderr)


def _pdfs() -> dict[str, Any]:
    """Ours, and with LANGCHAIN=1 a LangChain pipeline beside it, of both kinds."""
    python = langchain.environment() if os.environ.get("LANGCHAIN") else None
    kinds = dict(_kinds())
    with provider(0) as base_url, running_stack(base_url, WORKERS="2") as (client, described):
        bot_id = client.add_bot("Bench", {})
        first = [_add(client, bot_id, body) for body in small(DOCUMENTS, 4)]
        train(client, described, first)  # loads what is loaded at first use
        return {name: _measured(client, described, bot_id, files, python, base_url) for name, files in kinds.items()}


def _measured(
    client: DashboardClient,
    described: dict[str, Any],
    bot_id: Any,
    files: Sequence[bytes],
    python: Path | None,
    base_url: str,
) -> dict[str, Any]:
    workers = [pid for name, pid in described["pids"].items() if name.startswith("worker")]
    postgres = described["pids"]["postgres"]
    source_ids = [_add(client, bot_id, body) for body in files]
    chunks, before = _chunks(described), (cpu_seconds(workers), cpu_seconds([postgres]))
    with _peaks(workers) as peaks:
        seconds = train(client, described, source_ids)
    spent = cpu_seconds(workers) - before[0], cpu_seconds([postgres]) - before[1]
    found = {"ours": _speed(len(files), _chunks(described) - chunks, seconds, *spent) | {"peak_mib": dict(peaks)}}
    if python:
        dsn = described["chat_db_dsn"]
        told = langchain.run(python, WAY, files, dsn, base_url, postgres, suffix=".pdf")
        found[f"langchain, {WAY}"] = _speed(len(files), *told)
    return found


def _speed(documents: int, chunks: int, seconds: float, client_s: float, postgres_s: float) -> dict[str, Any]:
    return {
        "documents_per_s": documents / seconds,
        "seconds": seconds,
        "chunks": chunks,
        "worker_cpu_s": client_s,
        "postgres_cpu_s": postgres_s,
    }


@contextlib.contextmanager
def _peaks(workers: Sequence[int]) -> Iterator[dict[str, float]]:
    """The most resident MiB that any one process of a kind had meanwhile: workers, and the parsers' children."""
    peaks, over = {"worker": 0.0, "parser": 0.0}, threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_S):
            for pid in workers:
                for process in psutil.Process(pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        kind = "parser" if "workers.extract.forkserver" in process.cmdline() else "worker"
                        peaks[kind] = max(peaks[kind], process.memory_info().rss / MIB)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _add(client: DashboardClient, bot_id: Any, body: bytes) -> Any:
    return client.add_file(bot_id, "manual.pdf", io.BytesIO(body), len(body))


def _ended(client: DashboardClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job as it ended."""
    until = time.perf_counter() + GIVE_UP_S
    while (now := client.job(job["job_id"]))["status"] not in OVER:
        if time.perf_counter() > until:
            raise TimeoutError(f"a run did not end: {now}")
        time.sleep(LOOK_S)
    return now


def _chunks(described: dict[str, Any]) -> int:
    with psycopg.connect(described["chat_db_dsn"]) as connection:
        row = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    return int(row[0]) if row else 0


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    lines = [line for kind, contestants in result["pdfs"].items() for line in _raced(kind, contestants)]
    for name, found in result["large"].items():
        lines += [(name, found["outcomes"]), *((f"  {label}", found[label]) for label in (SECONDS, MEMORY))]
    refused = result["refused"]
    lines += [(f"{CSV}, trained", refused["outcome"]), ("  peak memory of one process", _memory(refused["peak_mib"]))]
    told = result["sitemap"]
    shown = f"{told['seconds']:.1f} s, {told['peak_mb']:.0f} MiB ({told['grown_mb']:.0f} beyond the process's own)"
    return [*lines, (f"sitemap of {told['accepted']:,} URLs", shown)]


def _raced(kind: str, contestants: dict[str, Any]) -> Iterator[tuple[str, str]]:
    ours = contestants["ours"]
    for name, speed in contestants.items():
        ratio = f"  (ours {speed['seconds'] / ours['seconds']:.1f} times as fast)" if name != "ours" else ""
        yield f"{kind}, {name}", f"{speed['documents_per_s']:.2f} documents/s, {speed['seconds']:.1f} s{ratio}"
        yield "  CPU, worker + PostgreSQL", f"{speed['worker_cpu_s']:.1f} + {speed['postgres_cpu_s']:.1f} s"
    yield "  peak memory of one process, ours", _memory(ours["peak_mib"])


def _memory(peaks: dict[str, float]) -> str:
    return ", ".join(f"{name} {mib:.0f} MiB" for name, mib in peaks.items())
