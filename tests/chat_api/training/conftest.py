"""Fixtures: one API for a module's tests, and for each test an org of its own with empty tables."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from chat_api.core.settings import Settings
from tests.chat_api.chat_world import serving
from tests.chat_api.training.office import Office
from tests.conftest import make_settings
from tests.servers import Servers

DRY_RUN_S = 3.0
TABLES = (
    "quantized_embeddings, quantized_generations, embeddings, chunks, documents, pages, generations, sources, bots,"
    " training_tasks, training_jobs, leases"
)


@pytest.fixture(scope="module")
def api_settings(servers: Servers, module_chat_db: str, module_dashboard_db: str, key_file: Path) -> Settings:
    """Settings of the module's API."""
    settings = make_settings(servers, module_chat_db, module_dashboard_db, servers.redis_url, "none")
    return settings.model_copy(
        update={"jwt_public_key_path": str(key_file), "dry_run_timeout_s": DRY_RUN_S, "org_running_tasks": 2}
    )


@pytest.fixture(scope="module")
def api_address(api_settings: Settings) -> Iterator[str]:
    """The module's API."""
    with serving(api_settings) as address:
        yield address.replace("ws://", "http://").removesuffix("/api/chat/ws")


@pytest.fixture
def office(api_address: str, module_chat_db: str, module_dashboard_db: str) -> Iterator[Office]:
    """A new org, alone in the chat database; a sweeper has just swept."""
    with httpx2.Client(base_url=api_address, timeout=20, trust_env=False) as http:
        office = Office(http, module_chat_db, module_dashboard_db)
        office.chat(f"TRUNCATE {TABLES}")
        office.chat("INSERT INTO leases (name, swept_at) VALUES ('sweeper', now())")
        yield office
