"""Sources and runs in a real chat database, as the API would have left them, for tests of what workers make of them."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from chat_api.core.jobs import INSERT_RUNS, REMEMBER_SOURCES
from workers.runs import Run, claim

TABLES = (
    "embeddings", "chunks", "documents", "pages", "generations", "sources", "bots", "training_jobs", "leases",
)  # fmt: skip


def engine_of(dsn: str) -> Engine:
    """An engine whose every transaction has a connection of its own, however many threads ask."""
    return create_engine(make_url(dsn).set(drivername="postgresql+psycopg"), poolclass=NullPool)


@dataclass
class ChatRows:
    """One bot's sources and runs."""

    engine: Engine
    org_id: UUID = field(default_factory=uuid4)
    bot_id: UUID = field(default_factory=uuid4)

    def clear(self) -> None:
        """Forgets everything that tests have written."""
        with self.engine.begin() as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))

    def wait(self, source_id: UUID | None = None, *, priority: str = "interactive", **changes: object) -> UUID:
        """A waiting run, of a new source unless given; `changes` are columns of its row."""
        source_id, job_id = source_id or uuid4(), uuid4()
        values = {"org_id": self.org_id, "bot_ids": [self.bot_id], "source_ids": [source_id]}
        run = {"job_ids": [job_id], "priority": priority, "force": False, "request_id": None}
        with self.engine.begin() as connection:
            connection.execute(REMEMBER_SOURCES, {**values, "revive": True})
            connection.execute(INSERT_RUNS, {**values, **run})
        self.change(job_id, **changes)
        return job_id

    def claimed(self, source_id: UUID | None = None, **changes: object) -> Run:
        """A run that a worker has just claimed; `changes` are columns of its row afterwards."""
        job_id = self.wait(source_id)
        with self.engine.begin() as connection:
            run = claim(connection, "worker-1")
        assert run is not None
        assert run.job_id == job_id
        self.change(job_id, **changes)
        return run

    def change(self, job_id: UUID, **columns: object) -> None:
        """Sets columns of a run; a string in parentheses is SQL."""
        if columns:
            parts = [f"{name} = {_sql(name, value)}" for name, value in columns.items()]
            self.sql(f"UPDATE training_jobs SET {', '.join(parts)} WHERE job_id = :job_id", job_id=job_id, **columns)

    def job(self, job_id: UUID) -> dict[str, Any]:
        """A run's row."""
        return self.sql("SELECT * FROM training_jobs WHERE job_id = :job_id", job_id=job_id)[0]

    def sql(self, query: str, **values: object) -> list[dict[str, Any]]:
        """Rows as mappings, in a transaction of their own."""
        with self.engine.begin() as connection:
            result = connection.execute(text(query), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []


def _sql(name: str, value: object) -> str:
    return value if isinstance(value, str) and value.startswith("(") else f":{name}"
