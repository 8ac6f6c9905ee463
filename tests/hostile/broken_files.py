"""Reads broken files through the real sandbox and counts what came of them: `python -m tests.hostile.broken_files [family …]`.

FILES=n mutants (5000) of SEED=n (1), made of sound files and those below CORPUS=folder; KEEP=folder gets the bad ones.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from structlog.testing import capture_logs
from structlog.typing import EventDict

from chat_api.core.errors import ServiceError, training_errors
from tests.bench.stage import percentile
from tests.hostile.broken_files_bombs import bombs
from tests.hostile.broken_files_reader import ENTRY
from tests.hostile.broken_files_seeds import File, found, made, mutants
from tests.workers.extract.processes import server_pids
from workers.documents import Fetched
from workers.extract.sandbox import Sandbox

TEXT, LINKS = "text", "no text, but links"
DOCUMENTED = frozenset(error.code for error in training_errors()) - {ServiceError.code}
GRACE_S = 10.0
"""How much later than its limit a document may end."""
_KIB = 1024
_NAMES = {"seconds": "seconds", "cpu": "child's CPU seconds", "mib": "child's peak MiB"}


class Outcome(NamedTuple):
    """What came of a file."""

    file: File
    code: str
    """`text`, or its links alone, an error's code, or how it ended that should not have been."""
    seconds: float
    """Until there was an answer, the child's start included."""
    cpu: float | None = None
    """The child's CPU seconds; None, like `mib`, where it was killed before it could say so."""
    mib: float | None = None
    """The child's memory at its peak."""
    signal: int = 0
    """What killed the child, where something did that nobody had sent."""
    raised: str = ""
    """What its reader raised that has no type of ours."""

    @property
    def untyped(self) -> bool:
        """Whether it is neither text nor an error that is documented."""
        return bool(self.raised) or self.code not in {TEXT, LINKS, *DOCUMENTED}


class Reader:
    """Reads files, each in a child of its own, and counts the fork servers that this took."""

    def __init__(self, sandbox: Sandbox, seconds: float, entry: str = ENTRY) -> None:
        self._sandbox, self._seconds, self._entry = sandbox, seconds, entry
        self._servers: set[int] = set()
        sandbox.extract(Fetched("https://files.example/", 200, b"echo"))  # the server's start is no file's time

    def read(self, file: File) -> Outcome:
        """What came of it."""
        fetched = Fetched("https://files.example/", 200, file.make())
        began = time.monotonic()
        with capture_logs() as logs:
            code, said = self._code(fetched, file.name)
        seconds = time.monotonic() - began
        self._servers.update(server_pids(self._entry))
        return Outcome(file, code, seconds, *_cost(said))._replace(**_death(logs))

    @property
    def servers_lost(self) -> int:
        """How many fork servers ended meanwhile."""
        return len(self._servers) - 1

    def late(self, outcome: Outcome) -> bool:
        """Whether the file took longer than it may."""
        return outcome.seconds > self._seconds + GRACE_S

    def _code(self, fetched: Fetched, name: str) -> tuple[str, str]:
        """The code, and what the child told of its cost."""
        try:
            document = self._sandbox.extract(fetched, filename=name)
        except ServiceError as error:
            return error.code, error.message
        except Exception as error:  # noqa: BLE001  # what this program is there to find
            return type(error).__name__, ""
        read = TEXT if document.blocks else LINKS if document.links else "nothing"
        return read, "".join(document.warnings)


def _cost(said: str) -> tuple[float | None, float | None]:
    """CPU seconds and MiB, as the child told them."""
    try:
        cpu, mib = json.loads(said)
    except ValueError:
        return None, None
    return cpu, mib


def _death(logs: Sequence[EventDict]) -> dict[str, Any]:
    """What the log has of a child that died: its peak, the signal, the exception."""
    found: dict[str, Any] = {}
    for entry in logs:
        if entry["event"] == "parser_died" and "status" in entry:
            status = int(entry["status"])
            found |= {"mib": entry["peak_kib"] / _KIB, "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}
        elif entry["event"] == "parser_died":
            found["raised"] = str(entry.get("raised", ""))
    return found


class Tally:
    """Counts outcomes and prints the table."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.outcomes: list[Outcome] = []
        self.bad: list[Outcome] = []
        """Untyped ones, late ones, and those that crashed their child."""

    def add(self, files: Iterable[File]) -> Iterator[Outcome]:
        """Reads the files; gives each outcome as it comes."""
        for file in files:
            outcome = self._reader.read(file)
            self.outcomes.append(outcome._replace(file=File(file.name, bytes, file.family)))
            if outcome.untyped or self._reader.late(outcome) or outcome.code == "parser_crashed":
                self.bad.append(outcome)
            yield outcome

    @property
    def zeros(self) -> dict[str, int]:
        """What must not happen, and how often it did."""
        return {
            "fork servers lost": self._reader.servers_lost,
            "children crashed": sum(one.code == "parser_crashed" and not one.raised for one in self.outcomes),
            "untyped errors": sum(one.untyped for one in self.outcomes),
            "hangs": sum(self._reader.late(one) for one in self.outcomes),
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """The table's lines."""
        families = Counter(one.file.family for one in self.outcomes)
        yield f"{len(self.outcomes):,} files", ", ".join(f"{name} {count:,}" for name, count in families.items())
        yield from ((name, str(count)) for name, count in self.zeros.items())
        kinds: dict[str, Counter[str]] = {}
        for one in self.outcomes:
            kinds.setdefault(one.file.kind, Counter())[one.code] += 1
        yield "outcomes", _counted(sum(kinds.values(), Counter()))
        yield from ((f"  {kind}", _counted(codes)) for kind, codes in sorted(kinds.items()))
        for family in families:
            mine = [one for one in self.outcomes if one.file.family == family]
            for name in ("seconds", "cpu", "mib"):
                yield f"{family}: {_NAMES[name]} p50 / p99 / max", _spread([getattr(one, name) for one in mine])
        for one in sorted(self.outcomes, key=lambda one: -one.seconds)[:10]:
            yield "slowest", _told(one)
        for one in sorted(self.outcomes, key=lambda one: -(one.mib or 0))[:10]:
            yield "largest", _told(one)
        yield from (("BAD", _told(one)) for one in self.bad)


def _counted(codes: Counter[str]) -> str:
    return ", ".join(f"{code} {count:,}" for code, count in codes.most_common())


def _spread(told: Iterable[float | None]) -> str:
    values = [value for value in told if value is not None]
    if len(values) < 2:
        return ", ".join(f"{value:.3f}" for value in values)
    return f"{percentile(values, 50):.3f} / {percentile(values, 99):.3f} / {max(values):.3f}"


def _told(one: Outcome) -> str:
    memory = f"{one.mib:.0f} MiB" if one.mib is not None else "no word of its memory"
    ended = f", signal {one.signal}" if one.signal else f", {one.raised}" if one.raised else ""
    return f"{one.file.name}: {one.code} after {one.seconds:.1f} s, {memory}{ended}"


def files(count: int, seed: int, corpus: Path | None) -> Iterator[File]:
    """All files of a run: the sound, the found, so many mutants, and the bombs."""
    sound = [*made(), *(found(corpus) if corpus else ())]
    return chain(sound, mutants(sound, count, seed), (File(name, make, "bomb") for name, make in bombs().items()))


def main(families: Sequence[str]) -> int:
    """Prints the table; 0 when nothing happened that must not."""
    given = {"FILES": 5000, "SEED": 1, "SECONDS": 120}
    count, seed, seconds = (int(os.environ.get(name, default)) for name, default in given.items())
    corpus, keep = os.environ.get("CORPUS"), os.environ.get("KEEP")
    wanted = (
        file for file in files(count, seed, Path(corpus) if corpus else None) if not families or file.family in families
    )
    with Sandbox(entry=ENTRY, timeout_s=seconds) as sandbox:
        tally = Tally(Reader(sandbox, seconds))
        for outcome in tally.add(wanted):
            if outcome in tally.bad:
                print(f"BAD {_told(outcome)}", file=sys.stderr, flush=True)
                if keep:
                    Path(keep).mkdir(parents=True, exist_ok=True)
                    Path(keep, outcome.file.name[-200:]).write_bytes(outcome.file.make())
        for label, value in tally.rows():
            print(f"{label:<44} {value}", flush=True)
        return int(any(tally.zeros.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
