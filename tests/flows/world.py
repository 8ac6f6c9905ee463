"""One deployment for a test: the API on a real port, a worker in this process, a dashboard, a website, a provider."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from psycopg.rows import dict_row
from redis import Redis

from chat_api.core.settings import Settings
from chat_api.main import create_app
from chat_api.server import BoundedHttp, BoundedSocket
from deploy.local.client import DashboardClient, Stack
from tests.provider import Provider
from tests.servers import as_api, as_workers
from tests.workers.fetch.loopback import Site
from workers.bootstrap import Collaborators, bootstrap
from workers.jobs import work

Row = dict[str, Any]


@dataclass
class World:
    """What a flow test sees: public doors, and both databases to look into."""

    settings: Settings
    client: DashboardClient
    worker: Collaborators
    provider: Provider
    site: Site
    chat_dsn: str
    dashboard_dsn: str
    bot_id: UUID
    http: httpx2.Client = field(repr=False)

    def work(self) -> int:
        """Has the worker train all that is due; how many runs it took."""
        return work(self.worker, until=time.monotonic() + 60)

    def train(self, source_id: UUID, **options: Any) -> Row:
        """Queues the source, has the worker train it, and gives its job."""
        job = self.client.queue(source_id, **options)
        self.work()
        return self.client.job(job["job_id"])

    def source_row(self, source_id: UUID) -> Row:
        """The dashboard's row of a source."""
        return self.dashboard("SELECT * FROM training_sources WHERE id = %s", source_id)[0]

    def chat(self, query: str, *values: object) -> list[Row]:
        """Rows of the chat database."""
        return _rows(self.chat_dsn, query, values)

    def dashboard(self, query: str, *values: object) -> list[Row]:
        """Rows of the dashboard database."""
        return _rows(self.dashboard_dsn, query, values)

    def call(self, method: str, path: str, body: Row | None = None, *, scope: str, **claims: Any) -> httpx2.Response:
        """A request to the API with a token of this scope."""
        token = self.client.sign_token(scope, **claims)
        return self.http.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"})


def _rows(dsn: str, query: str, values: tuple[object, ...]) -> list[Row]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        cursor = connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []


def dsn_of(settings: Settings, *, chat: bool) -> str:
    """A plain postgresql:// address from settings."""
    url = settings.chat_db_url() if chat else settings.dashboard_db_url()
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextlib.contextmanager
def api(settings: Settings) -> Iterator[str]:
    """The API on a free port of this process; its address."""
    config = uvicorn.Config(
        create_app(as_api(settings)), port=0, log_config=None, http=BoundedHttp, ws=BoundedSocket,
        ws_per_message_deflate=False,
        ws_max_size=65_536, access_log=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    thread.start()
    deadline = time.monotonic() + 15
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise TimeoutError("the API did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextlib.contextmanager
def world(settings: Settings, provider: Provider, keys: Path, **changes: Any) -> Iterator[World]:
    """A deployment on `settings`, whose models are the loopback provider's."""
    private_key, public_key = write_keys(keys)
    site = Site()
    settings = settings.model_copy(
        update={
            "jwt_public_key_path": str(public_key),
            "fetch_allow": f"127.0.0.1:{site.port}",
            "fetch_timeout_s": 3.0,
            "embedding_provider": "openai",
            "embedding_model": "text-embedding-3-small",
            "embedding_dimensions": 256,
            "llm_provider": "openai",
            "openai_base_url": provider.base_url,
            "openai_api_key": type(settings.redis_url)("sk-test"),
            **changes,
        }
    )
    worker = bootstrap(as_workers(settings))
    with api(settings) as address, httpx2.Client(base_url=address, timeout=10, trust_env=False) as http:
        client = DashboardClient(stack_of(settings, address, private_key, public_key))
        bot_id = client.add_bot("Shop", {"welcome_message": "Hello!"})
        try:
            yield World(
                settings, client, worker, provider, site, dsn_of(settings, chat=True), dsn_of(settings, chat=False),
                bot_id, http,
            )  # fmt: skip
        finally:
            site.close()
            worker.engines.chat.dispose()
            worker.engines.dashboard.dispose()
            worker.stages.reader.client.close()


def stack_of(settings: Settings, address: str, private_key: Path, public_key: Path) -> Stack:
    """What stack.json would say of this deployment."""
    access, secret = settings.access_key_id, settings.secret_access_key
    return {
        "api_url": address,
        "dashboard_url": "http://dashboard.invalid",
        "dashboard_db_dsn": dsn_of(settings, chat=False),
        "s3": {
            "endpoint_url": settings.s3_endpoint,
            "bucket": settings.r2_bucket,
            "access_key_id": access.get_secret_value() if access else "",
            "secret_access_key": secret.get_secret_value() if secret else "",
        },
        "jwt": {"private_key_path": str(private_key), "public_key_path": str(public_key)},
    }


def write_keys(folder: Path) -> tuple[Path, Path]:
    """A fresh key pair as PEM files: (private, public)."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    private_key, public_key = folder / "private.pem", folder / "public.pem"
    pem = serialization.Encoding.PEM
    private_key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public_key.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private_key, public_key


def flush(redis_url: str) -> None:
    """Forgets all bells."""
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
