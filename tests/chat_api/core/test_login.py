"""A login that may do more than its work: said in a sentence, and in production no start with it."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import text
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from chat_api.core import database
from chat_api.core import login as login_module
from chat_api.core.login import PowerfulLoginError, check_login
from chat_api.core.settings import Settings
from chat_api.main import create_app
from deploy.local.databases import API, MIGRATOR, WORKERS
from tests.servers import REPOSITORY, ROLE_PASSWORDS, Servers, as_api

pytestmark = pytest.mark.stack


@pytest.fixture
def strict(settings: Settings) -> Settings:
    """A production deployment, as the superuser."""
    return settings.model_copy(update={"app_env": "production"})


@pytest.fixture
def login(servers: Servers) -> Iterator[Callable[[str], str]]:
    """Makes a login with some options; its name is its password."""
    made = list[str]()
    with psycopg.connect(servers.cluster_dsn, autocommit=True) as admin:

        def make(options: str) -> str:
            made.append(f"login_{secrets.token_hex(6)}")
            create = sql.SQL(f"CREATE ROLE {{}} LOGIN PASSWORD {{}} {options}")
            admin.execute(create.format(sql.Identifier(made[-1]), sql.Literal(made[-1])))
            return made[-1]

        yield make
        for name in made:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def logged_in(settings: Settings, name: str, password: str | None = None) -> Settings:
    secret = SecretStr(password or ROLE_PASSWORDS.get(name, name))
    return settings.model_copy(update={"python_chat_db_username": name, "python_chat_db_password": secret})


@pytest.mark.parametrize("role", [API, WORKERS])
def test_the_logins_that_are_meant_for_it_are_welcome(strict: Settings, role: str) -> None:
    check_login(logged_in(strict, role))


def test_a_superuser_is_refused(strict: Settings) -> None:
    with pytest.raises(PowerfulLoginError, match="postgres is a superuser"):
        check_login(strict)


def test_the_owner_of_the_tables_is_refused(strict: Settings) -> None:
    with pytest.raises(PowerfulLoginError, match="chat_migrator owns the tables"):
        check_login(logged_in(strict, MIGRATOR))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("BYPASSRLS", "bypasses row-level security"),
        ("IN ROLE chat_migrator", "owns the tables"),
        ("NOINHERIT IN ROLE chat_migrator", "owns the tables"),
    ],
)
def test_who_could_become_as_strong_is_refused(
    strict: Settings, login: Callable[[str], str], options: str, said: str
) -> None:
    with pytest.raises(PowerfulLoginError, match=said):
        check_login(logged_in(strict, login(options)))


def test_a_further_login_of_the_same_kind_is_welcome(strict: Settings, login: Callable[[str], str]) -> None:
    check_login(logged_in(strict, login("IN ROLE chat_api")))


def test_it_is_a_warning_elsewhere_or_when_it_was_allowed_by_name(settings: Settings, strict: Settings) -> None:
    with capture_logs() as lines:
        check_login(settings)
        check_login(strict.model_copy(update={"allow_powerful_db_login": True}))
    assert [line["event"] for line in lines] == ["powerful_db_login"] * 2


def test_a_database_that_is_away_stops_no_start(strict: Settings) -> None:
    check_login(strict.model_copy(update={"python_chat_db_port": 1}))


def test_nor_does_one_that_is_frozen(strict: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_module, "POWERS", text("SELECT pg_sleep(30)"))
    monkeypatch.setattr(database, "ANSWER_WITHIN_S", 0.5)
    check_login(strict)


def test_readyz_refuses_it_too(strict: Settings) -> None:
    with TestClient(create_app(strict)) as client:
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "is a superuser" in answer.json()["dependencies"]["chat_db"]["problem"]
    with TestClient(create_app(as_api(strict))) as client:
        assert client.get("/readyz").json()["dependencies"]["chat_db"]["state"] == "ok"


@pytest.mark.parametrize(
    "command",
    [("-m", "workers", "--sweeper-only"), ("-c", "import chat_api.main; chat_api.main.app")],
    ids=["workers", "api"],
)
def test_the_process_ends_with_the_sentence(strict: Settings, command: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, *command], env=environment(strict), cwd=REPOSITORY, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "PYTHON_CHAT_DB_USERNAME: postgres is a superuser" in ended.stderr
    assert "ALLOW_POWERFUL_DB_LOGIN" in ended.stderr


def environment(settings: Settings) -> dict[str, str]:
    said = {name: value for name, value in settings if value is not None}
    plain = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in said.items()}
    words = {
        name.upper(): json.dumps(value) if isinstance(value, dict) else str(value) for name, value in plain.items()
    }
    return {"PATH": os.environ["PATH"], **words}
