"""A deployment whose operator's commands run in this process, with a real worker, bucket and model provider."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from chat_api.core.settings import Settings
from tests.conftest import make_settings
from tests.flows.world import World, flush, world
from tests.provider import Provider
from tests.servers import Servers, as_workers
from tests.workers.chat_rows import ChatRows, engine_of
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.cli import main

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass
class Operator:
    """Who types commands, and what they can look into."""

    world: World
    s3: "S3Client"
    environment: dict[str, str]
    printed: pytest.CaptureFixture[str]
    bot_id: UUID = field(init=False)

    def __post_init__(self) -> None:
        self.bot_id = self.world.bot_id

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """A command's exit code, and what it printed: (code, stdout, stderr); who waits for runs has a worker meanwhile."""
        self.printed.readouterr()
        with working(self.world) if "--process" in arguments else nullcontext():
            code = main([str(argument) for argument in arguments])
        captured = self.printed.readouterr()
        return code, captured.out, captured.err

    def objects(self) -> dict[str, bytes]:
        """What is in the bucket, by key."""
        bucket = self.world.settings.r2_bucket
        listed = self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {one["Key"]: self.s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}

    def sources(self, bot_id: UUID | None = None) -> dict[str, dict[str, Any]]:
        """A bot's rows in the dashboard, by file name, address or title."""
        rows = self.world.dashboard(
            "SELECT coalesce(f.filename, s.url, s.title) AS name, f.object_key, f.size_bytes, f.content_type, s.*"
            " FROM training_sources s LEFT JOIN files f ON f.id = s.file_id WHERE s.bot_id = %s ORDER BY 1",
            bot_id or self.bot_id,
        )
        return {row["name"]: row for row in rows}

    def live(self, bot_id: UUID | None = None) -> list[dict[str, Any]]:
        """What a bot answers from: title, address, heading, text and dates of each passage, and its vector as text."""
        return self.world.chat(
            "SELECT d.title, d.url, d.published_on, d.modified_on, c.heading, c.text, c.page, CAST(e.vector AS text) AS vector"
            " FROM sources s JOIN bots b USING (org_id, bot_id) JOIN chunks c USING (org_id, bot_id, source_id)"
            " JOIN documents d USING (org_id, bot_id, source_id, generation, document_id)"
            " LEFT JOIN embeddings e USING (org_id, bot_id, source_id, generation, chunk_id, space_id)"
            " WHERE bot_id = %s AND s.deleted_at IS NULL AND generation = s.live_generation"
            " ORDER BY d.title, d.url, c.ordinal",
            bot_id or self.bot_id,
        )


@contextmanager
def working(world: World) -> Iterator[None]:
    """A worker that trains what is due, in a thread of its own."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            world.work()

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def deployed(
    two: TwoDatabases, servers: Servers, redis_url: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> TwoDatabases:
    """Both databases, and the environment that names them."""
    settings = as_workers(make_settings(servers, two.chat_dsn, two.dashboard_dsn, redis_url, bucket))
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    return two


@pytest.fixture(scope="module")
def command_provider() -> Iterator[Provider]:
    """The loopback model provider."""
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def command_world(
    servers: Servers,
    module_chat_db: str,
    module_dashboard_db: str,
    s3: "S3Client",
    command_provider: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A deployment that a module's tests share."""
    folder = tmp_path_factory.mktemp("commands")
    s3.create_bucket(Bucket=folder.name)
    settings = make_settings(servers, module_chat_db, module_dashboard_db, servers.redis_url, folder.name)
    with world(settings, command_provider, folder) as deployment:
        yield deployment


@pytest.fixture
def operator(
    command_world: World,
    s3: "S3Client",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    """An operator of the module's deployment, with a new bot, an empty bucket, and nothing in training."""
    command_world.provider.reset()
    engine = engine_of(command_world.chat_dsn)
    ChatRows(engine).clear()
    engine.dispose()
    for table in ("training_sources", "files"):
        command_world.dashboard(f"DELETE FROM {table}")
    flush(command_world.settings.redis_url.get_secret_value())
    found = Operator(command_world, s3, environment_of(as_workers(command_world.settings)), capsys)
    for key in found.objects():
        s3.delete_object(Bucket=command_world.settings.r2_bucket, Key=key)
    command_world.bot_id = command_world.client.add_bot("Shop", {})
    found.bot_id = command_world.bot_id
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give these settings."""
    variables = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        secret = getattr(value, "get_secret_value", None)
        variables[name.upper()] = str(secret() if secret else value)
    return variables
