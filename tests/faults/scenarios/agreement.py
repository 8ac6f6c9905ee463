"""R7: twelve faults between the two databases; how long a stack that sweeps by its own clock takes to agree again."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import psutil
import psycopg

from deploy.local import databases
from deploy.local.client import Refused
from tests.faults.check import live_chunks, read_markers
from tests.faults.report import Figure, at_most, none_of
from tests.faults.size import Size
from tests.faults.sources import Owner, Source, change_row
from tests.faults.sources import run as execute
from tests.faults.world import World, insist, until, world

WORKERS, SOURCES = 2, 24
TRAINED_S, AGREE_S, GIVEN_UP_S = 120.0, 120.0, 300.0
LATENCY_MS = 3000
AWAY_S = 15.0
"""For how long workers are down, or a column is missing."""
NEVER_TOLD = "UPDATE training_sources SET status = 'pending', status_version = 0, job_id = NULL WHERE id = %s"
A_DAY_AHEAD = "UPDATE training_sources SET created_at = now() + interval '1 day', updated_at = created_at WHERE id = %s"
DELETED = "UPDATE training_sources SET deleted_at = now(), updated_at = now() WHERE id = %s"
MOVED = "UPDATE training_sources SET org_id = %s, bot_id = %s, updated_at = now() WHERE id = %s"
RENAMED = "ALTER TABLE training_sources RENAME COLUMN {} TO {}"


@dataclass(slots=True)
class Fault:
    """A fault that has happened, and when both databases say the same again."""

    name: str
    agree: Callable[[], bool]
    began: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    """Until they agreed; None: they have not."""


def run(size: Size, broken: str = "") -> list[Figure]:
    """Seconds by fault."""
    with world(replace(size, workers=WORKERS), broken=broken) as made:
        bench = Bench(made)
        faults = bench.together()
        _watch(faults)
        for alone in (bench.column_dropped, bench.our_backup_restored, bench.dashboards_backup_restored):
            faults.append(alone())
            _watch(faults[-1:])
        wrong = [source for source in bench.owner.living() if not bench.right(source)]
    return [
        *(at_most("R7", one.name, one.seconds, AGREE_S, " s") for one in faults if one.seconds is not None),
        none_of("R7", "faults after which they never agreed", [one.name for one in faults if one.seconds is None]),
        none_of("R7", "sources that say not what they must", wrong),
    ]


def _watch(faults: Sequence[Fault]) -> None:
    deadline = time.monotonic() + GIVEN_UP_S
    while time.monotonic() < deadline and (waiting := [one for one in faults if one.seconds is None]):
        for one in waiting:
            if insist(one.agree):
                one.seconds = time.monotonic() - one.began
        time.sleep(0.2)


class Bench:
    """The faults, on sources that were trained before."""

    def __init__(self, made: World) -> None:
        self._made, self.owner = made, Owner(made)
        self._trained = [self.owner.create("text", number) for number in range(SOURCES)]
        for source in self._trained:
            self.owner.queue([source])
        if not until(lambda: all(map(self.right, self._trained)), TRAINED_S):
            raise TimeoutError("the sources were not trained")
        self._next = SOURCES

    def right(self, source: Source) -> bool:
        """Whether the source says what it must, and the dashboard that it does."""
        [row] = self._made.dashboard("SELECT status FROM training_sources WHERE id = %s", source.source_id)
        return row["status"] == "trained" and read_markers(self._chunks(source), source)

    def _chunks(self, source: Source) -> Sequence[tuple[str, str, int, int | None, str, bytes, str | None]]:
        return live_chunks(self._made.described["chat_db_dsn"]).get(source.source_id, ())

    def _silent(self, source: Source) -> bool:
        return not self._chunks(source)

    def _new(self) -> Source:
        self._next += 1
        return self.owner.create("text", self._next)

    def _agreed(self, name: str, source: Source, *, deleted: bool = False) -> Fault:
        source.deleted = deleted
        return Fault(name, lambda: (self._silent if deleted else self.right)(source))

    # --- faults that have a source each ------------------------------------------------------------------------------

    def together(self) -> list[Fault]:
        """Nine of them at once."""
        lost, down, gone, unqueued, moved = (self._trained.pop() for _ in range(5))
        faults = [self._edited_in_training()]
        execute(lost.client, NEVER_TOLD, lost.source_id)
        faults.append(self._agreed("a status write is lost", lost))
        with self._workers_down():
            execute(down.client, DELETED, down.source_id)
        faults.append(self._agreed("a row is deleted while the workers are down", down, deleted=True))
        execute(gone.client, "DELETE FROM training_sources WHERE id = %s", gone.source_id)
        faults.append(self._agreed("a row is removed from its table", gone, deleted=True))
        self._rewrite(unqueued)
        faults.append(self._agreed("an edit that nobody queues", unqueued))
        faults.append(self._moved(moved))
        faults.append(self._agreed("a row that nobody queues", self._new()))
        faults.append(self._queued_too_early())
        ahead = self._new()
        execute(ahead.client, A_DAY_AHEAD, ahead.source_id)
        faults.append(self._agreed("a row by a clock that is a day ahead", ahead))
        return faults

    def _rewrite(self, source: Source) -> None:
        source.articles[""] = source.articles[""].edited(self.owner.dice)
        change_row(source, self.owner.columns(source))

    def _edited_in_training(self) -> Fault:
        source = self._new()
        self._made.provider.controls.latency_ms = LATENCY_MS
        before = self._made.provider.counts.requests["embeddings"]
        self.owner.queue([source])
        until(lambda: self._made.provider.counts.requests["embeddings"] > before, TRAINED_S)
        self._rewrite(source)
        self._made.provider.controls.latency_ms = 0
        return self._agreed("an edit while it is trained", source)

    @contextlib.contextmanager
    def _workers_down(self) -> Iterator[None]:
        families = [process for name in self._made.workers for process in self._made.family(name)]
        for verb in (signal.SIGSTOP, signal.SIGCONT):
            for process in families:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(verb)
            if verb is signal.SIGSTOP:
                yield
                time.sleep(AWAY_S)

    def _moved(self, source: Source) -> Fault:
        place = next(n for n, client in enumerate(self._made.clients) if client is not source.client)
        org_id, bot_id = self._made.clients[place].org_id, self._made.bots[place]
        execute(source.client, MOVED, org_id, bot_id, source.source_id)
        return Fault(
            "a source moves to another org", lambda: self.right(source) and self._is_at(source, org_id, bot_id)
        )

    def _is_at(self, source: Source, org_id: UUID, bot_id: UUID) -> bool:
        places = "SELECT DISTINCT org_id, bot_id FROM chunks WHERE source_id = %s"
        return self._made.chat(places, source.source_id) == [{"org_id": org_id, "bot_id": bot_id}]

    def _queued_too_early(self) -> Fault:
        with contextlib.suppress(Refused):  # there is no such source yet
            self.owner.queue([self.owner.planned("text", self._next + 1)])
        return self._agreed("a queue call before its row is committed", self._new())

    # --- faults that everybody sees ----------------------------------------------------------------------------------

    def column_dropped(self) -> Fault:
        """A column is missing for a while, in which a source is made and another deleted."""
        deleted, kept = self._trained.pop(), self._new()
        execute(kept.client, RENAMED.format("options", "choices"))
        execute(deleted.client, DELETED, deleted.source_id)
        deleted.deleted = True
        time.sleep(AWAY_S)
        execute(kept.client, RENAMED.format("choices", "options"))
        return Fault("a column is dropped, and comes back", lambda: self._silent(deleted) and self.right(kept))

    def our_backup_restored(self) -> Fault:
        """What was trained since is trained again, what was deleted since stays deleted."""
        deleted = self._trained.pop()
        with self._restored(self._made.described["chat_db_dsn"]):
            later = self._new()
            self.owner.queue([later])
            until(lambda: insist(lambda: self.right(later)), TRAINED_S)
            self.owner.delete(deleted)
        return Fault(
            "our database is restored from a backup",
            lambda: self._silent(deleted) and self.right(later) and all(map(self.right, self._trained)),
        )

    def dashboards_backup_restored(self) -> Fault:
        """What was made since is no source any more; all others answer on, and are told again what they are."""
        retrained = self._trained[0]
        with self._restored(self._made.described["dashboard_db_dsn"]):
            later = self._new()
            for source in (later, retrained):
                self.owner.queue([source])
            until(lambda: insist(lambda: self.right(later)), TRAINED_S)
        later.deleted = True
        return Fault(
            "the dashboard's database is restored from a backup",
            lambda: self._silent(later) and all(map(self.right, self._trained)),
        )

    @contextlib.contextmanager
    def _restored(self, dsn: str) -> Iterator[None]:
        """A backup of the database, put in its place at the end under everybody's feet."""
        name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
        cluster = databases.dsn_of(dsn, "postgres")
        until(lambda: self._copied(cluster, f"{name}_backup", name), TRAINED_S)
        yield
        databases.drop(cluster, name)
        until(lambda: self._copied(cluster, name, f"{name}_backup"), TRAINED_S)

    def _copied(self, cluster: str, name: str, template: str) -> bool:
        with psycopg.connect(cluster, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [template])
        with contextlib.suppress(psycopg.errors.ObjectInUse):
            databases.create(cluster, name, template)
            return True
        return False
