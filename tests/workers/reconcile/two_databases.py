"""Both databases with the real sweeper between them, a worker that only pretends to read, backups and restores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from redis import Redis
from sqlalchemy import Connection, Engine, make_url, text

from chat_api.core.database import Engines
from chat_api.core.errors import ServiceError
from chat_api.core.readable import readable
from chat_api.core.settings import Settings
from deploy.local import databases
from tests.servers import Servers
from tests.workers.chat_rows import ChatRows, engine_of, workers_engine
from workers.dashboard import load_sources
from workers.sweeper import Sweeper
from workers.tasks.claims import claim
from workers.tasks.life import Task, note_versions, settle

Row = dict[str, Any]
MAKE_LIVE = (
    "INSERT INTO embedding_spaces (space_id, model, dimensions) VALUES (1, 'm', 4) ON CONFLICT DO NOTHING",
    "INSERT INTO bots (org_id, bot_id, space_id) VALUES (:org_id, :bot_id, 1) ON CONFLICT DO NOTHING",
    "UPDATE generations SET state = CASE state WHEN 'live' THEN 'kept' ELSE 'discarded' END"
    " WHERE (org_id, bot_id, source_id) = (:org_id, :bot_id, :source_id) AND state IN ('live', 'kept')",
    "UPDATE sources SET last_generation = last_generation + 1, live_generation = last_generation + 1"
    " WHERE (org_id, bot_id, source_id) = (:org_id, :bot_id, :source_id)",
    "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version, switched_at)"
    " SELECT org_id, bot_id, source_id, live_generation, 'live', 1, :job_id, :version, now() FROM sources"
    " WHERE (org_id, bot_id, source_id) = (:org_id, :bot_id, :source_id)",
    "INSERT INTO chunks (org_id, bot_id, source_id, generation, chunk_id, document_id, ordinal, heading, text, tokens,"
    " embedded_sha256) SELECT org_id, bot_id, source_id, live_generation, gen_random_uuid(), gen_random_uuid(), 0, '', :text, 1,"
    " '\\x00' FROM sources WHERE (org_id, bot_id, source_id) = (:org_id, :bot_id, :source_id)",
    "INSERT INTO embeddings (org_id, bot_id, source_id, generation, space_id, chunk_id, vector)"
    " SELECT org_id, bot_id, source_id, generation, 1, chunk_id, '[1,0,0,0]' FROM chunks"
    " WHERE (org_id, bot_id, source_id) = (:org_id, :bot_id, :source_id) ON CONFLICT DO NOTHING",
)


@dataclass
class TwoDatabases:
    """One org with one bot; more are added at will."""

    cluster_dsn: str
    chat_dsn: str
    dashboard_dsn: str
    redis: "Redis"
    org_id: UUID = field(default_factory=uuid4)
    bot_id: UUID = field(default_factory=uuid4)
    admin: Engine = field(init=False)
    """The chat database, past all policies."""
    engines: Engines = field(init=False)
    """With the workers' login to the chat database."""
    sweeper: Sweeper = field(init=False)

    def __post_init__(self) -> None:
        self.admin = engine_of(self.chat_dsn)
        self.engines = Engines(workers_engine(self.admin), readable(engine_of(self.dashboard_dsn)))
        ChatRows(self.admin).clear()
        for table in ("training_sources", "files", "bots", "orgs"):
            self.there(f"DELETE FROM {table}")
        settings = Settings.model_construct(queue_name="bells", refresh_runs_per_org=2)
        self.sweeper = Sweeper(self.engines, self.redis, settings, "sweeper-1")
        self.there("INSERT INTO orgs (id, name) VALUES (:id, 'Org')", id=self.org_id)
        self.there("INSERT INTO bots (id, org_id, name) VALUES (:id, :org, 'Bot')", id=self.bot_id, org=self.org_id)

    # --- the dashboard's side ----------------------------------------------------------------------------------------

    def there(self, query: str, **values: object) -> list[Row]:
        """Rows of the dashboard database."""
        return _run(self.engines.dashboard, query, values)

    def add_bot(self, *, other_org: bool = False) -> tuple[UUID, UUID]:
        """A further bot, of the same org or of one of its own: (org id, bot id)."""
        org_id, bot_id = (uuid4() if other_org else self.org_id), uuid4()
        self.there("INSERT INTO orgs (id, name) VALUES (:id, 'Org') ON CONFLICT DO NOTHING", id=org_id)
        self.there("INSERT INTO bots (id, org_id, name) VALUES (:id, :org, 'Bot')", id=bot_id, org=org_id)
        return org_id, bot_id

    def add_source(self, words: str = "Words.", *, age_s: int = 120, **columns: object) -> UUID:
        """A text of the bot, written so many seconds ago."""
        values = {"id": uuid4(), "org_id": self.org_id, "bot_id": self.bot_id, "type": "text", **columns}
        names = ", ".join(values)
        self.there(
            f"INSERT INTO training_sources ({names}, content, created_at, updated_at)"
            f" SELECT {', '.join(':' + name for name in values)}, jsonb_build_object('text', CAST(:words AS text)), at, at"
            " FROM (SELECT now() - make_interval(secs => :age_s) AS at) AS made",
            **values,
            words=words,
            age_s=age_s,
        )
        return UUID(str(values["id"]))

    def edit(self, source_id: UUID, words: str, *, age_s: int = 120) -> None:
        """Gives a source other words, so many seconds ago."""
        self.there(
            "UPDATE training_sources SET content = jsonb_build_object('text', CAST(:words AS text)),"
            " updated_at = now() - make_interval(secs => :age_s) WHERE id = :id",
            id=source_id,
            words=words,
            age_s=age_s,
        )

    def row(self, source_id: UUID) -> Row:
        """A source's row."""
        return self.there("SELECT * FROM training_sources WHERE id = :id", id=source_id)[0]

    def status(self, source_id: UUID) -> str:
        """What the owner reads."""
        return str(self.row(source_id)["status"])

    # --- ours --------------------------------------------------------------------------------------------------------

    def here(self, query: str, **values: object) -> list[Row]:
        """Rows of the chat database."""
        return _run(self.admin, query, values)

    def answers(self) -> dict[UUID, str]:
        """What can be found now: source id → its words."""
        found = self.here(
            "SELECT source_id, text FROM sources JOIN chunks USING (org_id, bot_id, source_id)"
            " WHERE generation = live_generation AND deleted_at IS NULL"
        )
        return {row["source_id"]: row["text"] for row in found}

    def held(self) -> set[UUID]:
        """Sources whose removal waits for a word."""
        rows = self.here("SELECT source_id FROM sources WHERE removal_held_at IS NOT NULL AND deleted_at IS NULL")
        return {row["source_id"] for row in rows}

    def runs(self, source_id: UUID) -> list[str]:
        """Statuses of a source's runs, the oldest first."""
        found = self.here("SELECT status FROM training_jobs WHERE source_id = :id ORDER BY created_at", id=source_id)
        return [row["status"] for row in found]

    def claim(self) -> list[Task]:
        """What a worker takes."""
        with self.engines.chat.begin() as connection:
            return claim(connection, "worker-1", cap=1000)

    def work(self, error: ServiceError | None = None) -> int:
        """Trains all that is due, or has it fail with `error`; how many runs."""
        done = 0
        while tasks := self.claim():
            for task in tasks:
                self.finish(task, error)
            done += len(tasks)
        return done

    def finish(self, task: Task, error: ServiceError | None = None) -> None:
        """Ends one claimed run as a worker would: the row as it is now answers, unless it is gone or `error`."""
        loaded, errors = load_sources(self.engines.dashboard, [task])
        with self.admin.begin() as connection:
            if errors:
                settle(connection, task, "cancelled", error=errors[task.task_id])
                return
            found = loaded[task.task_id]
            note_versions(connection, [(task, found.row_version)])
            if error:
                settle(connection, task, "failed", error=error)
                return
            words = (found.source.content or {})["text"]
            _make_live(connection, task, found.row_version, words)
            settle(connection, task, "succeeded")

    def sweep(self, times: int = 1) -> None:
        """What the sweeper does in so many rounds."""
        for _ in range(times):
            assert self.sweeper.sweep()

    def converge(self) -> None:
        """Sweeps and works until both have nothing more to do: twelve rounds are a minute."""
        for _ in range(12):
            self.sweep()
            if not self.work() and not self.here(
                "SELECT 1 FROM training_jobs WHERE projected_version < status_version"
            ):
                return
        raise AssertionError("the databases do not come to rest")

    # --- backups -----------------------------------------------------------------------------------------------------

    @contextmanager
    def backup(self, dsn: str) -> Iterator[None]:
        """A backup of one database, which is what it is again at the end."""
        name = str(make_url(dsn).database)
        databases.create(self.cluster_dsn, f"{name}_backup", name)
        yield
        databases.drop(self.cluster_dsn, name)
        databases.create(self.cluster_dsn, name, f"{name}_backup")
        databases.drop(self.cluster_dsn, f"{name}_backup")


@contextmanager
def two_databases(servers: Servers, chat_dsn: str, dashboard_dsn: str, redis_url: str) -> Iterator[TwoDatabases]:
    """Both databases, emptied, and a Redis whose bells nobody hears."""
    with Redis.from_url(redis_url) as redis:
        yield TwoDatabases(servers.cluster_dsn, chat_dsn, dashboard_dsn, redis)


def _make_live(connection: Connection, task: Task, version: str, words: str) -> None:
    key = {"org_id": task.org_id, "bot_id": task.bot_id, "source_id": task.source_id}
    for statement in MAKE_LIVE:
        connection.execute(text(statement), {**key, "job_id": task.job_id, "version": version, "text": words})


def _run(engine: Engine, query: str, values: dict[str, object]) -> list[Row]:
    with engine.begin() as connection:
        result = connection.execute(text(query), values)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []
