"""The run under which an import writes a source: begun by this process, with a lease and a fence like any worker's."""

from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from chat_api.core.database import of_org
from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import EmbeddingUnavailable, ServiceError
from chat_api.core.jobs import REMEMBER_SOURCES
from chat_api.core.models.dashboard import DashboardBot
from workers.commands.archive import Definition, Manifest
from workers.commands.rows import Target
from workers.receipt import Receipt
from workers.store.generation import SPACE_CHANGED, open_generation, remember_bot
from workers.store.rows import Build
from workers.store.switch import switch, why_not
from workers.tasks.life import LEASE_S, Task, end_run, holder_name, note_versions, settle

HERE = text("""
    SELECT source.deleted_at IS NOT NULL AS deleted, source.live_generation IS NOT NULL AS live, job.request_id
    FROM sources AS source
    LEFT JOIN generations AS build ON (build.org_id, build.bot_id, build.source_id, build.generation)
                                    = (source.org_id, source.bot_id, source.source_id, source.live_generation)
    LEFT JOIN training_jobs AS job ON job.job_id = build.job_id
    WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.source_id = :source_id
""")
# Its task is nobody's to claim: it is under way from its first moment.
BEGIN = text("""
    WITH run AS (
        INSERT INTO training_jobs (job_id, org_id, bot_id, source_id, source_type, status, stage, priority, attempt,
                                   request_id, started_at)
        SELECT :job_id, :org_id, :bot_id, :source_id, :type, 'running', 'store', 'bulk', 1, :request_id, now()
        WHERE NOT EXISTS (SELECT FROM training_jobs WHERE org_id = :org_id AND source_id = :source_id
                          AND status IN ('waiting', 'running'))
        ON CONFLICT (org_id, source_id) WHERE status = 'running' DO NOTHING
        RETURNING job_id
    )
    INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, priority, status, attempt, fence, lease_holder,
                                lease_expires_at, started_at)
    SELECT job_id, :org_id, :bot_id, :source_id, 'read', 'bulk', 'running', 1, nextval('fences'), :holder,
           now() + make_interval(secs => :lease_s), now()
    FROM run RETURNING task_id, fence
""")
READ_BY = text("""
    UPDATE generations SET reader_version = :reader_version
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND generation = :generation
""")
OWN = text("""
    SELECT job_id FROM training_jobs
    WHERE org_id = :org_id AND source_id = :source_id AND status = 'waiting' AND request_id = :request_id
""")
SPACE = text("""
    SELECT model, dimensions FROM bots JOIN embedding_spaces USING (space_id)
    WHERE org_id = :org_id AND bot_id = :bot_id
""")


class InTheWay(ServiceError):
    """The source can't be imported as things stand."""

    code = "bad_command"
    retryable = False


def read_space(chat: Engine, target: Target) -> EmbeddingSpace | None:
    """The space that the bot reads, None where it reads none yet."""
    with of_org(chat, target.org_id).connect() as connection:
        row = connection.execute(SPACE, target.key).one_or_none()
    return EmbeddingSpace(*row) if row else None


def state_here(chat: Engine, target: Target, source_id: UUID, manifest: Manifest) -> str:
    """``, `deleted`, `live`, or `imported` where what answers comes from this very file."""
    with of_org(chat, target.org_id).connect() as connection:
        row = connection.execute(HERE, {**target.key, "source_id": source_id}).one_or_none()
    if row is None or not (row.deleted or row.live):
        return ""
    if row.deleted:
        return "deleted"
    return "imported" if row.request_id == _request_id(manifest) else "live"


def begin(
    connection: Connection, target: Target, source_id: UUID, definition: Definition, manifest: Manifest, *, revive: bool
) -> Task:
    """A run of the source that this process holds; `revive` lifts a tombstone. Raises InTheWay when it has another.

    One that an import of the same file left behind when it was killed, and that waits for a worker since, gives way.
    """
    ids = {"bot_ids": [target.bot_id], "source_ids": [source_id]}
    connection.execute(REMEMBER_SOURCES, {"org_id": target.org_id, **ids, "revive": revive})
    values: dict[str, Any] = {"job_id": uuid4(), "type": definition.type, "request_id": _request_id(manifest)}
    for left in connection.execute(OWN, {**target.key, **values, "source_id": source_id}).scalars().all():
        end_run(connection, left, "cancelled")
    row = connection.execute(
        BEGIN, {**target.key, **values, "source_id": source_id, "holder": holder_name(), "lease_s": LEASE_S}
    ).one_or_none()
    if row is None:
        raise InTheWay("it is waiting for its training, or being trained; import again when that is over")
    return Task(
        row.task_id, "read", values["job_id"], target.org_id, target.bot_id, source_id, definition.type, row.fence,
        1, False, 0.0, values["request_id"], None, 0, False, None, 0, {}, "bulk",
    )  # fmt: skip


def open_build(connection: Connection, task: Task, space: EmbeddingSpace, definition: Definition) -> Build:
    """The generation that the rows go into. Raises EmbeddingUnavailable where the bot reads another space by now."""
    note_versions(connection, [(task, definition.source_version)])
    build = open_generation(connection, task, space, definition.source_version, crawl=definition.crawl)
    if build.space != space:
        raise EmbeddingUnavailable(SPACE_CHANGED)
    org_id, bot_id, source_id, generation = build.key
    place = {"org_id": org_id, "bot_id": bot_id, "source_id": source_id, "generation": generation}
    connection.execute(READ_BY, {**place, "reader_version": definition.reader_version})
    return build


def make_live(connection: Connection, build: Build, receipt: Receipt) -> None:
    """Switches to the build and ends its run. Raises SourceDeleted, LeaseLostError, EmbeddingUnavailable."""
    if not switch(connection, [(build, receipt)]):
        raise why_not(connection, build.task)


def give_up(chat: Engine, task: Task) -> None:
    """Ends the run, and with it what it has built."""
    with chat.begin() as connection:
        settle(connection, task, "cancelled")


def know_bot(chat: Engine, dashboard: Engine, target: Target) -> None:
    """Makes the bot known to the chat database, as its first training would."""
    with Session(dashboard, expire_on_commit=False) as session:
        bot = session.get_one(DashboardBot, target.bot_id)
    with of_org(chat, target.org_id).begin() as connection:
        remember_bot(connection, bot)


def _request_id(manifest: Manifest) -> str:
    return f"import-{manifest.id}"
