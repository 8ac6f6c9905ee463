"""Fixtures of the API's tests: a key file that we hold the private half of, settings whose servers are all away."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from chat_api.core.settings import Settings
from chat_api.main import create_app
from tests.chat_api.forge import Forge, public_pem

CLOSED_PORT = 1  # nobody listens there, and nobody but root could


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file with the one key that `Forge` signs good tokens with. Not to be changed."""
    path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_bytes(public_pem(Forge().ours))
    return path


@pytest.fixture(scope="session")
def offline(key_file: Path) -> Callable[..., Settings]:
    """Makes settings of a deployment of which no server answers; some can be changed by keyword."""

    def make(**changed: Any) -> Settings:
        database = {"host": "127.0.0.1", "port": CLOSED_PORT, "username": "nobody", "name": "nothing"}
        return Settings.model_validate(
            {
                "app_env": "test",
                **{f"dashboard_db_{name}": value for name, value in database.items()},
                **{f"python_chat_db_{name}": value for name, value in database.items()},
                "redis_url": f"redis://127.0.0.1:{CLOSED_PORT}/0",
                "embedding_provider": "local",
                "llm_provider": "extractive",
                "r2_endpoint_url": f"http://127.0.0.1:{CLOSED_PORT}",
                "jwt_public_key_path": str(key_file),
                **changed,
            }
        )

    return make


@pytest.fixture(scope="session")
def offline_client(offline: Callable[..., Settings]) -> Iterator[TestClient]:
    """A client of the real application, of which no server answers."""
    with TestClient(create_app(offline())) as client:
        yield client
