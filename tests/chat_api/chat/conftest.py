"""Fixtures of the chat tests: one API for each module, on databases of its own, and a provider that is reset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from chat_api.core.settings import Settings
from tests.chat_api.chat.answers_world import slow_bot
from tests.chat_api.chat.rest_world import Rest, rest_of
from tests.chat_api.chat_world import DIMENSIONS, MODEL, Chat, TestBot, serving
from tests.provider import Provider
from tests.servers import Servers


@pytest.fixture(scope="session")
def chat_provider() -> Iterator[Provider]:
    """The loopback model provider."""
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def chat_settings(
    servers: Servers, module_chat_db: str, module_dashboard_db: str, key_file: Path, chat_provider: Provider
) -> Settings:
    """Settings of a deployment whose models are the loopback provider's."""
    return Settings.model_validate(
        {
            "app_env": "test",
            **_database("dashboard_db", module_dashboard_db),
            **_database("python_chat_db", module_chat_db),
            "redis_url": servers.redis_url,
            "embedding_provider": "openai",
            "embedding_model": MODEL,
            "embedding_dimensions": DIMENSIONS,
            "llm_provider": "openai",
            "llm_timeout_s": 1.5,
            "resume_grace_s": 0.5,
            "openai_cheaper_model": "gpt-cheaper",
            "visitor_messages_per_minute": 10_000,
            "address_messages_per_minute": 10_000,
            "openai_base_url": chat_provider.base_url,
            "openai_api_key": SecretStr("sk-test"),
            "r2_endpoint_url": servers.s3_endpoint,
            "jwt_public_key_path": str(key_file),
        }
    )


@pytest.fixture(scope="module")
def _running(chat_settings: Settings) -> Iterator[str]:
    with serving(chat_settings) as address:
        yield address


@pytest.fixture
def chat(_running: str, module_chat_db: str, module_dashboard_db: str, chat_provider: Provider) -> Chat:
    """The running deployment; the provider knows nothing of earlier tests."""
    chat_provider.reset()
    return Chat(_running, module_chat_db, module_dashboard_db, chat_provider)


@pytest.fixture(scope="module")
def _second(chat_settings: Settings) -> Iterator[str]:
    with serving(chat_settings) as address:
        yield address


@pytest.fixture
def other(_second: str, chat: Chat) -> Chat:
    """Another replica of the deployment."""
    return Chat(_second, chat.chat_dsn, chat.dashboard_dsn, chat.provider)


@pytest.fixture
def rest(chat: Chat) -> Iterator[Rest]:
    """The running deployment's REST routes."""
    with rest_of(chat) as rest:
        yield rest


def _database(prefix: str, dsn: str) -> dict[str, Any]:
    url = make_url(dsn)
    parts = {"host": url.host, "port": url.port, "username": url.username, "password": url.password}
    return {f"{prefix}_{name}": value for name, value in {**parts, "name": url.database}.items()}


@pytest.fixture
def bot(chat: Chat) -> TestBot:
    """A bot whose next answer takes its time."""
    return slow_bot(chat)
