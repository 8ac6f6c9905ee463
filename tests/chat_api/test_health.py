"""Health: what is said when everything, something or nothing answers, within bounded time."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import create_engine, text
from starlette.datastructures import State
from starlette.testclient import TestClient

from chat_api.core.settings import Settings
from chat_api.keyring import KeyRing
from chat_api.main import create_app
from chat_api.routes.health import look
from tests.chat_api.forge import Forge
from tests.servers import free_port

NAMES = {"chat_db", "dashboard_db", "migrations", "key", "redis", "workers"}


def failing(answer: httpx2.Response) -> set[str]:
    """The dependencies that `/readyz` says to fail."""
    dependencies = answer.json()["dependencies"]
    assert dependencies.keys() == NAMES
    assert all(isinstance(found["latency_ms"], float) for found in dependencies.values())
    assert all(bool(found["problem"]) == (found["state"] == "failing") for found in dependencies.values())
    return {name for name, found in dependencies.items() if found["state"] == "failing"}


def test_alive_while_nothing_answers(offline_client: TestClient) -> None:
    answer = offline_client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_not_ready_while_nothing_answers(offline_client: TestClient) -> None:
    answer = offline_client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert failing(answer) == NAMES - {"key"}
    assert int(answer.headers["retry-after"]) > 0
    assert "nobody" not in answer.text, "users and hosts of our servers are not for the public"


def test_database_health_while_it_is_away(offline_client: TestClient) -> None:
    answer = offline_client.get("/api/health/db")
    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"status": 503, "code": "database_unavailable", "database": "nothing"}.items() <= answer.json().items()
    assert answer.json()["latency_ms"] >= 0


def test_checks_run_side_by_side_and_none_is_waited_for_beyond_the_limit() -> None:
    async def quick(_: State) -> str | None:
        return None

    async def never(_: State) -> str | None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(30)  # nor for its cancellation
        return None

    async def find() -> dict[str, Any]:
        findings = await look({"quick": quick, "a": never, "b": never}, State(), 0.1)
        return {name: (finding.state, finding.problem) for name, finding in findings.items()}

    began = time.monotonic()
    found = asyncio.run(find())
    assert time.monotonic() - began < 20
    assert found == {
        "quick": ("ok", None),
        "a": ("failing", "No answer within 0.1 s."),
        "b": ("failing", "No answer within 0.1 s."),
    }


@pytest.fixture
def key_copy(key_file: Path, tmp_path: Path) -> Path:
    """A key file that the test may spoil."""
    path = tmp_path / "public.pem"
    shutil.copy(key_file, path)
    return path


def test_key_file_that_turned_bad_is_said_while_old_keys_are_in_force(
    offline: Callable[..., Settings], key_copy: Path
) -> None:
    keys = KeyRing(key_copy, recheck_s=0)
    with TestClient(create_app(offline(), keys=keys)) as client:
        key_copy.write_text("spoilt")
        assert "key" in failing(client.get("/readyz"))
        headers = {"Authorization": f"Bearer {Forge().token()}"}
        answer = client.get("/api/training/jobs/5b0a5a52-6b4f-4f0b-9c1e-2f6f6a2d9b01", headers=headers)
        assert answer.json()["code"] == "database_unavailable", "the token was good"


def test_the_metrics_are_those_of_prometheus(offline_client: TestClient) -> None:
    offline_client.get("/healthz")
    answer = offline_client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'http_requests_total{method="GET",route="/healthz",status="200"}' in answer.text
    assert "ws_connections" in answer.text


def test_metrics_on_a_port_of_their_own(offline: Callable[..., Settings]) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/metrics"
    with TestClient(create_app(offline(metrics_port=port))) as client:
        assert client.get("/metrics").status_code == 404
        assert "http_requests_total" in httpx2.get(address, timeout=10, trust_env=False).text
        with TestClient(create_app(offline(metrics_port=port))) as second:
            assert second.get("/healthz").status_code == 200, "a port that is taken does not stop the start"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address, timeout=10, trust_env=False)


def test_metrics_are_not_for_the_public(offline: Callable[..., Settings]) -> None:
    port = free_port()
    for own_port in (None, port):
        with TestClient(create_app(offline(app_env="production", metrics_port=own_port))) as client:
            assert client.get("/metrics").status_code == 404
            if own_port:
                address = f"http://127.0.0.1:{port}/metrics"
                assert "http_requests_total" in httpx2.get(address, timeout=10, trust_env=False).text


def test_the_documentation_is_served(offline_client: TestClient) -> None:
    assert offline_client.get("/docs").status_code == offline_client.get("/redoc").status_code == 200
    paths = offline_client.get("/openapi.json").json()["paths"]
    assert {"/healthz", "/readyz", "/api/health/db", "/widget.js", "/api/training/queue"} <= paths.keys()


def test_the_widget_is_served_as_one_script(offline_client: TestClient) -> None:
    answer = offline_client.get("/widget.js", headers={"Origin": "https://shop.example"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "customElements" in answer.text


@pytest.mark.parametrize("spelling", ["{}", "W/{}", '"another", {}', "*"])
def test_widget_is_not_sent_again(offline_client: TestClient, spelling: str) -> None:
    etag = offline_client.get("/widget.js").headers["etag"]
    answer = offline_client.get("/widget.js", headers={"If-None-Match": spelling.format(etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert answer.headers["access-control-allow-origin"] == "*"


def test_changed_widget_is_sent(offline_client: TestClient) -> None:
    assert offline_client.get("/widget.js", headers={"If-None-Match": '"old"'}).status_code == 200


@pytest.fixture
def client(settings: Settings, key_file: Path) -> Iterator[TestClient]:
    """A client of an application whose servers are all there, but no workers."""
    with TestClient(create_app(settings.model_copy(update={"jwt_public_key_path": str(key_file)}))) as client:
        yield client


def run_sql(url: Any, *statements: str) -> None:
    """Changes a database behind the application's back."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def sweep(settings: Settings, seconds_ago: int) -> None:
    """A sweeper was at work then."""
    run_sql(
        settings.chat_db_url(),
        "DELETE FROM leases WHERE name = 'sweeper'",
        f"INSERT INTO leases (name, swept_at) VALUES ('sweeper', now() - interval '{seconds_ago} s')",
    )


@pytest.mark.stack
def test_ready_when_all_answers(client: TestClient, settings: Settings) -> None:
    sweep(settings, seconds_ago=1)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"], failing(answer)) == (200, "ok", set())


@pytest.mark.stack
def test_degraded_without_workers(client: TestClient, settings: Settings) -> None:
    never = client.get("/readyz")
    sweep(settings, seconds_ago=90)
    for answer in (never, client.get("/readyz")):
        assert (answer.status_code, answer.json()["status"], failing(answer)) == (200, "degraded", {"workers"})
        assert "60 s" in answer.json()["dependencies"]["workers"]["problem"]


@pytest.mark.stack
def test_degraded_when_the_dashboard_lacks_a_column(client: TestClient, settings: Settings) -> None:
    run_sql(settings.dashboard_db_url(), "ALTER TABLE training_sources DROP COLUMN status_version")
    answer = client.get("/readyz")
    assert (answer.status_code, failing(answer)) == (200, {"workers", "dashboard_db"})
    assert "training_sources.status_version" in answer.json()["dependencies"]["dashboard_db"]["problem"]


@pytest.mark.stack
def test_degraded_without_redis_and_dashboard(
    settings: Settings, offline: Callable[..., Settings], key_file: Path
) -> None:
    away = offline()
    mixed = settings.model_copy(
        update={
            "jwt_public_key_path": str(key_file),
            "redis_url": away.redis_url,
            "dashboard_db_port": away.dashboard_db_port,
        }
    )
    with TestClient(create_app(mixed)) as client:
        answer = client.get("/readyz")
    assert (answer.status_code, failing(answer)) == (200, {"workers", "redis", "dashboard_db"})


@pytest.mark.stack
@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("UPDATE alembic_version SET version_num = 'of-a-newer-version'", 200),
        ("DELETE FROM alembic_version", 503),
        ("DROP TABLE alembic_version", 503),
    ],
)
def test_migrations_must_not_be_behind(client: TestClient, settings: Settings, statement: str, status: int) -> None:
    run_sql(settings.chat_db_url(), statement)
    answer = client.get("/readyz")
    assert answer.status_code == status
    assert ("migrations" in failing(answer)) == (status == 503)


@pytest.mark.stack
def test_database_health(client: TestClient, settings: Settings) -> None:
    answer = client.get("/api/health/db")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json().keys() == {"status", "latency_ms", "database"}
    assert (answer.json()["status"], answer.json()["database"]) == ("ok", settings.python_chat_db_name)
