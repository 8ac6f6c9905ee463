"""Fixtures of the flows: a provider for the session, a deployment for each test, or one for a module's tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chat_api.core.settings import Settings
from tests.conftest import make_settings
from tests.flows.world import World, flush, world
from tests.provider import Provider
from tests.servers import Servers
from tests.workers.chat_rows import ChatRows, engine_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="session")
def session_provider() -> Iterator[Provider]:
    """The loopback model provider."""
    with Provider() as provider:
        yield provider


@pytest.fixture
def shop(settings: Settings, session_provider: Provider, tmp_path: Path) -> Iterator[World]:
    """A deployment with one bot."""
    session_provider.reset()
    with world(settings, session_provider, tmp_path) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def module_shop(
    servers: Servers,
    module_chat_db: str,
    module_dashboard_db: str,
    s3: "S3Client",
    session_provider: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A deployment that a module's tests share."""
    folder = tmp_path_factory.mktemp("shop")
    s3.create_bucket(Bucket=folder.name)
    settings = make_settings(servers, module_chat_db, module_dashboard_db, servers.redis_url, folder.name)
    with world(settings, session_provider, folder) as deployment:
        yield deployment


@pytest.fixture
def open_shop(module_shop: World) -> World:
    """The module's deployment with a new bot, no source, and nothing in training."""
    module_shop.provider.reset()
    engine = engine_of(module_shop.chat_dsn)
    ChatRows(engine).clear()
    engine.dispose()
    module_shop.dashboard("DELETE FROM training_sources")
    flush(module_shop.settings.redis_url.get_secret_value())
    module_shop.bot_id = module_shop.client.add_bot("Shop", {})
    return module_shop
