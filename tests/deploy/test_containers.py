"""docker-compose.yml and the Dockerfile, as far as they can be checked without a Docker engine."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dotenv import dotenv_values
from pydantic import ValidationError

from chat_api.core.settings import Settings
from chat_api.keyring import read_keys
from deploy.reference import REPOSITORY
from tests.servers import Servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("migrations", "api", "workers")
PRODUCTION = """
APP_ENV=production
DASHBOARD_DB_HOST=dashboard.example
DASHBOARD_DB_USERNAME=dashboard
DASHBOARD_DB_NAME=dashboard
PYTHON_CHAT_DB_HOST=chat.example
PYTHON_CHAT_DB_NAME=chat
REDIS_URL=rediss://redis.example:6379
OPENAI_API_KEY=key
R2_ACCOUNT_ID=account
ACCESS_KEY_ID=id
SECRET_ACCESS_KEY=secret
"""
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def interpolated(text: str, known: Mapping[str, str | None]) -> str:
    """`text` with `${NAME:-default}` as Compose resolves it, also one within another's default."""
    resolved = re.sub(r"\$\{(\w+):-([^${}]*)\}", lambda match: known.get(match[1]) or match[2], text)
    return resolved if resolved == text else interpolated(resolved, known)


def environment_of(name: str, env: str = "", shell: Mapping[str, str] | None = None) -> dict[str, str]:
    """What Compose gives a service where `.env` is `env`: its env_file in order, then its environment."""
    own = dotenv_values(stream=io.StringIO(env), interpolate=False)
    known = own | dict(shell or {})
    given: dict[str, str | None] = {}
    for file in SERVICES[name]["env_file"]:
        path = interpolated(file["path"], known)
        if path == ".env":
            given |= own
        elif (REPOSITORY / path).exists():
            raw = dotenv_values(REPOSITORY / path, interpolate=False)
            given |= {key: interpolated(value or "", known) for key, value in raw.items()}
        assert file["required"] is False
    given |= {key: interpolated(value, known) for key, value in SERVICES[name]["environment"].items()}
    return {key: value for key, value in given.items() if value is not None}


def settings_of(name: str, env: str = "", shell: Mapping[str, str] | None = None) -> Settings:
    """The service's settings; an empty value is none, as in `Settings`."""
    given = environment_of(name, env, shell)
    return Settings.model_validate({key.lower(): value for key, value in given.items() if value})


def test_the_parts_are_those_of_the_embedded_stack() -> None:
    assert set(SERVICES) == {"migrations", "bucket", "api", "workers", "redis", "postgres", "s3"}


@pytest.mark.parametrize("name", OURS)
def test_our_services_get_settings_that_exist_and_are_complete(name: str) -> None:
    said = [key for key, value in environment_of(name).items() if value]
    assert [key for key in said if key.lower() not in Settings.model_fields] == []
    settings = settings_of(name)
    assert (settings.app_env, settings.llm_provider, settings.embedding_provider) == (
        "development",
        "extractive",
        "local",
    )
    assert (settings.s3_endpoint, settings.dashboard_db_host) == ("http://s3:5000", "postgres")


@pytest.mark.parametrize("name", OURS)
def test_stand_ins_are_for_development_alone(name: str) -> None:
    settings = settings_of(name, PRODUCTION)
    assert (settings.app_env, settings.llm_provider, settings.embedding_provider) == ("production", "openai", "openai")
    assert settings.s3_endpoint == "https://account.r2.cloudflarestorage.com"
    needed = ("DASHBOARD_DB_HOST=dashboard.example", "OPENAI_API_KEY=key", "R2_ACCOUNT_ID=account")
    for line in (*needed, "REDIS_URL=rediss://redis.example:6379"):
        with pytest.raises(ValidationError, match=f"(?i){line.partition('=')[0]}"):
            settings_of(name, PRODUCTION.replace(line, ""))


def test_what_is_said_in_development_wins_over_the_stand_ins() -> None:
    env = "R2_ACCOUNT_ID=account\nR2_ENDPOINT_URL=\nOPENAI_API_KEY=key\nLLM_PROVIDER=openai\n"
    settings = settings_of("api", env, {"EMBEDDING_PROVIDER": "openai"})
    assert (settings.llm_provider, settings.embedding_provider) == ("openai", "openai")
    assert settings.s3_endpoint == "https://account.r2.cloudflarestorage.com"


def test_the_bucket_is_made_and_may_be_there_already(servers: Servers, s3: "S3Client") -> None:
    service = SERVICES["bucket"]
    assert service["env_file"] == []
    assert {"api", "workers"} <= {name for name in SERVICES if "bucket" in SERVICES[name].get("depends_on", {})}
    given = {key: interpolated(value, {"R2_BUCKET": "of-compose"}) for key, value in service["environment"].items()}
    assert given["AWS_ENDPOINT_URL_S3"] == environment_of("api")["R2_ENDPOINT_URL"]
    assert interpolated(service["environment"]["R2_BUCKET"], {}) == settings_of("api").r2_bucket
    env = {**os.environ, **given, "AWS_ENDPOINT_URL_S3": servers.s3_endpoint}
    for _ in range(2):
        subprocess.run([sys.executable, *service["command"][1:]], env=env, check=True, timeout=120)
    assert "of-compose" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def mounts_of(name: str, env: str = "") -> dict[str, str]:
    """By their places in the container, what a service mounts."""
    values = dict(line.split("=", 1) for line in env.splitlines())
    return {mount["target"]: interpolated(mount["source"], values) for mount in SERVICES[name].get("volumes", [])}


@pytest.mark.parametrize("path", ["public.pem", "/srv/keys/dashboard.pem"])
def test_the_api_reads_the_key_that_is_named_and_nothing_else_of_the_host(path: str) -> None:
    env = f"JWT_PUBLIC_KEY_PATH={path}\n"
    assert mounts_of("api", env) == {environment_of("api", env)["JWT_PUBLIC_KEY_PATH"]: path}
    assert [*mounts_of("api").values()] == ["public.pem"]
    assert read_keys(REPOSITORY / "public.pem")


def test_each_service_knows_the_password_of_its_own_login_alone() -> None:
    logins = ("MIGRATOR", "WORKERS", "API")
    env = PRODUCTION + "".join(
        f"CHAT_DB_{login}_USERNAME={login}\nCHAT_DB_{login}_PASSWORD=of-{login}\n" for login in logins
    )
    for name, own in {"migrations": "MIGRATOR", "workers": "WORKERS", "api": "API"}.items():
        given = environment_of(name, env)
        assert [value for value in given.values() if value.startswith("of-")] == [f"of-{own}"]
        url = settings_of(name, env).chat_db_url(migrator=name == "migrations")
        assert (url.username, url.password) == (own, f"of-{own}")


def test_each_service_has_its_own_login_to_the_chat_database() -> None:
    logins = {name: SERVICES[name]["environment"]["PYTHON_CHAT_DB_USERNAME"] for name in OURS}
    assert [login.rpartition(":-")[2] for login in logins.values()] == [
        "chat_migrator}}",
        "chat_api}}",
        "chat_workers}}",
    ]


@pytest.mark.parametrize("name", OURS)
def test_the_settings_own_login_is_every_services_where_it_has_no_other(name: str) -> None:
    env = PRODUCTION + "PYTHON_CHAT_DB_USERNAME=everybody\nPYTHON_CHAT_DB_PASSWORD=of-everybody\n"
    url = settings_of(name, env).chat_db_url(migrator=name == "migrations")
    assert (url.username, url.password) == ("everybody", "of-everybody")


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_no_more_rights_than_they_need(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_dependencies_and_mounts_exist() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        mounts = service.get("volumes", [])
        binds = [interpolated(mount["source"], {}) for mount in mounts if isinstance(mount, dict)]
        sources = [mount.split(":")[0] for mount in mounts if isinstance(mount, str)]
        mounted = [*binds, *(source for source in sources if source.startswith("./"))]
        assert [path for path in mounted if not (REPOSITORY / path).exists()] == []
        named = [source for source in sources if not source.startswith("./")]
        assert set(named) <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_logs_do_not_fill_the_disk(name: str) -> None:
    assert set(SERVICES[name]["logging"]["options"]) == {"max-size", "max-file"}


def test_the_image_runs_as_no_one_and_installs_the_lock_with_hashes() -> None:
    final = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001$", final, re.MULTILINE)
    installs = re.findall(r"pip install ([^;\n]*)", DOCKERFILE)
    assert len(installs) == 2
    assert all("--require-hashes" in install for install in installs)


def test_what_the_image_needs_is_let_through() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = re.search(r"^COPY (requirements.*) \./$", DOCKERFILE, re.MULTILINE)
    assert copied
    assert set(copied[1].split()) <= let_through
    assert {"chat_api", "workers", "alembic", "public.pem"} <= let_through
    assert [path for path in let_through if not (REPOSITORY / path).exists()] == []
