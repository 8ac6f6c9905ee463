"""The truth: the same sources trained once more, without a fault, by a second stack into databases of its own."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg

from deploy.local import stack
from deploy.local.children import embedded
from deploy.local.client import DashboardClient, read_stack
from deploy.local.plan import Plan
from deploy.local.state import State
from tests.faults.provider import KEY
from tests.faults.world import START_S, World, insist, rows_of

TABLES = {
    "orgs": "id, name, limits, created_at",
    "bots": "id, org_id, name, config, allowed_origins, created_at, updated_at, deleted_at",
    "files": "id, org_id, object_key, filename, content_type, size_bytes, created_at",
    # What the service writes stays behind.
    "training_sources": (
        "id, org_id, bot_id, type, url, file_id, title, content, options, created_at, updated_at, deleted_at"
    ),
}
AT_ONCE = 500
TRUTH_S = 1200.0


@contextlib.contextmanager
def truth(world: World) -> Iterator[str]:
    """Trains what the dashboard holds now on a second stack; the DSN of its chat database.

    TimeoutError when it does not end.
    """
    folder = Path(tempfile.mkdtemp(prefix="truth-"))
    folder.chmod(0o711)
    root = folder / "state"
    keys = world.described["s3"]
    environ = {
        **world.environ,
        "OPENAI_API_KEY": f"{KEY}truth",
        "R2_ENDPOINT_URL": keys["endpoint_url"],
        "R2_BUCKET": keys["bucket"],
        "ACCESS_KEY_ID": keys["access_key_id"],
        "SECRET_ACCESS_KEY": keys["secret_access_key"],
        "WORKERS": "2",
    }
    try:
        described = stack.up(root, lambda state: _plan(state, environ), limit=START_S)
        _copy(world.described["dashboard_db_dsn"], described["dashboard_db_dsn"])
        _train(root, world, described["chat_db_dsn"])
        yield described["chat_db_dsn"]
    finally:
        stack.remove(root)
        shutil.rmtree(folder, ignore_errors=True)


def _plan(state: State, environ: dict[str, str]) -> Plan:
    return replace(embedded(state, environ), start_seconds=START_S)


def _copy(there: str, here: str) -> None:
    with psycopg.connect(there) as source, psycopg.connect(here) as target:
        for table, columns in TABLES.items():
            with (
                source.cursor().copy(f"COPY {table} ({columns}) TO STDOUT".encode()) as reading,
                target.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as writing,
            ):
                for part in reading:
                    writing.write(part)


def _train(root: Path, world: World, chat_dsn: str) -> None:
    described = read_stack(root / "stack.json")
    for theirs in world.clients:
        client = DashboardClient(described, org_id=theirs.org_id)
        living = [
            row["id"]
            for row in rows_of(
                described["dashboard_db_dsn"],
                "SELECT id FROM training_sources WHERE org_id = %s AND deleted_at IS NULL",
                client.org_id,
            )
        ]
        for start in range(0, len(living), AT_ONCE):
            part = living[start : start + AT_ONCE]
            insist(lambda client=client, part=part: client.queue_many(part))  # type: ignore[misc]
    deadline = time.monotonic() + TRUTH_S
    while rows_of(chat_dsn, "SELECT 1 FROM training_jobs WHERE status IN ('waiting', 'running') LIMIT 1"):
        if time.monotonic() > deadline:
            raise TimeoutError("the fault-free run did not end")
        time.sleep(0.2)
