"""Sources and runs in a real chat database, as the API would have left them, for tests of what workers make of them."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool

from chat_api.core.database import begin_work, of_org
from chat_api.core.jobs import INSERT_RUNS, REMEMBER_SOURCES
from deploy.local.databases import WORKERS
from tests.servers import as_role
from workers.tasks.claims import claim
from workers.tasks.life import Task

TABLES = (
    "quantized_bots", "embeddings", "chunks", "documents", "pages", "generations", "sources", "bots", "training_tasks", "training_jobs",
    "usage_days", "leases",
)  # fmt: skip


def engine_of(dsn: str) -> Engine:
    """An engine whose every transaction has a connection of its own, however many threads ask."""
    return create_engine(make_url(dsn).set(drivername="postgresql+psycopg"), poolclass=NullPool)


def workers_engine(admin: Engine) -> Engine:
    """An engine to the same chat database, with the workers' login and limits."""
    engine = engine_of(as_role(admin.url.render_as_string(hide_password=False), WORKERS))
    event.listen(engine, "begin", begin_work)
    return engine


@dataclass
class ChatRows:
    """One bot's sources and runs. `admin` is past all policies; `engine` is what the code under test gets."""

    admin: Engine
    org_id: UUID = field(default_factory=uuid4)
    bot_id: UUID = field(default_factory=uuid4)
    engine: Engine = field(init=False)
    """The workers' login, which sees the bot's org."""

    def __post_init__(self) -> None:
        self.engine = of_org(workers_engine(self.admin), self.org_id)

    def clear(self) -> None:
        """Forgets everything that tests have written."""
        with self.admin.begin() as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))

    def wait(
        self,
        source_id: UUID | None = None,
        *,
        org_id: UUID | None = None,
        priority: str = "interactive",
        source_type: str = "url",
        small: bool = False,
        **changes: object,
    ) -> UUID:
        """A waiting run with its first task, of a new source unless given; `changes` are columns of the task."""
        job_id = uuid4()
        values = {
            **{"org_id": org_id or self.org_id, "bot_ids": [self.bot_id], "source_ids": [source_id or uuid4()]},
            **{"source_types": [source_type], "smalls": [small], "job_ids": [job_id], "priority": priority},
        }
        with self.admin.begin() as connection:
            connection.execute(REMEMBER_SOURCES, {**values, "revive": True})
            connection.execute(INSERT_RUNS, {**values, "force": False, "request_id": None})
        self.change_task(job_id, **changes)
        return job_id

    def claimed(self, source_id: UUID | None = None, *, holder: str = "worker-1", **changes: object) -> Task:
        """A run's first task that a worker has just claimed; `changes` are columns of the task afterwards."""
        job_id = self.wait(source_id)
        with self.engine.begin() as connection:
            [task] = claim(connection, holder, cap=1000)
        assert task.job_id == job_id
        self.change_task(job_id, **changes)
        return task

    def add_task(self, kind: str, task: Task | None = None, **columns: object) -> int:
        """A further task, waiting unless said otherwise: of another one's run, or of no run; its id."""
        values = {
            **{"job_id": task.job_id if task else None, "org_id": task.org_id if task else self.org_id},
            **{"bot_id": self.bot_id, "source_id": task.source_id if task else uuid4(), "kind": kind, **columns},
        }
        [row] = self.sql(
            f"INSERT INTO training_tasks ({', '.join(values)}) VALUES"
            f" ({', '.join(_sql(name, value) for name, value in values.items())}) RETURNING task_id",
            **values,
        )
        return int(row["task_id"])

    def change(self, job_id: UUID | None, **columns: object) -> None:
        """Sets columns of a run; a string in parentheses is SQL."""
        self._change("training_jobs", "job_id", job_id, columns)

    def change_task(self, key: UUID | int, **columns: object) -> None:
        """Sets columns of a task, or of all tasks of a run; a string in parentheses is SQL."""
        self._change("training_tasks", "task_id" if isinstance(key, int) else "job_id", key, columns)

    def _change(self, table: str, key: str, value: UUID | int | None, columns: dict[str, object]) -> None:
        if columns:
            parts = [f"{name} = {_sql(name, new)}" for name, new in columns.items()]
            self.sql(f"UPDATE {table} SET {', '.join(parts)} WHERE {key} = :key", key=value, **columns)

    def job(self, job_id: UUID | None) -> dict[str, Any]:
        """A run's row."""
        return self.sql("SELECT * FROM training_jobs WHERE job_id = :job_id", job_id=job_id)[0]

    def task(self, key: UUID | int) -> dict[str, Any]:
        """A task's row, or that of a run's first task."""
        name = "task_id" if isinstance(key, int) else "job_id"
        return self.sql(f"SELECT * FROM training_tasks WHERE {name} = :key ORDER BY task_id", key=key)[0]

    def sql(self, query: str, **values: object) -> list[dict[str, Any]]:
        """Rows as mappings, in a transaction of their own."""
        with self.admin.begin() as connection:
            result = connection.execute(text(query), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []


def _sql(name: str, value: object) -> str:
    return value if isinstance(value, str) and value.startswith("(") else f":{name}"
