"""Accepts runs: finds the sources in the dashboard, records one waiting run for each, and says which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import ARRAY, Row, Select, Uuid, any_, bindparam, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal, require_bot
from chat_api.core.database import TIME_LIMITS
from chat_api.core.errors import QuotaExceeded, ServiceError
from chat_api.core.jobs import INSERT_RUNS, REMEMBER_SOURCES, UNPIN, is_small
from chat_api.core.models.dashboard import (
    DashboardBot,
    File,
    Org,
    TrainingSource,
    beyond_quota,
    etag_of,
    row_version,
    version_of_row,
)
from chat_api.core.refusals import ForbiddenBot, UnknownBot, UnknownSource
from chat_api.core.telemetry import current_request_id
from chat_api.training.objects import Bucket

Priority = Literal["interactive", "bulk"]
ROWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class FoundSource:
    """A source as the dashboard has it now, without its content."""

    source_id: UUID
    bot_id: UUID
    version: str
    failed: bool
    """Whether its last training did not succeed."""
    source_type: str
    small: bool
    object_key: str | None = None
    """Of a file, where it is in the bucket."""


@dataclass(frozen=True, slots=True)
class AcceptedJob:
    """A source's run: a new one, or the one it already had."""

    job_id: UUID
    source_id: UUID
    status: str
    created: bool


Refused = tuple[UUID, ServiceError]
Rows = Select[TrainingSource, str | None, int | None]


def _sources(principal: Principal) -> Rows:
    return (
        select(TrainingSource, File.object_key, File.size_bytes)
        .join(DashboardBot, (DashboardBot.id == TrainingSource.bot_id) & (DashboardBot.org_id == TrainingSource.org_id))
        .outerjoin(File, (File.id == TrainingSource.file_id) & (File.org_id == TrainingSource.org_id))
        .where(TrainingSource.org_id == principal.org_id)
        .where(TrainingSource.deleted_at.is_(None), DashboardBot.deleted_at.is_(None))
    )


async def _found(dashboard: AsyncSession, sources: Rows) -> list[FoundSource]:
    """Reads a few rows at a time: a bot's texts together may be larger than the memory."""
    rows = await dashboard.stream(sources.execution_options(yield_per=ROWS_AT_ONCE))
    return [
        FoundSource(
            row.id,
            row.bot_id,
            row_version(row, object_key),
            bool(row.error_code),
            row.type,
            is_small(row.type, size),
            object_key if row.type == "file" else None,
        )
        async for row, object_key, size in rows
    ]


async def find_sources(
    dashboard: AsyncSession, principal: Principal, source_ids: Sequence[UUID]
) -> tuple[list[FoundSource], list[Refused]]:
    """The org's sources among `source_ids`, in their order, and for each other id why it can't be trained."""
    rows = await _found(dashboard, _sources(principal).where(TrainingSource.id.in_(source_ids)))
    beyond = await _beyond_quota(dashboard, principal, [source.source_id for source in rows])
    by_id = {source.source_id: source for source in rows}
    found: list[FoundSource] = []
    refused: list[Refused] = []
    for source_id in dict.fromkeys(source_ids):
        if source_id not in by_id:
            refused.append((source_id, UnknownSource()))
        elif principal.bot_id not in {None, by_id[source_id].bot_id}:
            refused.append((source_id, ForbiddenBot()))
        elif source_id in beyond:
            refused.append((source_id, QuotaExceeded()))
        else:
            found.append(by_id[source_id])
    return found, refused


async def find_bot_sources(
    dashboard: AsyncSession, principal: Principal, bot_id: UUID, after: UUID | None = None, most: int | None = None
) -> tuple[list[FoundSource], list[Refused]]:
    """A bot's sources by id, all or `most` of those after one, and those of them that are beyond the org's quota.

    Raises UnknownBot for a bot of another org, ForbiddenBot.
    """
    known = select(DashboardBot.id).where(
        DashboardBot.id == bot_id, DashboardBot.org_id == principal.org_id, DashboardBot.deleted_at.is_(None)
    )
    if (await dashboard.execute(known)).scalar_one_or_none() is None:
        raise UnknownBot
    require_bot(principal, bot_id)
    sources = _sources(principal).where(TrainingSource.bot_id == bot_id).order_by(TrainingSource.id).limit(most)
    rows = await _found(dashboard, sources.where(TrainingSource.id > after) if after else sources)
    beyond = await _beyond_quota(dashboard, principal, [source.source_id for source in rows])
    found = [source for source in rows if source.source_id not in beyond]
    return found, [(source.source_id, QuotaExceeded()) for source in rows if source.source_id in beyond]


async def _beyond_quota(dashboard: AsyncSession, principal: Principal, source_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that are younger than the org's first `limits.max_sources` sources."""
    limits = (await dashboard.execute(select(Org.limits).where(Org.id == principal.org_id))).scalar_one_or_none()
    first_beyond = beyond_quota(principal.org_id, limits)
    first = (await dashboard.execute(first_beyond)).one_or_none() if first_beyond is not None else None
    if first is None:
        return set()
    age = tuple_(TrainingSource.created_at, TrainingSource.id)
    among = TrainingSource.id == any_(bindparam("among", source_ids, ARRAY(Uuid())))  # more than a statement's values
    beyond = select(TrainingSource.id).where(among, age >= tuple_(*first))
    return set((await dashboard.execute(beyond)).scalars())


LIVE_VERSIONS = text("""
    SELECT source_id, source_version FROM sources JOIN generations USING (org_id, bot_id, source_id)
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = ANY (:source_ids) AND generation = live_generation
      AND sources.deleted_at IS NULL
""")
IN_TRAINING = text("""
    SELECT source_id FROM training_jobs
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = ANY (:source_ids) AND status IN ('waiting', 'running')
""")


async def needing_training(
    chat: AsyncSession, bucket: Bucket, org_id: UUID, found: Sequence[FoundSource]
) -> list[FoundSource]:
    """Those of a bot's sources that are not trained as they stand now, or are in training.

    While the bucket is asked for its files, no connection is held.
    """
    if not found:
        return []
    live = await _trained_versions(chat, org_id, found)
    await chat.rollback()
    trained = {
        source.source_id for source in found if not source.failed and _reads(live.get(source.source_id, ""), source)
    }
    now = await bucket.etags({key for source in found if source.source_id in trained and (key := source.object_key)})
    return [
        source for source in found if source.source_id not in trained or not _reads(live[source.source_id], source, now)
    ]


async def _trained_versions(chat: AsyncSession, org_id: UUID, found: Sequence[FoundSource]) -> dict[UUID, str]:
    """source id → the version that is live, of a bot's sources that are not in training."""
    values = {"org_id": org_id, "bot_id": found[0].bot_id, "source_ids": [source.source_id for source in found]}
    rows = (await chat.execute(LIVE_VERSIONS, values)).all()
    active = set((await chat.execute(IN_TRAINING, values)).scalars())
    return {row.source_id: row.source_version for row in rows if row.source_id not in active}


def _reads(version: str, source: FoundSource, etags: Mapping[str, str] | None = None) -> bool:
    """Whether this version is of the source as it stands now; `etags` has those of objects, by key, that are known."""
    etag = etag_of(version)
    same_object = not etag or (etags or {}).get(source.object_key or "", etag) == etag
    return same_object and version_of_row(version) == source.version


RUNNING = text("""
    SELECT job_id, bot_id, source_id, source_version FROM training_jobs
    WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND status = 'running'
""")
HASTEN = text("""
    UPDATE training_tasks SET run_after = now()
    WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND status = 'waiting' AND kind = 'read'
      AND run_after > now()
""")
"""A wish to train a source whose run waits for its next try: it is tried now."""
WITHDRAW = text("DELETE FROM training_jobs WHERE job_id = ANY (:job_ids)")


async def accept(
    chat: AsyncSession, bucket: Bucket, org_id: UUID, found: Sequence[FoundSource], *, priority: Priority, force: bool
) -> list[AcceptedJob]:
    """One run for each source, committed: the one it has, or a new one; a new one also behind a run of an older edit.

    Safe to call twice, from anywhere, at once: the database holds one waiting run per source, and while this
    transaction holds that row no worker can claim it.
    """
    etags = await _files_that_were_read(chat, bucket, org_id, found)
    await chat.execute(text(TIME_LIMITS))
    offered = {source.source_id: uuid4() for source in found}
    waiting = await _insert(chat, org_id, found, offered, {"priority": priority, "force": force})
    values = {"org_id": org_id, "source_ids": list(offered)}
    running = {row.source_id: row for row in await chat.execute(RUNNING, values)}
    jobs = []
    for source in found:
        created = waiting[source.source_id] == offered[source.source_id]
        run = running.get(source.source_id)
        if created and run and _serves(run, source, etags):
            jobs.append(AcceptedJob(run.job_id, source.source_id, "running", created=False))
        else:
            jobs.append(AcceptedJob(waiting[source.source_id], source.source_id, "waiting", created))
    kept = {job.job_id for job in jobs}
    await chat.execute(WITHDRAW, {"job_ids": [job_id for job_id in offered.values() if job_id not in kept]})
    await chat.commit()
    return jobs


async def _files_that_were_read(
    chat: AsyncSession, bucket: Bucket, org_id: UUID, found: Sequence[FoundSource]
) -> dict[str, str]:
    """Object key → its ETag now, of the files that runs under way have read; asked for before anything is locked."""
    keys = {source.source_id: source.object_key for source in found if source.object_key}
    if not keys:
        return {}
    running = (await chat.execute(RUNNING, {"org_id": org_id, "source_ids": list(keys)})).all()
    await chat.rollback()
    return await bucket.etags({keys[run.source_id] for run in running if etag_of(run.source_version or "")})


def _serves(run: Row[Any], source: FoundSource, etags: Mapping[str, str]) -> bool:
    """Whether the run reads the source as it stands now, for the bot that it is of; one that has read nothing yet will."""
    reads = run.source_version is None or _reads(run.source_version, source, etags)
    return bool(run.bot_id == source.bot_id) and reads


async def _insert(
    chat: AsyncSession, org_id: UUID, found: Sequence[FoundSource], offered: dict[UUID, UUID], run: dict[str, Any]
) -> dict[UUID, UUID]:
    """source id → its waiting run's id, the offered one where it had none."""
    values = {
        "org_id": org_id,
        "bot_ids": [source.bot_id for source in found],
        "source_ids": [source.source_id for source in found],
        "source_types": [source.source_type for source in found],
        "smalls": [source.small for source in found],
    }
    await chat.execute(REMEMBER_SOURCES, {**values, "revive": True})
    await chat.execute(UNPIN, values)
    await chat.execute(HASTEN, values)
    run = {**run, "job_ids": [offered[source.source_id] for source in found], "request_id": current_request_id()}
    rows = await chat.execute(INSERT_RUNS, {**values, **run})
    return {row.source_id: row.job_id for row in rows}
