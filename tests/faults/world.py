"""The bench's own deployment: an embedded stack whose workers can be killed, its provider, its websites, its dashboard."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid5

import boto3
import httpx2
import psutil
import psycopg
from psycopg.rows import dict_row

from deploy.local import stack
from deploy.local.children import SETTING_NAMES, embedded
from deploy.local.client import DashboardClient, Refused, read_stack
from deploy.local.plan import Child, Plan
from deploy.local.state import State
from tests.faults.provider import KEY, RecordingProvider
from tests.faults.signs import BREAK, LEASE_S, SITE
from tests.faults.size import Size
from tests.faults.website import Site, websites

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Row = dict[str, Any]
Found = TypeVar("Found")
NAMESPACE = UUID("5f6a3a0e-7a1b-4c59-9d52-4a1f0e8c7b11")
DIMENSIONS, MODEL = 64, "text-embedding-3-small"
ORGS = 6
INSIST_S = 90.0
START_S = 400.0
"""Many workers start at once, on machines that may have other things to do."""
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, httpx2.TransportError)
CONFIG = {"similarity_threshold": 0, "retrieval_k": 12}


@dataclass
class World:
    """What the executioner hits, the owner uses and the checker reads."""

    size: Size
    root: Path
    provider: RecordingProvider
    sites: list[Site]
    environ: dict[str, str]
    clients: list[DashboardClient] = field(default_factory=list)
    bots: list[UUID] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def described(self) -> Row:
        """What stack.json says now."""
        return dict(State(self.root).stack())

    @property
    def workers(self) -> list[str]:
        """The pools' names."""
        return [name for name in self.described["pids"] if name.startswith("worker-")]

    def family(self, name: str) -> list[psutil.Process]:
        """A child's process and all its descendants, the parent first; [] while it is down."""
        with contextlib.suppress(psutil.Error, KeyError):
            parent = psutil.Process(self.described["pids"][name])
            return [parent, *parent.children(recursive=True)]
        return []

    def put_object(self, key: str, body: bytes) -> None:
        """A file in the bucket."""
        self._s3.put_object(Bucket=self.described["s3"]["bucket"], Key=key, Body=body)

    @cached_property
    def _s3(self) -> "S3Client":
        keys = self.described["s3"]
        return boto3.client(
            "s3",
            endpoint_url=keys["endpoint_url"],
            aws_access_key_id=keys["access_key_id"],
            aws_secret_access_key=keys["secret_access_key"],
            region_name="auto",
        )

    def say(self, words: str) -> None:
        """A line for who watches the run."""
        print(f"{time.monotonic() - self.began:7.1f} s  {words}", file=sys.stderr, flush=True)

    def chat(self, query: str, *values: object) -> list[Row]:
        """Rows of the chat database."""
        return rows_of(self.described["chat_db_dsn"], query, *values)

    def dashboard(self, query: str, *values: object) -> list[Row]:
        """Rows of the dashboard database."""
        return rows_of(self.described["dashboard_db_dsn"], query, *values)


def rows_of(dsn: str, query: str, *values: object) -> list[Row]:
    """A statement's rows; it is committed."""
    with psycopg.connect(dsn, row_factory=dict_row, connect_timeout=3) as connection:
        cursor = connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []


def insist(call: Callable[[], Found], seconds: float = INSIST_S) -> Found:
    """What `call` gives, tried again for as long as a database or the API is away."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except AWAY:
            if time.monotonic() > deadline:
                raise
        except Refused as refused:
            if refused.status < 500 or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def until(met: Callable[[], Found], seconds: float) -> Found:
    """What `met` gives once that is true, or at the last look."""
    deadline = time.monotonic() + seconds
    while not (found := met()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def world(size: Size, *, broken: str = "", sites: int = 8, **settings: str) -> Iterator[World]:
    """A deployment with one bot in each of six orgs. Its logs are copied to the folder LOGS, where that is given."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o711)
    root = folder / "state"
    with RecordingProvider() as provider, websites(sites) as hosts:
        environ = _environ(size, provider, hosts, broken) | settings
        made = World(size, root, provider, hosts, environ)
        try:
            described = stack.up(root, lambda state: _plan(state, environ), limit=START_S)
            for number in range(ORGS):
                client = DashboardClient(read_stack(root / "stack.json"), org_id=uuid5(NAMESPACE, f"org {number}"))
                made.clients.append(client)
                made.bots.append(client.add_bot(f"Bot {number}", CONFIG))
            made.say(f"up: {described['log_dir']}")
            yield made
        finally:
            _keep_logs(root)
            stack.remove(root)
            shutil.rmtree(folder, ignore_errors=True)


def _keep_logs(root: Path) -> None:
    if kept := os.environ.get("LOGS"):
        shutil.copytree(root / "logs", Path(kept) / root.parent.name, dirs_exist_ok=True)


def foreign_environ() -> dict[str, str]:
    """This process's environment without any setting of the service."""
    return {name: value for name, value in os.environ.items() if name.upper() not in SETTING_NAMES}


def _environ(size: Size, provider: RecordingProvider, sites: list[Site], broken: str) -> dict[str, str]:
    return {
        **foreign_environ(),
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": f"{KEY}api",
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": MODEL,
        "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "EMBEDDING_TIMEOUT_S": "10",
        "FETCH_TIMEOUT_S": "10",
        "LLM_PROVIDER": "extractive",
        "FETCH_ALLOW": ",".join(f"127.0.0.1:{site.port}" for site in sites),
        "WORKERS": str(size.workers),
        LEASE_S: str(size.lease_s),
        SITE: f"127.0.0.1:{sites[0].port}",
        BREAK: broken,
    }


def _plan(state: State, environ: dict[str, str]) -> Plan:
    plan = embedded(state, environ)
    # Nobody looks at the stand-in dashboard's page here.
    tiers = [[_ours(child) for child in tier if child.name != "dashboard"] for tier in plan.tiers]
    return replace(plan, tiers=tuple(map(tuple, tiers)), start_seconds=START_S)


def _ours(child: Child) -> Child:
    if not child.name.startswith("worker-"):
        return child
    # Its own key, by which the provider knows who asks.
    python, *_ = child.command
    return replace(
        child,
        command=(python, "-m", "tests.faults.worker"),
        env={**child.env, "OPENAI_API_KEY": f"{KEY}{child.name}"},
    )
