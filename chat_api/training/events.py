"""Follows an org's jobs as they change, by one look a second at the chat database for all who watch that org."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from chat_api.core.database import DATABASE_DOWN, of_org
from chat_api.core.errors import DatabaseUnavailable
from chat_api.core.refusals import TooManyRequests
from chat_api.paging import MAX_LISTED
from chat_api.training.jobs import OF_BOT, Change, find_jobs, jobs_where, read_jobs

LOOK_EVERY_S = 1.0
LOOK_WITHIN_S = 10.0
LATE_S = 60.0
"""How long a transaction that has taken a `status_version` may take to commit, while greater ones are seen."""
LATE_VERSIONS = 1000
"""The same where no time is known: at the first look, and for an event that another process has sent."""
REMEMBERED = 10_000
IDLE_FEEDS = 1000
MAX_WATCHERS = 20
MAX_BEHIND = 10_000
ACTIVE = "status IN ('waiting', 'running')"
log = structlog.get_logger(__name__)

NEWEST = text("SELECT coalesce(max(status_version), 0) FROM training_jobs WHERE org_id = :org_id")
CHANGED = text("""
    SELECT job_id, status_version FROM training_jobs WHERE org_id = :org_id AND status_version > :floor
    ORDER BY status_version
""")
STANDING = jobs_where(f"{OF_BOT} AND status_version > :after AND (CAST(:all AS boolean) OR {ACTIVE})", "status_version")
LATE = jobs_where(
    f"{OF_BOT} AND status_version > :after - {LATE_VERSIONS} AND status_version <= :after", "status_version"
)


class TooManyStreams(TooManyRequests):
    """This organisation follows its jobs in too many places at once. Close one and try again."""

    code = "too_many_streams"


class Watcher:
    """One stream's view of a feed: what has changed since it last asked, each job once, as it is now."""

    def __init__(self, bot_id: UUID | None) -> None:
        self._bot_id = bot_id
        self._changes: dict[UUID, Change] = {}
        self._sent: dict[UUID, int] = {}
        self._news = asyncio.Event()
        self.lost = False
        """Whether the feed has ended: the database is away, or the stream too far behind."""

    def tell(self, changes: Sequence[Change]) -> None:
        """Keeps what is new of this stream's bot until it is asked for."""
        for change in changes:
            if self._bot_id in {None, change.job.bot_id}:
                self._changes[change.job.job_id] = change
        if len(self._changes) > MAX_BEHIND:
            self.lose()
        if self._changes:
            self._news.set()

    def lose(self) -> None:
        """Ends the stream."""
        self.lost = True
        self._news.set()

    async def news(self) -> list[Change]:
        """What has changed, in the order of versions; waits until there is something, or the feed is lost."""
        await self._news.wait()
        self._news.clear()
        taken, self._changes = self._changes, {}
        return self.unsent(list(taken.values()))

    def unsent(self, changes: Sequence[Change]) -> list[Change]:
        """Those of the changes that this stream has not been given, nor newer ones of the same job."""
        fresh = [change for change in changes if change.version > self._sent.get(change.job.job_id, 0)]
        self._sent |= {change.job.job_id: change.version for change in fresh}
        return sorted(fresh, key=lambda change: change.version)


class Feed:
    """One org's changes, looked for while somebody watches.

    Versions commit out of order, so each look begins at the newest version of a minute ago and leaves out what was seen.
    """

    def __init__(self, engine: AsyncEngine, org_id: UUID, cap: int) -> None:
        self._engine, self._org_id, self._cap = of_org(engine, org_id), org_id, cap
        self._seen: dict[UUID, int] = {}
        self._marks: deque[tuple[float, int]] = deque()
        self._found: deque[tuple[int, UUID, bool]] = deque(maxlen=REMEMBERED)
        """Versions in the order in which they were found, their jobs, and whether streams were told."""
        self._looking: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self.watchers: set[Watcher] = set()

    async def join(self, watcher: Watcher) -> None:
        """Has the watcher told of all that changes from now on. Raises what the database raises, DatabaseUnavailable."""
        self.watchers.add(watcher)
        try:
            async with self._starting, asyncio.timeout(LOOK_WITHIN_S):
                if self._looking is None or self._looking.done():
                    await self._look(tell=False)
                    self._looking = asyncio.create_task(self._keep_looking())
        except BaseException as error:
            self.watchers.discard(watcher)
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable from None
            raise

    async def standing(self, bot_id: UUID | None, after: int | None) -> AsyncIterator[list[Change]]:
        """What a new stream begins with, in the order of versions: what waits or runs, or what came after an event."""
        if after is not None:
            yield await self._late(bot_id, after)
        place, full = after or 0, True
        while full:
            async with AsyncSession(self._engine) as chat:
                changes = await read_jobs(
                    chat, STANDING, org_id=self._org_id, bot_id=bot_id, after=place, all=after is not None,
                    limit=MAX_LISTED, cap=self._cap,
                )  # fmt: skip
            yield changes
            full = len(changes) == MAX_LISTED
            place = changes[-1].version if changes else place

    async def _late(self, bot_id: UUID | None, after: int) -> list[Change]:
        """What has a lower version than the event `after` and came later; if that is not known, what may have.

        An event may then come twice, and is never left out.
        """
        found = list(self._found)
        place = next((place for place, (version, _, told) in enumerate(found) if told and version == after), None)
        async with AsyncSession(self._engine) as chat:
            if place is None:
                return await read_jobs(
                    chat, LATE, org_id=self._org_id, bot_id=bot_id, after=after, limit=LATE_VERSIONS, cap=self._cap
                )
            late = {job_id for version, job_id, _ in found[place + 1 :] if version < after}
            changes = await find_jobs(chat, self._org_id, list(late), cap=self._cap) if late else []
        return [change for change in changes if bot_id in {None, change.job.bot_id}]

    def stop(self) -> None:
        """Ends the looking, and with it all streams."""
        if self._looking:
            self._looking.cancel()

    async def _keep_looking(self) -> None:
        try:
            while self.watchers:
                await asyncio.sleep(LOOK_EVERY_S)
                async with asyncio.timeout(LOOK_WITHIN_S):
                    await self._look()
        except (*DATABASE_DOWN, TimeoutError) as error:
            log.warning("events_without_database", error=type(error).__name__)
        except Exception:  # the edge of a task of its own: its watchers must learn that it has ended
            log.exception("events_broke")
        finally:
            for watcher in self.watchers:
                watcher.lose()

    async def _look(self, *, tell: bool = True) -> None:
        async with AsyncSession(self._engine) as chat:
            newest: int = (await chat.execute(NEWEST, {"org_id": self._org_id})).scalar_one()
            floor = self._marks[0][1] if self._marks else newest - LATE_VERSIONS
            rows = [(row.job_id, row.status_version) for row in await chat.execute(
                CHANGED, {"org_id": self._org_id, "floor": floor}
            )]  # fmt: skip
            fresh = [(job_id, version) for job_id, version in rows if version > self._seen.get(job_id, 0)]
            told = tell and bool(self.watchers)
            # Before anybody is told: who resumes after one of these must find those that came with it.
            self._found.extend((version, job_id, told) for job_id, version in fresh)
            if told:
                await self._tell(chat, [job_id for job_id, _ in fresh])
        self._seen = dict(rows)  # what is older is not found again
        if not self._marks:
            self._mark(floor)  # what was taken before this look may commit after it
        self._mark(newest)

    async def _tell(self, chat: AsyncSession, job_ids: Sequence[UUID]) -> None:
        for first in range(0, len(job_ids), MAX_LISTED):
            some = job_ids[first : first + MAX_LISTED]
            changes = await find_jobs(chat, self._org_id, some, cap=self._cap)
            for watcher in self.watchers:
                watcher.tell(changes)

    def _mark(self, newest: int) -> None:
        now = time.monotonic()
        self._marks.append((now, newest))
        while len(self._marks) > 1 and self._marks[1][0] <= now - LATE_S:
            self._marks.popleft()


class Feeds:
    """The feeds of a process's orgs; `cap` is how many worker processes an org may keep busy."""

    def __init__(self, engine: AsyncEngine, *, cap: int) -> None:
        self._engine, self._cap = engine, cap
        self._feeds: OrderedDict[UUID, Feed] = OrderedDict()

    async def watch(self, org_id: UUID, bot_id: UUID | None) -> tuple[Feed, Watcher]:
        """A watcher of the org's jobs, or of one bot's, until it is taken off the feed's. Raises TooManyStreams."""
        feed = self._feeds.setdefault(org_id, Feed(self._engine, org_id, self._cap))
        self._feeds.move_to_end(org_id)
        if len(feed.watchers) >= MAX_WATCHERS:
            raise TooManyStreams
        watcher = Watcher(bot_id)
        await feed.join(watcher)
        self._forget_idle()
        return feed, watcher

    def _forget_idle(self) -> None:
        """Forgets the orgs that nobody has watched for longest."""
        for org_id in [org_id for org_id, feed in self._feeds.items() if not feed.watchers][:-IDLE_FEEDS]:
            del self._feeds[org_id]

    def close(self) -> None:
        """Ends all streams."""
        for feed in self._feeds.values():
            feed.stop()
