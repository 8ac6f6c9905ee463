"""docker-compose.yml and the Dockerfile, as far as they can be checked without a Docker engine."""

import re
from typing import Any

import pytest
import yaml

from chat_api.core.settings import Settings
from deploy.reference import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("migrations", "api", "workers")
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def test_the_parts_are_those_of_the_embedded_stack() -> None:
    assert set(SERVICES) == {"migrations", "api", "workers", "redis", "postgres", "s3"}


@pytest.mark.parametrize("name", OURS)
def test_our_services_get_settings_that_exist_and_are_complete(name: str) -> None:
    given = SERVICES[name]["environment"]
    assert [key for key in given if key.lower() not in Settings.model_fields] == []
    plain = {key.lower(): re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in given.items()}
    Settings.model_validate({key: value for key, value in plain.items() if value})


def test_each_service_has_its_own_login_to_the_chat_database() -> None:
    logins = {name: SERVICES[name]["environment"]["PYTHON_CHAT_DB_USERNAME"] for name in OURS}
    assert [login.rpartition(":-")[2] for login in logins.values()] == ["chat_migrator}", "chat_api}", "chat_workers}"]


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
        sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
        mounted = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", source) for source in sources if source.startswith("./")]
        assert [path for path in mounted if not (REPOSITORY / path).exists()] == []
        named = [source for source in sources if not source.startswith("./")]
        assert set(named) <= set(COMPOSE["volumes"])


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
