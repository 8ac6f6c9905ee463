"""Settings: read in one order, each problem in one line, and no secret in any of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from chat_api.core.settings import LOCAL_DIMENSIONS, LOCAL_MODEL, Settings, problems_of

REPOSITORY = Path(__file__).parents[3]
CANARY = "canary-7f3a"
NEEDED = {
    "DASHBOARD_DB_HOST": "localhost", "DASHBOARD_DB_USERNAME": "dash", "DASHBOARD_DB_NAME": "dashboard",
    "PYTHON_CHAT_DB_HOST": "localhost", "PYTHON_CHAT_DB_USERNAME": "chat", "PYTHON_CHAT_DB_NAME": "chat",
    "OPENAI_API_KEY": "sk-test", "R2_ACCOUNT_ID": "account",
}  # fmt: skip
PRINT = "import sys; from chat_api.core.settings import load_settings; s = load_settings(); print(repr(s)); print(s.{})"


def load(folder: Path, environment: dict[str, str], show: str = "app_env") -> subprocess.CompletedProcess[str]:
    """What a process prints that loads its settings in `folder`: all of them, and the one to show."""
    return subprocess.run(
        [sys.executable, "-c", PRINT.format(show)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def settings_of(environment: dict[str, str]) -> Settings:
    return Settings.model_validate({name.lower(): value for name, value in environment.items()})


def problems(environment: dict[str, str]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        settings_of(environment)
    return problems_of(caught.value)


def without(*names: str, **changes: str) -> dict[str, str]:
    return {name: value for name, value in {**NEEDED, **changes}.items() if name not in names}


# --- where they come from --------------------------------------------------------------------------------------------


def test_the_environment_wins_over_env_local_and_that_over_env(tmp_path: Path) -> None:
    lines = "".join(f"{name}={value}\n" for name, value in NEEDED.items())
    (tmp_path / ".env").write_text(f"{lines}OPENAI_MODEL=from-env\nLOG_LEVEL=ERROR\nQUEUE_NAME=from-env\n")
    (tmp_path / ".env.local").write_text("OPENAI_MODEL=from-local\nQUEUE_NAME=from-local\n")
    show = "openai_model, s.queue_name, s.log_level"
    found = load(tmp_path, {"QUEUE_NAME": "from-environment"}, show)
    assert found.stdout.splitlines()[-1] == "from-local from-environment ERROR", found.stderr


def test_an_empty_value_counts_as_not_given(tmp_path: Path) -> None:
    found = load(tmp_path, {**NEEDED, "OPENAI_MODEL": "", "METRICS_PORT": ""}, "openai_model, s.metrics_port")
    assert found.stdout.splitlines()[-1] == "gpt-4o-mini None", found.stderr


FIXED = """
    APP_ENV LOG_LEVEL DASHBOARD_DB_HOST DASHBOARD_DB_PORT DASHBOARD_DB_USERNAME DASHBOARD_DB_PASSWORD DASHBOARD_DB_NAME
    PYTHON_CHAT_DB_HOST PYTHON_CHAT_DB_PORT PYTHON_CHAT_DB_USERNAME PYTHON_CHAT_DB_PASSWORD PYTHON_CHAT_DB_NAME REDIS_URL
    OPENAI_API_KEY OPENAI_BASE_URL OPENAI_MODEL R2_ACCOUNT_ID ACCESS_KEY_ID SECRET_ACCESS_KEY CLOUDFLARE_R2_BASE_URL
    R2_API_KEY_TOKEN R2_BUCKET R2_ENDPOINT_URL EMBEDDING_PROVIDER EMBEDDING_MODEL EMBEDDING_DIMENSIONS EMBEDDING_BASE_URL
    LLM_PROVIDER JWT_PUBLIC_KEY_PATH JWT_ISSUER JWT_AUDIENCE JWT_MAX_LIFETIME_S WS_QUERY_TOKEN FETCH_ALLOW CORS_ORIGINS
    CHAT_DB_MIGRATOR_USERNAME CHAT_DB_MIGRATOR_PASSWORD LOG_FILE
"""


def test_every_name_that_others_rely_on_is_there() -> None:
    assert set(FIXED.split()) <= {name.upper() for name in Settings.model_fields}


def test_a_key_and_two_databases_are_all_that_is_needed() -> None:
    found = settings_of(NEEDED)
    assert found.app_env == "production"
    assert found.openai_model == "gpt-4o-mini"
    assert found.space == ("text-embedding-3-small", 1536)
    assert (found.embedding_server, found.ws_query_token, found.fetch_allow) == ("https://api.openai.com/v1", False, "")
    assert found.s3_endpoint == "https://account.r2.cloudflarestorage.com"


# --- what is wrong with them -----------------------------------------------------------------------------------------


BAD: dict[str, tuple[dict[str, str], list[str]]] = {
    "missing": (without("DASHBOARD_DB_HOST"), ["DASHBOARD_DB_HOST is missing"]),
    "no number": (without(PYTHON_CHAT_DB_PORT="x"), ["PYTHON_CHAT_DB_PORT: Input should be a valid integer"]),
    "not a choice": (without(EMBEDDING_PROVIDER="magic"), ["EMBEDDING_PROVIDER: Input should be 'openai' or 'local'"]),
    "out of range": (without(JWT_MAX_LIFETIME_S="1"), ["JWT_MAX_LIFETIME_S: Input should be greater than"]),
    "no key": (
        without("OPENAI_API_KEY"),
        ["OPENAI_API_KEY is missing (or set LLM_PROVIDER", "OPENAI_API_KEY is missing (or set EMBEDDING_PROVIDER"],
    ),
    "unknown dimensions": (without(EMBEDDING_MODEL="other"), ["EMBEDDING_DIMENSIONS is missing (needed for other)"]),
    "dimensions of the local model": (
        without(EMBEDDING_PROVIDER="local", EMBEDDING_DIMENSIONS="77"),
        [f"EMBEDDING_DIMENSIONS must be {LOCAL_DIMENSIONS}"],
    ),
    "no bucket": (without("R2_ACCOUNT_ID"), ["R2_ACCOUNT_ID is missing (or set R2_ENDPOINT_URL)"]),
    "one key of two": (without(ACCESS_KEY_ID="x"), ["SECRET_ACCESS_KEY is missing (a bucket takes both keys"]),
    "the other key": (without(SECRET_ACCESS_KEY="x"), ["ACCESS_KEY_ID is missing (a bucket takes both keys"]),
    "no port": (without(DASHBOARD_DB_PORT="99999"), ["DASHBOARD_DB_PORT: Input should be less than"]),
    "no address of Redis": (
        without(REDIS_URL="http://u:p@x"),
        ["REDIS_URL is not an address that begins with redis://"],
    ),
    "no address of a bucket": (without(R2_ENDPOINT_URL="zzz"), ["R2_ENDPOINT_URL is not an address"]),
    "no address of a model": (without(OPENAI_BASE_URL="ftp://x"), ["OPENAI_BASE_URL is not an address"]),
    "no origin": (without(CORS_ORIGINS="https://a.example,b"), ["CORS_ORIGINS (entry 2) is not an address"]),
    "two at once": (
        without("DASHBOARD_DB_NAME", LOG_LEVEL="LOUD"),
        ["DASHBOARD_DB_NAME is missing", "LOG_LEVEL: Input should be 'DEBUG'"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_each_problem_is_one_line_that_names_its_variable(what: str) -> None:
    environment, expected = BAD[what]
    found = problems(environment)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)
        assert "\n" not in line


def test_the_keyless_providers_need_no_key() -> None:
    found = settings_of(without("OPENAI_API_KEY", EMBEDDING_PROVIDER="local", LLM_PROVIDER="extractive"))
    assert found.space == (LOCAL_MODEL, LOCAL_DIMENSIONS)


def test_a_bad_start_ends_with_a_line_for_each_problem(tmp_path: Path) -> None:
    found = load(tmp_path, without("DASHBOARD_DB_HOST", "R2_ACCOUNT_ID", LOG_LEVEL="LOUD"))
    assert found.returncode == 1
    assert found.stdout == ""
    lines = found.stderr.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == ["DASHBOARD_DB_HOST", "LOG_LEVEL", "R2_ACCOUNT_ID"]
    assert all(line.startswith("settings: ") for line in lines)


# --- secrets ---------------------------------------------------------------------------------------------------------


SECRETS = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]


def test_what_is_secret_is_known_to_be() -> None:
    assert {
        "dashboard_db_password", "python_chat_db_password", "chat_db_migrator_password", "redis_url", "openai_api_key",
        "access_key_id", "secret_access_key", "r2_api_key_token",
    } == set(SECRETS)  # fmt: skip


SHOWN: dict[str, Callable[[Settings], object]] = {
    "repr": repr,
    "str": str,
    "dashboard url": Settings.dashboard_db_url,
    "chat url": Settings.chat_db_url,
    "migrator url": lambda settings: settings.chat_db_url(migrator=True),
    "json": Settings.model_dump_json,
}


@pytest.mark.parametrize("how", SHOWN)
def test_no_secret_is_shown(how: str) -> None:
    secrets = {name.upper(): f"{CANARY}-{name}" for name in SECRETS} | {"REDIS_URL": f"redis://:{CANARY}@host/0"}
    found = settings_of({**NEEDED, **secrets, "CHAT_DB_MIGRATOR_USERNAME": "migrator"})
    assert CANARY not in str(SHOWN[how](found))


def test_no_secret_is_in_a_problem(tmp_path: Path) -> None:
    secrets = {name.upper(): f"{CANARY}-{name}" for name in SECRETS}
    wrong = dict.fromkeys(
        ("LOG_LEVEL", "DB_POOL_SIZE", "EMBEDDING_PROVIDER", "WS_QUERY_TOKEN", "JWT_MAX_LIFETIME_S"), CANARY
    )
    found = load(tmp_path, {**NEEDED, **secrets, **wrong})
    assert len(found.stderr.splitlines()) == 6
    assert CANARY not in found.stderr + found.stdout


def test_no_value_is_in_the_errors_own_words() -> None:
    with pytest.raises(ValidationError) as caught:
        settings_of({**NEEDED, "LOG_LEVEL": CANARY})
    assert CANARY not in str(caught.value)


def test_the_migrator_is_the_process_unless_named() -> None:
    own = settings_of({**NEEDED, "PYTHON_CHAT_DB_PASSWORD": "own"})
    assert own.chat_db_url(migrator=True) == own.chat_db_url()
    named = own.model_copy(
        update={"chat_db_migrator_username": "migrator", "chat_db_migrator_password": SecretStr("other")}
    )
    assert (named.chat_db_url(migrator=True).username, named.chat_db_url(migrator=True).password) == (
        "migrator",
        "other",
    )
    assert named.chat_db_url().username == "chat"
