"""The embedded stack's children: which processes it has, with which commands and settings."""

import hmac
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr, ValidationError
from sqlalchemy import URL

from chat_api.core.settings import Settings, problems_of
from deploy.local import databases
from deploy.local.plan import Child, Plan
from deploy.local.processes import MARK
from deploy.local.servers import SUPERUSER, Postgres, postgres, redis_command, redis_url, s3_command
from deploy.local.state import StackError, State

REPOSITORY = databases.REPOSITORY
SETTING_NAMES = frozenset(name.upper() for name in Settings.model_fields)
BUCKET, ACCESS_KEY_ID = "training", "embedded"


def embedded(state: State, environ: Mapping[str, str]) -> Plan:
    """The plan of the whole stack in `state`; settings in `environ` win over its own. Raises StackError."""
    ports, secrets = state.ports(environ), state.secrets()
    variables = settings_of(state, ports, secrets, environ)
    settings = _checked(variables)
    state.remember(given=_digests(secrets, environ))
    cluster = _cluster(state, ports, secrets)
    bare = {name: value for name, value in environ.items() if name.upper() not in SETTING_NAMES}
    bare |= {MARK: str(state.root), "PYTHONUNBUFFERED": "1"}
    logins = _logins(secrets, environ)
    tiers = (
        _servers(state, cluster, ports, secrets, bare),
        (
            _s3(state, ports, settings, bare),
            _migrations(cluster, secrets, {**bare, **variables, **logins["migrations"]}),
        ),
        (
            _api(ports, {**bare, **variables, **logins["api"]}),
            *_workers(settings, {**bare, **variables, **logins["workers"]}),
            _dashboard(state, ports, {**bare, **variables}),
        ),
    )
    return Plan(tiers=tiers, info=_info(state, ports, settings))


def changed_settings(state: State, environ: Mapping[str, str]) -> list[str]:
    """The settings in `environ` without which, or with another value, the stack in `state` was started.

    Raises StackError when they are bad.
    """
    known, secrets = state.choices(), state.secrets()
    changed = sorted(set(_digests(secrets, environ).items()) - set(known.get("given", {}).items()))
    if changed:
        _checked(settings_of(state, known["ports"], secrets, environ))
    return [name for name, _ in changed]


def _digests(secrets: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """By name what tells one value of a given setting from another."""
    given = {name: value for name, value in environ.items() if name.upper() in SETTING_NAMES and value}
    return {
        name.upper(): hmac.digest(secrets["postgres"].encode(), value.encode(), "sha256").hex()
        for name, value in given.items()
    }


def _logins(secrets: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By process the login to the chat database that it gets beyond the stack's settings, whose own is the superuser's.

    None where `environ` names one, which is then everybody's.
    """
    if environ.get("PYTHON_CHAT_DB_USERNAME"):
        return {"migrations": {}, "api": {}, "workers": {}}

    def login(prefix: str, role: str) -> dict[str, str]:
        return {f"{prefix}_USERNAME": role, f"{prefix}_PASSWORD": secrets[role]}

    return {
        "migrations": login("CHAT_DB_MIGRATOR", databases.MIGRATOR),
        "api": login("PYTHON_CHAT_DB", databases.API),
        "workers": login("PYTHON_CHAT_DB", databases.WORKERS),
    }


def _cluster(state: State, ports: Mapping[str, int], secrets: Mapping[str, str]) -> Postgres:
    home = Path(state.choices().get("postgres_home") or state.root / "postgres")
    cluster = postgres(home, ports["postgres"], secrets["postgres"])
    state.remember(postgres_home=str(cluster.home))
    return cluster


def _checked(variables: Mapping[str, str]) -> Settings:
    try:
        return Settings.model_validate({name.lower(): value for name, value in variables.items()})
    except ValidationError as error:
        raise StackError("; ".join(problems_of(error))) from error


def settings_of(
    state: State, ports: Mapping[str, int], secrets: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """The settings of API, workers and dashboard: the stack's own under those that `environ` gives."""
    given = {name.upper(): value for name, value in environ.items() if name.upper() in SETTING_NAMES and value}
    own = _server_settings(ports, secrets)
    if "R2_ACCOUNT_ID" in given:
        del own["R2_ENDPOINT_URL"]
    return {
        **own,
        **_provider_settings(given),
        "APP_ENV": "development",
        "JWT_PUBLIC_KEY_PATH": str(state.key_pair()[1]),
        "CORS_ORIGINS": f"http://127.0.0.1:{ports['dashboard']}",
        **given,
        # The sample site is served by the dashboard.
        "FETCH_ALLOW": ",".join(filter(None, [given.get("FETCH_ALLOW"), f"127.0.0.1:{ports['dashboard']}"])),
    }


def _server_settings(ports: Mapping[str, int], secrets: Mapping[str, str]) -> dict[str, str]:
    settings = {
        "REDIS_URL": redis_url(ports["redis"], secrets["redis"]),
        "R2_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "R2_BUCKET": BUCKET,
        "ACCESS_KEY_ID": ACCESS_KEY_ID,
        "SECRET_ACCESS_KEY": secrets["s3"],
    }
    for prefix, name in (("DASHBOARD_DB", databases.DASHBOARD), ("PYTHON_CHAT_DB", databases.CHAT)):
        settings |= {
            f"{prefix}_HOST": "127.0.0.1",
            f"{prefix}_PORT": str(ports["postgres"]),
            f"{prefix}_USERNAME": SUPERUSER,
            f"{prefix}_PASSWORD": secrets["postgres"],
            f"{prefix}_NAME": name,
        }
    return settings


def _provider_settings(given: Mapping[str, str]) -> dict[str, str]:
    settings = {"EMBEDDING_PROVIDER": "local", "LLM_PROVIDER": "extractive"}
    if "OPENAI_API_KEY" in given:
        settings = dict.fromkeys(settings, "openai")
    elif "OPENAI_BASE_URL" in given or "EMBEDDING_BASE_URL" in given:
        # Servers of one's own (vLLM, Ollama) often ask for no key; the settings ask for one.
        settings["OPENAI_API_KEY"] = "none"
    return settings


def _servers(
    state: State, cluster: Postgres, ports: Mapping[str, int], secrets: Mapping[str, str], env: Mapping[str, str]
) -> tuple[Child, ...]:
    redis = redis_command(state.root / "redis", ports["redis"], secrets["redis"])
    return (
        Child(
            "postgres",
            cluster.command(),
            env=env,
            cwd=str(cluster.data),
            ready=f"tcp:{ports['postgres']}",
            account=cluster.account,
            stop_signal=signal.SIGINT,  # "fast": sessions are ended, not waited for
            stop_seconds=20,
            attempts=8,  # a killed server's last sessions may hold its memory for a moment
            pidfile=str(cluster.data / "postmaster.pid"),
        ),
        Child("redis", redis, env=env, cwd=str(state.root / "redis"), ready=f"tcp:{ports['redis']}"),
    )


def _s3(state: State, ports: Mapping[str, int], settings: Settings, env: Mapping[str, str]) -> Child:
    command = s3_command(state.root / "s3", ports["s3"], settings.r2_bucket)
    return Child("s3", command, env=env, cwd=str(REPOSITORY), ready=f"tcp:{ports['s3']}")


def _migrations(cluster: Postgres, secrets: Mapping[str, str], env: Mapping[str, str]) -> Child:
    passwords = {databases.ROLE_PASSWORD.format(role.upper()): secrets[role] for role in databases.ROLES}
    return Child(
        "migrations",
        (sys.executable, "-m", "deploy.local.databases"),
        env={**env, **passwords, databases.CLUSTER_DSN: cluster.dsn("postgres")},
        cwd=str(REPOSITORY),
        once=True,
    )


def _api(ports: Mapping[str, int], env: Mapping[str, str]) -> Child:
    bounded = ("--http", "chat_api.server:BoundedHttp", "--ws", "chat_api.server:BoundedSocket")
    options = (*bounded, "--ws-per-message-deflate", "false", "--no-access-log", "--timeout-keep-alive", "75")
    # A little above the largest frame that is served, so that the service itself closes with 1009.
    address = ("--host", "127.0.0.1", "--port", str(ports["api"]), "--ws-max-size", "65536")
    return Child(
        "api",
        (sys.executable, "-m", "uvicorn", "chat_api.main:app", *address, *options),
        env=env,
        cwd=str(REPOSITORY),
        ready=f"http://127.0.0.1:{ports['api']}/readyz",
    )


def _workers(settings: Settings, env: Mapping[str, str]) -> tuple[Child, ...]:
    # Each is a pool of one, so that one that dies is started again alone; they can't share a metrics port.
    own = {**{name: value for name, value in env.items() if name != "METRICS_PORT"}, "WORKERS": "1"}
    return tuple(
        Child(
            f"worker-{number}",
            (sys.executable, "-m", "workers"),
            env=own,
            cwd=str(REPOSITORY),
            ready=f"rq+{settings.redis_url.get_secret_value()}",
            stop_seconds=15,
        )
        for number in range(1, settings.workers + 1)
    )


def _dashboard(state: State, ports: Mapping[str, int], env: Mapping[str, str]) -> Child:
    return Child(
        "dashboard",
        (sys.executable, "-m", "deploy.local.dashboard"),
        env={**env, "STACK_JSON": str(state.stack_json), "DASHBOARD_PORT": str(ports["dashboard"])},
        cwd=str(REPOSITORY),
        ready=f"tcp:{ports['dashboard']}",
    )


def _info(state: State, ports: Mapping[str, int], settings: Settings) -> dict[str, object]:
    return {
        "api_url": f"http://127.0.0.1:{ports['api']}",
        "ws_url": f"ws://127.0.0.1:{ports['api']}/api/chat/ws",
        "dashboard_url": f"http://127.0.0.1:{ports['dashboard']}",
        "dashboard_db_dsn": _dsn(settings.dashboard_db_url()),
        "chat_db_dsn": _dsn(settings.chat_db_url()),
        "redis_url": settings.redis_url.get_secret_value(),
        "s3": {
            "endpoint_url": settings.s3_endpoint,
            "bucket": settings.r2_bucket,
            "access_key_id": _plain(settings.access_key_id),
            "secret_access_key": _plain(settings.secret_access_key),
        },
        "jwt": {
            "private_key_path": str(state.key_pair()[0]),
            "public_key_path": str((REPOSITORY / settings.jwt_public_key_path).resolve()),
        },
        "log_dir": str(state.logs),
    }


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql", query={}).render_as_string(hide_password=False)


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
