"""Fixtures of the flows: a provider for the session, a deployment for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_api.core.settings import Settings
from tests.flows.world import World, world
from tests.provider import Provider


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
