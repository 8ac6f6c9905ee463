"""Accepts runs: finds the sources in the dashboard, records one waiting run for each, and says which."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth import Principal, require_bot
from chat_api.core.errors import ForbiddenBot, RequestError, UnknownSource
from chat_api.core.jobs import INSERT_RUNS, REMEMBER_SOURCES
from chat_api.core.models.dashboard import DashboardBot, File, TrainingSource, row_version
from chat_api.core.telemetry import current_request_id

Priority = Literal["interactive", "bulk"]
FoundSource = tuple[TrainingSource, str | None]


@dataclass(frozen=True, slots=True)
class AcceptedJob:
    """A source's run: a new one, or the one it already had."""

    job_id: UUID
    source_id: UUID
    status: str
    created: bool


@dataclass(slots=True)
class Accepted:
    """The answer to one queue call, in the order asked."""

    jobs: list[AcceptedJob] = field(default_factory=list)
    rejected: list[tuple[UUID, str]] = field(default_factory=list)

    @property
    def new_job_ids(self) -> list[UUID]:
        """The runs that a bell is owed."""
        return [job.job_id for job in self.jobs if job.created]


def _sources(principal: Principal) -> Select[TrainingSource, str | None]:
    return (
        select(TrainingSource, File.object_key)
        .join(DashboardBot, (DashboardBot.id == TrainingSource.bot_id) & (DashboardBot.org_id == TrainingSource.org_id))
        .outerjoin(File, (File.id == TrainingSource.file_id) & (File.org_id == TrainingSource.org_id))
        .where(TrainingSource.org_id == principal.org_id)
        .where(TrainingSource.deleted_at.is_(None), DashboardBot.deleted_at.is_(None))
    )


async def find_sources(
    dashboard: AsyncSession, principal: Principal, source_ids: Sequence[UUID]
) -> tuple[list[FoundSource], list[tuple[UUID, RequestError]]]:
    """The org's sources among `source_ids`, in their order, and for each other id why it can't be trained."""
    rows = await dashboard.execute(_sources(principal).where(TrainingSource.id.in_(source_ids)))
    by_id = {source.id: (source, object_key) for source, object_key in rows}
    found: list[FoundSource] = []
    refused: list[tuple[UUID, RequestError]] = []
    for source_id in dict.fromkeys(source_ids):
        if source_id not in by_id:
            refused.append((source_id, UnknownSource()))
        elif principal.bot_id not in {None, by_id[source_id][0].bot_id}:
            refused.append((source_id, ForbiddenBot()))
        else:
            found.append(by_id[source_id])
    return found, refused


async def find_bot_sources(dashboard: AsyncSession, principal: Principal, bot_id: UUID) -> list[FoundSource]:
    """All sources of a bot, oldest first. Raises UnknownResource for a bot of another org, ForbiddenBot."""
    known = select(DashboardBot.id).where(
        DashboardBot.id == bot_id, DashboardBot.org_id == principal.org_id, DashboardBot.deleted_at.is_(None)
    )
    if (await dashboard.execute(known)).scalar_one_or_none() is None:
        raise UnknownSource("There is no bot with this id.")
    require_bot(principal, bot_id)
    rows = await dashboard.execute(
        _sources(principal)
        .where(TrainingSource.bot_id == bot_id)
        .order_by(TrainingSource.created_at, TrainingSource.id)
    )
    return [(source, object_key) for source, object_key in rows]


LIVE_VERSIONS = text("""
    SELECT source_id, source_version FROM sources JOIN generations USING (org_id, bot_id, source_id)
    WHERE org_id = :org_id AND bot_id = :bot_id AND generation = live_generation AND sources.deleted_at IS NULL
""")


async def needing_training(chat: AsyncSession, org_id: UUID, found: Sequence[FoundSource]) -> list[FoundSource]:
    """Those of a bot's sources that are not trained as they stand now."""
    if not found:
        return []
    rows = await chat.execute(LIVE_VERSIONS, {"org_id": org_id, "bot_id": found[0][0].bot_id})
    live = {source_id: version.partition(":")[0] for source_id, version in rows}
    return [
        (source, object_key)
        for source, object_key in found
        if source.error_code or live.get(source.id) != row_version(source, object_key)
    ]


ACTIVE = text("""
    SELECT job_id, source_id, status, source_version FROM training_jobs
    WHERE org_id = :org_id AND source_id = ANY (:source_ids) AND status IN ('waiting', 'running')
    ORDER BY status = 'waiting'
""")


async def accept(
    chat: AsyncSession, org_id: UUID, found: Sequence[FoundSource], *, priority: Priority, force: bool
) -> list[AcceptedJob]:
    """One run for each source, committed: the one it has, or a new one; a new one also behind a run of an older edit.

    Safe to call twice, from anywhere, at once: the database holds one waiting run per source.
    """
    active = await _active(chat, org_id, [source.id for source, _ in found])
    needed = [(source, key) for source, key in found if not _serves(active.get(source.id), source, key)]
    created = await _insert(chat, org_id, [source for source, _ in needed], priority, force)
    if len(created) < len(needed):
        active |= await _active(chat, org_id, [source.id for source, _ in needed])
    await chat.commit()
    jobs = []
    for source, _ in found:
        if source.id in created:
            jobs.append(AcceptedJob(created[source.id], source.id, "waiting", created=True))
        else:
            row = active[source.id]
            jobs.append(AcceptedJob(row.job_id, source.id, row.status, created=False))
    return jobs


async def _active(chat: AsyncSession, org_id: UUID, source_ids: list[UUID]) -> dict[UUID, Row[Any]]:
    rows = await chat.execute(ACTIVE, {"org_id": org_id, "source_ids": source_ids})
    return {row.source_id: row for row in rows}


def _serves(row: Row[Any] | None, source: TrainingSource, object_key: str | None) -> bool:
    if row is None:
        return False
    if row.status == "waiting" or row.source_version is None:
        return True
    return bool(row.source_version.partition(":")[0] == row_version(source, object_key))


async def _insert(
    chat: AsyncSession, org_id: UUID, sources: list[TrainingSource], priority: Priority, force: bool
) -> dict[UUID, UUID]:
    values = {
        "org_id": org_id,
        "bot_ids": [source.bot_id for source in sources],
        "source_ids": [source.id for source in sources],
    }
    await chat.execute(REMEMBER_SOURCES, {**values, "revive": True})
    run = {"priority": priority, "force": force, "request_id": current_request_id()}
    rows = await chat.execute(INSERT_RUNS, {**values, **run})
    return {row.source_id: row.job_id for row in rows}
