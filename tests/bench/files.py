"""Reads files of known content, thousands of broken ones, bombs and very large ones in the sandbox, and counts.

`python -m tests.bench.files [how many broken] [folder of further files]`
"""

import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import quantiles

from chat_api.core.errors import ServiceError, TrainingError
from tests.workers.extract.broken import TYPED, bombs, mutants
from tests.workers.extract.files import all_text, manual, read, texts
from tests.workers.extract.office import MAKERS, content
from workers.documents import Block, Document, Fetched
from workers.extract import dispatch
from workers.extract.sandbox import Sandbox

_FILES = 20
_ENTRY = "tests.bench.files:extract"
SECONDS, MEMORY = "seconds p50 / p99 / max", "MiB beyond the warm parsers p50 / p99 / max"
_LARGE = ("500 pages.pdf", "200 MB.csv", "30 MB.csv")
warm_up = dispatch.warm_up


def extract(fetched: Fetched, *, filename: str | None = None) -> Document:
    """Reads the document as the sandbox does; gives what came of it, its seconds, and the MiB it took at its peak."""
    started, before = time.perf_counter(), _resident()
    try:
        dispatch.extract(fetched, filename=filename)
        outcome = "text"
    except ServiceError as error:
        outcome = error.code
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = json.dumps([time.perf_counter() - started, max(0.0, peak - before)])
    return Document(outcome, (Block("paragraph", found),), "application/json")


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def kept() -> Iterator[tuple[str, str]]:
    """For each kind: shares of the known strings, headings and tables' rows that come out of files of known content."""
    for kind, make in sorted(MAKERS.items()):
        found: Counter[str] = Counter()
        known: Counter[str] = Counter()
        for seed in range(_FILES):
            one = content(seed)
            document = read(make(one), filename=f"file.{kind}")
            text, heads, tables = all_text(document), texts(document, "heading"), texts(document, "table")
            rows = "\n".join(tables or texts(document, "list")).splitlines()
            for name, hits in (
                ("strings", [string in text for string in one.known()]),
                ("headings", [heading in heads for heading, _, _ in one.sections]),
                ("rows", [any(all(cell in row for cell in cells) for row in rows) for cells in one.table[1:]]),
            ):
                if name == "headings" and kind in {"csv", "ods", "xlsx"}:
                    continue  # theirs are rows
                found[name] += sum(hits)
                known[name] += len(hits)
        yield f"{kind}, {_FILES} files", ", ".join(f"{name} {found[name] / known[name]:.3f}" for name in known)


def read_all(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """What came of the files in children of the sandbox, one each: codes, seconds and memory."""
    codes: Counter[str] = Counter()
    seconds, memory = [0.0], [0.0]
    with Sandbox(entry=_ENTRY) as sandbox:
        for name, body in files:
            started = time.perf_counter()
            try:
                document = sandbox.extract(Fetched("", 200, body), filename=name)
            except TrainingError as error:
                codes[error.code] += 1
                seconds.append(time.perf_counter() - started)
                print(f"  {name}: {error.code} after {seconds[-1]:.1f} s", file=sys.stderr)
                continue
            codes[document.title] += 1
            took, peak = json.loads(document.blocks[0].text)
            seconds.append(took)
            memory.append(peak)
    yield "files", str(sum(codes.values()))
    yield "outcomes", ", ".join(f"{code} {count}" for code, count in codes.most_common())
    yield "deaths and untyped errors", str(sum(count for code, count in codes.items() if code not in TYPED))
    yield SECONDS, _spread(seconds)
    yield MEMORY, _spread(memory)


def _spread(values: list[float]) -> str:
    cuts = quantiles([*values, values[-1]], n=100)
    return f"{cuts[49]:.3f} / {cuts[98]:.3f} / {max(values):.3f}"


def large() -> Iterator[tuple[str, bytes]]:
    """Files that are large and sound."""
    line = b"Some product,12.50,A sentence about it that is as long as such sentences are\n"
    head = b"Name,Price,Text\n"
    for name in _LARGE:
        if name.endswith("pdf"):
            yield name, manual(500)
        else:
            size = int(name.split(maxsplit=1)[0]) << 20
            yield name, head + line * (size // len(line))


def _folder(path: str) -> Iterator[tuple[str, bytes]]:
    for file in sorted(Path(path).rglob("*")):
        if file.is_file() and file.stat().st_size < 100 << 20:
            yield file.name, file.read_bytes()


def main(arguments: list[str]) -> None:
    """Prints all of it."""
    count = int(arguments[0]) if arguments else 2000
    _show("known content", kept())
    _show(f"{count} broken files", read_all(mutants(count, seed=1)))
    for name, body in large():
        _show(name, read_all([(name, body)]))
    _show("bombs", read_all(bombs().items()))
    for path in arguments[1:]:
        _show(os.fspath(path), read_all(_folder(path)))


def _show(title: str, rows: Iterable[tuple[str, str]]) -> None:
    print(title)
    for label, value in rows:
        print(f"  {label:<44} {value}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
