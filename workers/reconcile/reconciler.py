"""Holds the two databases against each other, page by page, and brings them back together.

The dashboard says which sources there are and what is in them, we say how their training stands.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, TextClause, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from chat_api.core.database import DATABASE_DOWN, Engines
from chat_api.core.jobs import is_small
from chat_api.core.models.dashboard import File, TrainingSource, missing_columns, row_version
from workers.reconcile.burial import GIVEN, arrays, bury
from workers.reconcile.queueing import Wanted, queue_runs
from workers.reconcile.verdicts import Held, Place, RunSeen, SourceRow, Verdicts, judge

PAGE = 10_000
HASHED_AT_ONCE = 500
MOST_VERSIONS = 100_000
READ_S = 5.0
"""How long one sweep may read contents; the page ends where the time does."""
SAY_AGAIN_S = 60.0
BRAKE_SOURCES = 10
BRAKE_SHARE = 0.2
BRAKE_SHARE_OF_ALL = 0.5
FIRST = UUID(int=0)
log = structlog.get_logger(__name__)

# What may be large is not read here: the marks say whether it can have changed since it was.
ROWS = text("""
    SELECT source.id, source.org_id, source.bot_id, source.type, file.object_key, file.size_bytes,
           CASE WHEN bot.org_id = source.org_id AND bot.deleted_at IS NOT NULL THEN 'bot'
                WHEN source.deleted_at IS NULL AND bot.org_id = source.org_id AND org.id IS NOT NULL THEN ''
                ELSE 'source' END AS gone,
           CAST(extract(epoch FROM now() - greatest(source.created_at, source.updated_at)) AS float8) AS age_s,
           source.status, source.status_version, source.error_code, source.job_id,
           CAST(source.xmin AS text) AS written_by, CAST(source.ctid AS text) AS written_at, source.updated_at
    FROM training_sources AS source
    LEFT JOIN bots AS bot ON bot.id = source.bot_id
    LEFT JOIN orgs AS org ON org.id = source.org_id
    LEFT JOIN files AS file ON file.id = source.file_id AND file.org_id = source.org_id
    WHERE source.id > :after ORDER BY source.id LIMIT :page
""")
HELD = text("""
    SELECT source.org_id, source.bot_id, source.source_id, source.deleted_at IS NOT NULL AS buried,
           source.removal_held_at IS NOT NULL AS gone, source.pinned_version, live.source_version AS live_version,
           newest.job_id, newest.status, newest.source_version, newest.error_code, newest.status_version,
           newest.projected_version, running.job_id AS running_job_id, running.source_version AS running_version
    FROM (SELECT * FROM sources WHERE source_id > :after AND (CAST(:last AS uuid) IS NULL OR source_id <= :last)
          ORDER BY source_id FETCH FIRST :page ROWS WITH TIES) AS source
    LEFT JOIN generations AS live
      ON (live.org_id, live.bot_id, live.source_id) = (source.org_id, source.bot_id, source.source_id)
         AND live.generation = source.live_generation
    LEFT JOIN LATERAL (
        SELECT * FROM training_jobs AS job
        WHERE (job.org_id, job.bot_id, job.source_id) = (source.org_id, source.bot_id, source.source_id)
        ORDER BY created_at DESC, status = 'waiting' DESC LIMIT 1
    ) AS newest ON true
    LEFT JOIN training_jobs AS running
      ON running.org_id = source.org_id AND running.source_id = source.source_id AND running.bot_id = source.bot_id
         AND running.status = 'running'
    ORDER BY source.source_id
""")
CLOCK = text("SELECT now()")
STILL_THERE = text("""
    SELECT source.org_id, source.bot_id, source.id FROM training_sources AS source
    JOIN bots AS bot ON bot.id = source.bot_id AND bot.org_id = source.org_id
    JOIN orgs AS org ON org.id = source.org_id
    WHERE source.id = ANY (:source_ids) AND source.deleted_at IS NULL AND bot.deleted_at IS NULL
""")


def _on_places(change: str) -> TextClause:
    """Changes rows of the given sources, held in the order in which everybody holds them."""
    return text(f"""
        WITH held AS (SELECT org_id, bot_id, source_id FROM sources JOIN {GIVEN} USING (org_id, bot_id, source_id)
                      ORDER BY source_id, bot_id FOR UPDATE OF sources)
        UPDATE sources SET {change}
          AND (sources.org_id, sources.bot_id, sources.source_id) = (held.org_id, held.bot_id, held.source_id)
    """)  # noqa: S608  # the changes are this module's own


MARK = _on_places("removal_held_at = now() FROM held WHERE removal_held_at IS NULL AND deleted_at IS NULL")
UNMARK = _on_places("removal_held_at = NULL FROM held WHERE deleted_at IS NULL")
LIFT = _on_places("deleted_at = NULL, removal_held_at = NULL FROM held WHERE removal_held_at IS NOT NULL")
SEQUENCE_AHEAD = text("SELECT setval('status_versions', :version) FROM status_versions WHERE last_value < :version")
STAND_FOR = text("""
    UPDATE training_jobs SET source_version = :version
    WHERE job_id = :job_id AND source_version IS NULL AND finished_at IS NOT NULL
""")
TELL_AGAIN = text("""
    UPDATE training_jobs SET status_version = nextval('status_versions')
    WHERE job_id = ANY (:job_ids) AND projected_version >= status_version
""")
MISSING = text("""
    SELECT org_id, bot_id, count(*) AS live, count(removal_held_at) AS missing FROM sources
    WHERE live_generation IS NOT NULL AND deleted_at IS NULL
      AND EXISTS (SELECT FROM sources WHERE removal_held_at IS NOT NULL AND deleted_at IS NULL)
    GROUP BY org_id, bot_id
""")
MISSING_OF = text("""
    SELECT org_id, bot_id, source_id FROM sources
    WHERE bot_id = ANY (:bot_ids) AND removal_held_at IS NOT NULL AND deleted_at IS NULL
      AND live_generation IS NOT NULL LIMIT :page
""")
DELETED_BOTS = text("SELECT id FROM bots WHERE id = ANY (:bot_ids) AND deleted_at IS NOT NULL")
NO_ORGS = text("SELECT NOT EXISTS (SELECT FROM orgs)")


class Reconciler:
    """Covers the whole dashboard in turn, one page in each sweep; nothing is held across the two databases."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._after = FIRST
        self._versions: dict[UUID, tuple[int, str]] = {}
        self._said: dict[str, float] = {}

    def reconcile(self) -> bool:
        """Settles one page of sources; after the last one, what was found missing in the whole round is removed.

        Whether more pages follow. A dashboard that is away, or lacks columns, leaves everything as it is.
        """
        looked = self._look()
        if looked is None:
            return False
        verdicts, seen_at = looked
        self._act(verdicts, seen_at)
        if self._after == FIRST:
            self._remove_missing()
        return self._after != FIRST

    def survey(self) -> Verdicts | None:
        """What is to be done for all sources, and nothing done; None when the dashboard can't be read."""
        whole = Verdicts()
        while looked := self._look():
            for name in ("queue", "lift", "back", "missing", "bury", "delete_again", "tell"):
                getattr(whole, name).extend(getattr(looked[0], name))
            if self._after == FIRST:
                return whole
        return None

    def _look(self) -> tuple[Verdicts, datetime] | None:
        """What one page asks for, and when it was seen."""
        try:
            with self._engines.dashboard.connect() as connection:
                lacking = missing_columns(connection)
            if lacking:
                self._say("dashboard_columns_missing", columns=lacking)
                return None
            rows, last = self._rows()
        except (*DATABASE_DOWN, ProgrammingError) as error:
            self._say("dashboard_not_readable", error=type(error).__name__)
            return None
        with self._engines.chat.connect() as connection:
            seen_at: datetime = connection.execute(CLOCK).scalar_one()
            found = connection.execute(HELD, {"after": self._after, "last": last, "page": PAGE}).all()
        if len(found) >= PAGE:  # we hold more than the dashboard has here: the rest is the next page
            last = found[-1].source_id
        verdicts = _judged((row for row in rows if last is None or row.place.source_id <= last), found)
        try:
            self._spare_what_is_there(verdicts)
        except (*DATABASE_DOWN, ProgrammingError) as error:
            self._say("dashboard_not_readable", error=type(error).__name__)
            return None
        self._after = last or FIRST
        return verdicts, seen_at

    def _spare_what_is_there(self, verdicts: Verdicts) -> None:
        """Asks again for what would be removed.

        We may have been stopped, or have read for long, since the rows were read; what was made since is no removal.
        """
        going = [place.source_id for place in (*verdicts.missing, *verdicts.bury)]
        if not going:
            return
        with self._engines.dashboard.connect() as connection:
            there = {Place(*row) for row in connection.execute(STILL_THERE, {"source_ids": going})}
        verdicts.missing = [place for place in verdicts.missing if place not in there]
        verdicts.bury = [place for place in verdicts.bury if place not in there]

    def _rows(self) -> tuple[list[SourceRow], UUID | None]:
        """The dashboard's next rows, with their versions; and the id at which the page ends, None at the last page."""
        if len(self._versions) > MOST_VERSIONS:
            self._versions.clear()
        with self._engines.dashboard.connect() as connection:
            found = connection.execute(ROWS, {"after": self._after, "page": PAGE}).all()
        last = found[-1].id if len(found) == PAGE else None
        marks = {row.id: hash((row.written_by, row.written_at, row.updated_at, row.object_key)) for row in found}
        unread = [row.id for row in found if not row.gone and self._versions.get(row.id, (0, ""))[0] != marks[row.id]]
        read = self._read_versions(unread, marks)
        if read < len(unread):
            last = unread[read]
            found = [row for row in found if row.id < last]
            last = found[-1].id if found else None
        return [self._row(row) for row in found], last

    def _read_versions(self, source_ids: Sequence[UUID], marks: dict[UUID, int]) -> int:
        """Reads the contents of rows that may have changed, for so long as one sweep may; how many were read."""
        until, read = time.monotonic() + READ_S, 0
        with Session(self._engines.dashboard) as session:
            while read < len(source_ids) and (not read or time.monotonic() < until):
                some = source_ids[read : read + HASHED_AT_ONCE]
                whole = select(TrainingSource, File.object_key).where(TrainingSource.id.in_(some))
                whole = whole.outerjoin(
                    File, (File.id == TrainingSource.file_id) & (File.org_id == TrainingSource.org_id)
                )
                for source, object_key in session.execute(whole):
                    self._versions[source.id] = (marks[source.id], row_version(source, object_key))
                session.expunge_all()
                read += len(some)
        return read

    def _row(self, row: Row[Any]) -> SourceRow:
        return SourceRow(
            place=Place(row.org_id, row.bot_id, row.id),
            source_type=row.type,
            small=is_small(row.type, row.size_bytes),
            gone=row.gone or ("" if row.id in self._versions else "source"),  # deleted while it was read
            age_s=row.age_s,
            status=row.status,
            status_version=row.status_version,
            error_code=row.error_code,
            job_id=row.job_id,
            version=self._versions.get(row.id, (0, ""))[1],
        )

    def _act(self, verdicts: Verdicts, seen_at: datetime) -> None:
        chat = self._engines.chat
        with chat.begin() as connection:
            connection.execute(SEQUENCE_AHEAD, {"version": verdicts.newest_version})
            for change, places in ((MARK, verdicts.missing), (UNMARK, verdicts.back), (LIFT, verdicts.lift)):
                if places:
                    connection.execute(change, arrays(places))
        buried = bury(chat, verdicts.bury) + bury(chat, verdicts.delete_again, for_good=True)
        with chat.begin() as connection:
            if verdicts.stand_for:
                ended = [{"job_id": job_id, "version": version} for job_id, version in verdicts.stand_for]
                connection.execute(STAND_FOR, ended)
            if verdicts.tell:
                connection.execute(TELL_AGAIN, {"job_ids": verdicts.tell})
        queued = queue_runs(chat, map(_wanted, verdicts.queue), seen_at=seen_at)
        counts = {"queued": len(queued), "told_again": len(verdicts.tell), "buried": len(buried)}
        counts |= {"missing": len(verdicts.missing), "back": len(verdicts.back) + len(verdicts.lift)}
        if any(counts.values()):
            log.info("reconciled", **counts)

    def _remove_missing(self) -> None:
        """Buries what the round did not find, but for bots of which too much would go: that waits for the operator."""
        with self._engines.chat.connect() as connection:
            bots = connection.execute(MISSING).all()
        if not any(bot.missing for bot in bots):
            return
        held = self._held(bots)
        let_go = {bot.bot_id for bot in bots if bot.missing} - {bot.bot_id for bot in held}
        if held:
            self._say("removals_held", bots=len(held), sources=sum(bot.missing for bot in held))
        with self._engines.chat.connect() as connection:
            gone = connection.execute(MISSING_OF, {"bot_ids": list(let_go), "page": PAGE}).all()
        buried = bury(self._engines.chat, [Place(*row) for row in gone], marked=True)
        if buried:
            log.info("removed_missing", sources=len(buried))

    def _held(self, bots: Sequence[Row[Any]]) -> list[Row[Any]]:
        """The bots of which too much would go; none that was deleted on purpose."""
        with self._engines.dashboard.connect() as connection:
            deleted = set(connection.execute(DELETED_BOTS, {"bot_ids": [bot.bot_id for bot in bots]}).scalars())
            emptied = connection.execute(NO_ORGS).scalar_one()
        others = [bot for bot in bots if bot.bot_id not in deleted]
        emptied |= _brakes(others, BRAKE_SHARE_OF_ALL)
        return [bot for bot in others if bot.missing and (emptied or _brakes([bot], BRAKE_SHARE))]

    def _say(self, event: str, **what: Any) -> None:
        """Logs a lasting trouble once a minute."""
        if time.monotonic() - self._said.get(event, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said[event] = time.monotonic()
            log.warning(event, **what)


def _brakes(bots: Sequence[Row[Any]], share: float) -> bool:
    """Whether too much of these bots' answering sources would go at once."""
    missing, live = sum(bot.missing for bot in bots), sum(bot.live for bot in bots)
    return bool(missing > max(BRAKE_SOURCES, share * live))


def _judged(rows: Iterable[SourceRow], found: Sequence[Row[Any]]) -> Verdicts:
    places: dict[UUID, list[Held]] = defaultdict(list)
    for row in found:
        places[row.source_id].append(_held(row))
    verdicts = Verdicts()
    for source in rows:
        judge(verdicts, source, places.pop(source.place.source_id, []))
    for left in places.values():
        judge(verdicts, None, left)
    return verdicts


def _held(row: Row[Any]) -> Held:
    newest = running = None
    if row.job_id:
        words = (row.error_code, row.status_version, row.projected_version)
        newest = RunSeen(row.job_id, row.status, row.source_version, *words)
    if row.running_job_id:
        running = RunSeen(row.running_job_id, "running", row.running_version, None, 0, 0)
    place = Place(row.org_id, row.bot_id, row.source_id)
    return Held(place, row.buried, row.gone, row.pinned_version, row.live_version, newest, running)


def _wanted(row: SourceRow) -> Wanted:
    return Wanted(*row.place, row.source_type, row.small)
