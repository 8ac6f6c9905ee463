"""The stack's settings and its list of children."""

import json
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from deploy.local import stack
from deploy.local.children import REPOSITORY, changed_settings, embedded, settings_of
from deploy.local.plan import Plan
from deploy.local.state import StackError, State

PORTS = {"api": 21001, "dashboard": 21002, "postgres": 21003, "redis": 21004, "s3": 21005}
SECRETS = {"postgres": "p/w", "redis": "r:w", "s3": "s"}


def settings(tmp_path: Path, **environ: str) -> dict[str, str]:
    return settings_of(State.create(tmp_path / "state"), PORTS, SECRETS, environ)


def test_without_a_key_the_stack_answers_by_itself(tmp_path: Path) -> None:
    own = settings(tmp_path, OPENAI_API_KEY="", HOME="/nowhere")
    assert (own["APP_ENV"], own["EMBEDDING_PROVIDER"], own["LLM_PROVIDER"]) == ("development", "local", "extractive")
    assert "OPENAI_API_KEY" not in own
    assert "HOME" not in own
    assert own["FETCH_ALLOW"] == "127.0.0.1:21002"


def test_a_key_means_openai_for_both(tmp_path: Path) -> None:
    own = settings(tmp_path, OPENAI_API_KEY="sk-test")
    assert (own["EMBEDDING_PROVIDER"], own["LLM_PROVIDER"]) == ("openai", "openai")
    assert settings(tmp_path, OPENAI_API_KEY="sk-test", LLM_PROVIDER="extractive")["LLM_PROVIDER"] == "extractive"


def test_settings_in_the_environment_win(tmp_path: Path) -> None:
    given = {
        "OPENAI_BASE_URL": "http://127.0.0.1:8099/v1",
        "EMBEDDING_PROVIDER": "openai",
        "LLM_PROVIDER": "openai",
        "FETCH_ALLOW": "127.0.0.1:8099",
        "WORKERS": "4",
        "REDIS_URL": "redis://elsewhere:6379/1",
        "PYTHON_CHAT_DB_HOST": "elsewhere",
    }
    own = settings(tmp_path, **given)
    assert own["FETCH_ALLOW"] == "127.0.0.1:8099,127.0.0.1:21002"
    assert {**own, "FETCH_ALLOW": "127.0.0.1:8099"} | given == {**own, "FETCH_ALLOW": "127.0.0.1:8099"}
    assert own["DASHBOARD_DB_HOST"] == "127.0.0.1"


def test_a_bucket_at_r2_replaces_the_stacks_endpoint(tmp_path: Path) -> None:
    assert "R2_ENDPOINT_URL" not in settings(tmp_path, R2_ACCOUNT_ID="0123")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    state = State.create(tmp_path_factory.mktemp("plan"))
    environ = {"WORKERS": "3", "METRICS_PORT": "21009", "PATH": "/bin", "OPENAI_API_KEY": "sk-canary"}
    yield Plan.from_json(embedded(state, environ).to_json())
    stack.remove(state.root)


def test_the_plan_names_every_process(plan: Plan) -> None:
    names = [[child.name for child in tier] for tier in plan.tiers]
    assert names[0] == ["postgres", "redis"]
    assert names[1] == ["s3", "migrations"]
    assert names[2] == ["api", "worker-1", "worker-2", "worker-3", "dashboard"]


def test_the_api_is_started_as_in_its_container(plan: Plan) -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    found = re.search(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert found
    contained = options_of(json.loads(found[1]))
    [here] = [options_of(child.command) for tier in plan.tiers for child in tier if child.name == "api"]
    own = {"--host", "--port", "--timeout-graceful-shutdown"}
    assert {name: value for name, value in contained.items() if name not in own} == {
        name: value for name, value in here.items() if name not in own
    }
    # A proxy keeps its connections for a minute as a rule, and must be the one that ends them.
    assert int(here["--timeout-keep-alive"]) > 60


def options_of(command: Sequence[str]) -> dict[str, str]:
    """By name the values of a command's options; empty for one that has none."""
    following = [*command[1:], "--"]
    named = zip(command, following, strict=True)
    return {name: "" if value.startswith("--") else value for name, value in named if name.startswith("--")}


def test_each_process_has_its_own_login_to_the_chat_database(plan: Plan) -> None:
    env = {child.name: child.env for tier in plan.tiers for child in tier}
    assert env["api"]["PYTHON_CHAT_DB_USERNAME"] == "chat_api"
    assert env["worker-1"]["PYTHON_CHAT_DB_USERNAME"] == "chat_workers"
    assert env["migrations"]["CHAT_DB_MIGRATOR_USERNAME"] == "chat_migrator"
    passwords = {env["api"]["PYTHON_CHAT_DB_PASSWORD"], env["worker-1"]["PYTHON_CHAT_DB_PASSWORD"]}
    assert len(passwords | {env["migrations"]["CHAT_DB_MIGRATOR_PASSWORD"]}) == 3
    assert str(plan.info["chat_db_dsn"]).startswith("postgresql://postgres:"), "checkers read everything"


def test_a_login_in_the_environment_is_everybodys(tmp_path: Path) -> None:
    state = State.create(tmp_path / "state")
    plan = embedded(state, {"PYTHON_CHAT_DB_USERNAME": "mine", "PYTHON_CHAT_DB_PASSWORD": "m"})
    stack.remove(state.root)
    env = {child.name: child.env for tier in plan.tiers for child in tier}
    assert {env[name]["PYTHON_CHAT_DB_USERNAME"] for name in ("api", "worker-1", "migrations")} == {"mine"}
    assert "CHAT_DB_MIGRATOR_USERNAME" not in env["migrations"]


def test_a_worker_is_a_pool_of_one_without_a_metrics_port(plan: Plan) -> None:
    children = {child.name: child for tier in plan.tiers for child in tier}
    assert children["worker-2"].env["WORKERS"] == "1"
    assert "METRICS_PORT" not in children["worker-2"].env
    assert children["api"].env["METRICS_PORT"] == "21009"


def test_servers_and_command_lines_get_no_secrets(plan: Plan) -> None:
    children = {child.name: child for tier in plan.tiers for child in tier}
    for server in ("postgres", "redis", "s3"):
        assert "sk-canary" not in str(children[server].env)
    password = conninfo_to_dict(plan.info["chat_db_dsn"])["password"]
    secrets = ["sk-canary", str(password), plan.info["s3"]["secret_access_key"]]
    for child in children.values():
        assert not any(secret in word for secret in secrets for word in child.command)


def test_stack_json_holds_what_other_programs_need(plan: Plan) -> None:
    info = json.loads(json.dumps(plan.info))
    assert set(info) == {
        "api_url", "ws_url", "dashboard_url", "dashboard_db_dsn", "chat_db_dsn", "redis_url", "s3", "jwt", "log_dir",
    }  # fmt: skip
    assert set(info["s3"]) == {"endpoint_url", "bucket", "access_key_id", "secret_access_key"}
    assert info["ws_url"] == info["api_url"].replace("http", "ws") + "/api/chat/ws"
    assert stat.S_IMODE(Path(info["jwt"]["private_key_path"]).stat().st_mode) == 0o600
    assert Path(info["jwt"]["public_key_path"]).read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert psycopg.conninfo.conninfo_to_dict(info["dashboard_db_dsn"])["dbname"] == "dashboard"


def test_the_key_pair_and_the_passwords_are_kept(tmp_path: Path) -> None:
    state = State.create(tmp_path / "state")
    private, _ = state.key_pair()
    before = private.read_bytes(), state.secrets()
    assert (state.key_pair()[0].read_bytes(), state.secrets()) == before


def test_a_running_stack_is_left_for_settings_that_are_given_anew(tmp_path: Path) -> None:
    state = State.create(tmp_path / "state")
    given = {"EMBEDDING_PROVIDER": "local", "OPENAI_API_KEY": "sk-one", "HOME": "/nowhere"}
    embedded(state, given)
    assert changed_settings(state, given) == []
    assert changed_settings(state, {"OPENAI_API_KEY": "", "HOME": "/elsewhere"}) == []
    assert changed_settings(state, {"OPENAI_API_KEY": "sk-two", "WORKERS": "3"}) == ["OPENAI_API_KEY", "WORKERS"]
    assert "sk-one" not in (state.root / "choices.json").read_text()


def test_a_running_stack_is_kept_when_the_settings_given_anew_are_bad(tmp_path: Path) -> None:
    state = State.create(tmp_path / "state")
    embedded(state, {})
    with pytest.raises(StackError, match="WORKERS"):
        changed_settings(state, {"WORKERS": "none"})
