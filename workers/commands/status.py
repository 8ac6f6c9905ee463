"""How training stands, on one screen: what waits, who does what, what went wrong lately."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, text

LISTED = 10
WIDE = 110

QUEUE = text("""
    SELECT priority, count(*) FILTER (WHERE status = 'waiting' AND run_after <= now()) AS due,
           count(*) FILTER (WHERE status = 'waiting' AND run_after > now()) AS later,
           count(*) FILTER (WHERE status = 'running') AS running,
           CAST(coalesce(extract(epoch FROM now() - min(run_after) FILTER (WHERE status = 'waiting')), 0) AS float8)
               AS oldest_wait_s
    FROM training_tasks GROUP BY priority ORDER BY priority DESC
""")
ORGS = text("""
    SELECT CAST(org_id AS text) AS org_id, count(*) FILTER (WHERE status = 'waiting') AS waiting,
           count(*) FILTER (WHERE status = 'running') AS running
    FROM training_jobs WHERE status IN ('waiting', 'running') GROUP BY org_id
    ORDER BY count(*) DESC, org_id LIMIT :listed
""")
WORKERS = text("""
    SELECT task.lease_holder AS worker, task.kind, count(*) AS tasks, min(job.stage) AS stage,
           min(CAST(task.source_id AS text)) AS source_id, sum(job.progress_done) AS done,
           sum(job.progress_total) AS total, min(job.progress_unit) AS unit,
           CAST(extract(epoch FROM now() - min(task.started_at)) AS float8) AS since_s,
           bool_or(task.lease_expires_at < now()) AS lease_over
    FROM training_tasks AS task LEFT JOIN training_jobs AS job USING (job_id)
    WHERE task.status = 'running' GROUP BY task.lease_holder, task.kind ORDER BY worker, kind
""")
ERRORS = text("""
    SELECT CAST(source_id AS text) AS source_id, status, error_code, error_message,
           CAST(extract(epoch FROM now() - coalesce(finished_at, started_at, created_at)) AS float8) AS ago_s
    FROM training_jobs
    WHERE error_code IS NOT NULL AND coalesce(finished_at, started_at, created_at) > now() - interval '1 day'
    ORDER BY coalesce(finished_at, started_at, created_at) DESC LIMIT :listed
""")
OVERALL = text("""
    SELECT (SELECT count(*) FROM sources WHERE live_generation IS NOT NULL AND deleted_at IS NULL) AS live_sources,
           (SELECT count(*) FROM sources WHERE removal_held_at IS NOT NULL AND deleted_at IS NULL) AS held_removals,
           (SELECT count(*) FROM generations WHERE state = 'parked') AS parked,
           (SELECT count(*) FROM training_jobs WHERE status = 'quarantined') AS quarantined,
           (SELECT CAST(extract(epoch FROM now() - swept_at) AS float8) FROM leases WHERE name = 'sweeper') AS swept_s_ago
""")


def read_status(chat: Engine) -> dict[str, Any]:
    """Counts of tasks by priority, runs by org (the ten with most), workers, the last day's errors; seconds, ids, words."""
    with chat.connect() as connection:
        return {
            "queue": _rows(connection, QUEUE),
            "orgs": _rows(connection, ORGS),
            "workers": _rows(connection, WORKERS),
            "errors": _rows(connection, ERRORS),
            **_rows(connection, OVERALL)[0],
        }


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    result = connection.execute(query, {"listed": LISTED} if "listed" in query.text else {})
    return [{name: _plain(value) for name, value in row.items()} for row in result.mappings()]


def _plain(value: object) -> object:
    """Numbers as JSON has them: sums come as decimals."""
    return value if value is None or isinstance(value, str | bool | int) else round(float(str(value)), 1)


def render(status: dict[str, Any]) -> str:
    """The screen, as plain text."""
    swept = status["swept_s_ago"]
    lines = [
        f"{status['live_sources']} sources answer; {status['quarantined']} quarantined, {status['parked']} parked, "
        f"{status['held_removals']} removals held; last sweep {'never' if swept is None else _ago(swept)}",
        "",
        *_table(
            "QUEUE", ("due", "later", "running", "oldest wait"),
            [(row["priority"], row["due"], row["later"], row["running"], _for(row["oldest_wait_s"])) for row in status["queue"]],
            "nothing waits and nothing runs",
        ),
        *_table(
            "ORG", ("waiting", "running"),
            [(row["org_id"], row["waiting"], row["running"]) for row in status["orgs"]],
            "no runs",
        ),
        *_table(
            "WORKER", ("does", "stage", "progress", "since"),
            [(row["worker"], _does(row), row["stage"] or "", _progress(row), _for(row["since_s"])) for row in status["workers"]],
            "no worker holds a task",
        ),
        *_table(
            "LAST ERRORS", ("when", "run", "code", "message"),
            [(row["source_id"], _ago(row["ago_s"]), row["status"], row["error_code"], row["error_message"]) for row in status["errors"]],
            "none in a day",
        ),
    ]  # fmt: skip
    return "\n".join(lines)


def _does(row: dict[str, Any]) -> str:
    what = f"{row['kind']} × {row['tasks']}" if row["tasks"] > 1 else f"{row['kind']} {row['source_id']}"
    return f"{what} (lease over)" if row["lease_over"] else what


def _progress(row: dict[str, Any]) -> str:
    if row["done"] is None:
        return ""
    total = f"/{row['total']:.0f}" if row["total"] else ""
    return f"{row['done']:.0f}{total} {row['unit']}"


def _for(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _ago(seconds: float) -> str:
    return f"{_for(seconds)} ago"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> list[str]:
    cells = [(title, *columns), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns) + 1)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return [line.rstrip()[:WIDE] for line in (lines if rows else [title, f"  {nothing}"])] + [""]
