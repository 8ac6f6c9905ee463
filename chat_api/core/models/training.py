"""Runs and the tasks they are done in, and the leases under which the work is held."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.core.models.chat import ChatBase, one_of, status_version_sequence

JOB_STATUSES = ("waiting", "running", "succeeded", "failed", "cancelled", "quarantined")
STAGES = ("fetch", "extract", "chunk", "embed", "store")
TASK_KINDS = ("read", "pages", "finish", "dry_run", "reembed")
TASK_STATUSES = ("waiting", "running", "done")


class TrainingJob(ChatBase):
    """A run, as the owner sees it; its work is done in tasks.

    `status_version` grows with every change the owner can see, and `projected_version` follows when the dashboard's row
    has been told.
    """

    __tablename__ = "training_jobs"
    __table_args__ = (
        CheckConstraint(one_of("status", JOB_STATUSES), name="status"),
        CheckConstraint(one_of("stage", STAGES), name="stage"),
        CheckConstraint(one_of("priority", ("interactive", "bulk")), name="priority"),
        Index(
            "training_jobs_one_waiting", "org_id", "source_id", unique=True, postgresql_where=text("status = 'waiting'")
        ),
        Index(
            "training_jobs_one_running", "org_id", "source_id", unique=True, postgresql_where=text("status = 'running'")
        ),
        Index("training_jobs_unprojected", "job_id", postgresql_where=text("projected_version < status_version")),
        Index("training_jobs_source", "org_id", "bot_id", "source_id", "created_at"),
        Index("training_jobs_listed", "org_id", "created_at", "job_id"),
        Index("training_jobs_events", "org_id", "status_version"),
        Index("training_jobs_finished", "finished_at"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID]
    bot_id: Mapped[UUID]
    source_id: Mapped[UUID]
    source_type: Mapped[str] = mapped_column(server_default="url")
    status: Mapped[str] = mapped_column(server_default="waiting")
    stage: Mapped[str | None]
    priority: Mapped[str] = mapped_column(server_default="interactive")
    force: Mapped[bool] = mapped_column(server_default=text("false"))
    source_version: Mapped[str | None]
    generation: Mapped[int | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    progress_done: Mapped[int] = mapped_column(server_default="0")
    progress_total: Mapped[int | None]
    progress_unit: Mapped[str] = mapped_column(server_default="pages")
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_retryable: Mapped[bool | None]
    receipt: Mapped[dict[str, Any] | None]
    request_id: Mapped[str | None]
    status_version: Mapped[int] = mapped_column(BigInteger, server_default=status_version_sequence.next_value())
    projected_version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class TrainingTask(ChatBase):
    """What a worker claims: a whole small run, some pages of a crawl, its end, a dry run, a re-embedding.

    A claim sets lease and fence; every later write of that task names the fence. A task that is cancelled or settled is
    deleted, so that its worker finds the fence gone. `done` ones are kept until their run has ended, and those without a
    run until their result was fetched. `suspect` tasks shared a worker that died, and are claimed alone.
    """

    __tablename__ = "training_tasks"
    __table_args__ = (
        ForeignKeyConstraint(["job_id"], ["training_jobs.job_id"], ondelete="CASCADE"),
        CheckConstraint(one_of("kind", TASK_KINDS), name="kind"),
        CheckConstraint(one_of("status", TASK_STATUSES), name="status"),
        CheckConstraint(one_of("priority", ("interactive", "bulk")), name="priority"),
        Index(
            "training_tasks_due",
            text("priority DESC"),
            "org_id",
            "run_after",
            "task_id",
            postgresql_where=text("status = 'waiting'"),
        ),
        Index("training_tasks_leases", "org_id", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("training_tasks_job", "job_id", "ordinal"),
        Index("training_tasks_source", "org_id", "source_id"),
    )

    task_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[UUID | None]
    org_id: Mapped[UUID]
    bot_id: Mapped[UUID]
    source_id: Mapped[UUID]
    kind: Mapped[str]
    ordinal: Mapped[int] = mapped_column(server_default="0")
    small: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether it may be claimed together with others of its org."""
    status: Mapped[str] = mapped_column(server_default="waiting")
    priority: Mapped[str] = mapped_column(server_default="interactive")
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    rung_at: Mapped[datetime | None]
    fence: Mapped[int | None] = mapped_column(BigInteger)
    lease_holder: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    crash_count: Mapped[int] = mapped_column(server_default="0")
    suspect: Mapped[bool] = mapped_column(server_default=text("false"))
    at_url: Mapped[str | None]
    """The page a suspect task is reading, for when it dies of it."""
    plan: Mapped[dict[str, Any] | None]
    """What to do: `{"visits": [[url, depth], …]}` of a `pages` task, the request of a `dry_run`."""
    result: Mapped[dict[str, Any] | None]
    """What a `done` task found: links by page, counts, seconds by stage."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]


class Lease(ChatBase):
    """A duty that one process at a time may hold until `expires_at`; `swept_at` is when it was last done."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    swept_at: Mapped[datetime | None]


SWEPT_LATELY = "EXISTS (SELECT FROM leases WHERE name = 'sweeper' AND swept_at > now() - interval '60 seconds')"
TASK_LEASE_S = 60
"""How long a worker holds a task that it has claimed, unless it renews the lease."""
SILENT_S = 10
"""How long a worker may not have renewed its lease and still count as one that its org keeps busy."""
BUSY = "status = 'running' AND lease_expires_at > now() + make_interval(secs => :busy_s)"
"""Whether a task's worker counts so; `busy_s` is a lease's seconds without SILENT_S."""
