"""The pool's figures for Prometheus: counted by whoever sweeps, or looked up when they are asked for."""

import time
from collections.abc import Iterator

import structlog
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

COUNT_EVERY_S = 30.0
SETTLED_S = 10
"""A run's end carries the time at which its transaction began: counted is what is older than any of them lasts."""
log = structlog.get_logger(__name__)

LEASES_EXPIRED = Counter("training_leases_expired", "Tasks that were taken from workers that died")
RUNS_ENDED = Counter("training_runs_ended", "Runs that ended, by how", ["status"])
STAGE_SECONDS = Counter("training_stage_seconds", "Seconds that runs spent, by stage", ["stage"])
CHUNKS = Counter("training_chunks", "Chunks of runs that succeeded, by where their vectors came from", ["vectors"])

TASKS = text("""
    SELECT priority, count(*) FILTER (WHERE status = 'waiting') AS waiting,
           count(*) FILTER (WHERE status = 'running') AS running,
           count(*) FILTER (WHERE status = 'running' AND lease_expires_at < now()) AS expired,
           CAST(coalesce(extract(epoch FROM now() - min(run_after) FILTER (WHERE status = 'waiting' AND run_after <= now())), 0)
                AS float8) AS oldest_s
    FROM training_tasks GROUP BY priority
""")
STANDING = text("""
    SELECT (SELECT count(*) FROM sources WHERE removal_held_at IS NOT NULL AND deleted_at IS NULL) AS held,
           (SELECT count(*) FROM generations WHERE state = 'parked') AS parked,
           CAST(extract(epoch FROM now() - (SELECT swept_at FROM leases WHERE name = 'sweeper')) AS float8) AS sweep_age_s
""")
CLOCK = text("SELECT now() - make_interval(secs => :settled_s)")
ENDED = text("""
    SELECT status, count(*) AS runs,
           CAST(coalesce(sum(CAST(receipt #>> '{chunks,embedded}' AS bigint)), 0) AS bigint) AS embedded,
           CAST(coalesce(sum(CAST(receipt #>> '{chunks,reused}' AS bigint)), 0) AS bigint) AS reused
    FROM training_jobs WHERE finished_at > :since AND finished_at <= :until GROUP BY status
""")
STAGES = text("""
    SELECT stage.key AS stage, sum(CAST(stage.value AS float8)) AS seconds
    FROM training_jobs, jsonb_each_text(receipt -> 'seconds') AS stage
    WHERE finished_at > :since AND finished_at <= :until AND stage.key <> 'total' GROUP BY stage.key
""")


class EndedRuns:
    """Counts runs as they end, once over all pools: it is the sweeper's holder that counts."""

    def __init__(self, chat: Engine) -> None:
        self._chat, self._counted_at = chat, -COUNT_EVERY_S
        self._since: object = None

    def forget(self) -> None:
        """Leaves what ends from now on to another process, until `count` is called again."""
        self._since = None

    def count(self) -> None:
        """Adds what has ended since the last look, once in half a minute; the first look counts nothing."""
        if time.monotonic() - self._counted_at < COUNT_EVERY_S:
            return
        self._counted_at = time.monotonic()
        with self._chat.connect() as connection:
            until = connection.execute(CLOCK, {"settled_s": SETTLED_S}).scalar_one()
            since, self._since = self._since or until, until
            ended = connection.execute(ENDED, {"since": since, "until": until}).all()
            stages = connection.execute(STAGES, {"since": since, "until": until}).all()
        for row in ended:
            RUNS_ENDED.labels(row.status).inc(row.runs)
            CHUNKS.labels("embedded").inc(row.embedded)
            CHUNKS.labels("reused").inc(row.reused)
        for row in stages:
            STAGE_SECONDS.labels(row.stage).inc(row.seconds)


class Queue(Collector):
    """The queue as it stands in the chat database; nothing while that is away."""

    def __init__(self, chat: Engine) -> None:
        self._chat = chat

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: what is registered asks no database."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges by priority, and of what waits for an operator."""
        try:
            with self._chat.connect() as connection:
                tasks = {row.priority: row for row in connection.execute(TASKS)}
                standing = connection.execute(STANDING).one()
        except SQLAlchemyError as error:
            log.warning("queue_not_measured", error=type(error).__name__)
            return
        for name, help_text, column in (
            ("training_tasks_waiting", "Tasks that wait", "waiting"),
            ("training_tasks_running", "Tasks that a worker holds", "running"),
            ("training_tasks_lease_over", "Tasks whose worker has not renewed its lease", "expired"),
            ("training_oldest_wait_seconds", "How long the oldest task that is due has waited", "oldest_s"),
        ):
            gauge = GaugeMetricFamily(name, help_text, labels=["priority"])
            for priority in ("interactive", "bulk"):
                gauge.add_metric([priority], getattr(tasks.get(priority), column, 0))
            yield gauge
        yield GaugeMetricFamily("training_removals_held", "Sources gone from the dashboard and kept", standing.held)
        yield GaugeMetricFamily("training_generations_parked", "Generations that wait for a release", standing.parked)
        if standing.sweep_age_s is not None:
            yield GaugeMetricFamily("training_sweep_age_seconds", "Since the last whole sweep", standing.sweep_age_s)
