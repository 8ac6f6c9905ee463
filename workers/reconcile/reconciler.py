"""Holds the two databases against each other, page by page, and brings them back together.

The dashboard says which sources there are and what is in them, we say how their training stands.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import ProgrammingError

from chat_api.core.database import DATABASE_DOWN, Engines
from chat_api.core.models.dashboard import missing_columns
from workers.reconcile.burial import GIVEN, arrays, bury
from workers.reconcile.dashboard_rows import DashboardRows
from workers.reconcile.queueing import Wanted, queue_runs
from workers.reconcile.verdicts import Known, Place, RunSeen, SourceRow, Verdicts, judge

PAGE = 10_000
SAY_AGAIN_S = 60.0
NAMED = 20
"""How many bots a line of the log names, those with the most sources first."""
BRAKE_SOURCES = 10
BRAKE_SHARE = 0.2
BRAKE_SHARE_OF_ALL = 0.5
FIRST = UUID(int=0)
log = structlog.get_logger(__name__)

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
        self._rows = DashboardRows(engines.dashboard)
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
            rows, last = self._rows.after(self._after, PAGE)
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
        there = self._rows.still_there(going)
        verdicts.missing = [place for place in verdicts.missing if place not in there]
        verdicts.bury = [place for place in verdicts.bury if place not in there]

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
            by_bot = Counter({str(bot.bot_id): bot.missing for bot in held})
            self._say("removals_held", bots=len(held), sources=by_bot.total(), most=dict(by_bot.most_common(NAMED)))
        with self._engines.chat.connect() as connection:
            gone = connection.execute(MISSING_OF, {"bot_ids": list(let_go), "page": PAGE}).all()
        buried = bury(self._engines.chat, [Place(*row) for row in gone], marked=True)
        if buried:
            by_bot = Counter(str(place.bot_id) for place in buried)
            log.info("removed_missing", sources=len(buried), most=dict(by_bot.most_common(NAMED)))

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
    places: dict[UUID, list[Known]] = defaultdict(list)
    for row in found:
        places[row.source_id].append(_known(row))
    verdicts = Verdicts()
    for source in rows:
        judge(verdicts, source, places.pop(source.place.source_id, []))
    for left in places.values():
        judge(verdicts, None, left)
    return verdicts


def _known(row: Row[Any]) -> Known:
    newest = running = None
    if row.job_id:
        words = (row.error_code, row.status_version, row.projected_version)
        newest = RunSeen(row.job_id, row.status, row.source_version, *words)
    if row.running_job_id:
        running = RunSeen(row.running_job_id, "running", row.running_version, None, 0, 0)
    place = Place(row.org_id, row.bot_id, row.source_id)
    return Known(place, row.buried, row.gone, row.pinned_version, row.live_version, newest, running)


def _wanted(row: SourceRow) -> Wanted:
    return Wanted(*row.place, row.source_type, row.small)
