"""Health: whether the process lives, what it stands on answers, and its figures."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

import structlog
from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import State
from starlette.responses import Response

from chat_api.core.errors import DatabaseUnavailable
from chat_api.core.login import login_problem, must_be_modest
from chat_api.core.migrations import pending_migration
from chat_api.core.models.dashboard import missing_columns
from chat_api.core.models.training import SWEPT_LATELY
from chat_api.errors import RETRY_AFTER_S, problem

CHECK_LIMIT_S = 2.0
DATABASE_LIMIT_S = 5.0
NO_STORE = {"Cache-Control": "no-store"}
# Without these no request can be answered; without the others chat or training goes on in part.
VITAL = {"chat_db", "migrations", "key"}

router = APIRouter(tags=["health"])
log = structlog.get_logger(__name__)

Check = Callable[[State], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Finding:
    """How one dependency is: its state, milliseconds until it said so, and what is wrong with it."""

    state: Literal["ok", "failing"]
    latency_ms: float
    problem: str | None = None


def _state(request: Request) -> State:
    found: State = request.app.state
    return found


AppState = Annotated[State, Depends(_state)]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive. Touches nothing."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(state: AppState) -> Response:
    """Each dependency's state and latency. 503 when the chat database, its migrations or the key file fail;
    anything else is `degraded`, with 200."""
    findings = await look(CHECKS, state, CHECK_LIMIT_S)
    failing = {name for name, finding in findings.items() if finding.state == "failing"}
    shown = {
        name: {"state": finding.state, "latency_ms": finding.latency_ms, "problem": finding.problem}
        for name, finding in findings.items()
    }
    if failing & VITAL:
        detail = f"Not ready: {', '.join(sorted(failing & VITAL))}."
        headers = NO_STORE | {"Retry-After": str(RETRY_AFTER_S)}
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", detail, headers=headers, dependencies=shown)
    return JSONResponse({"status": "degraded" if failing else "ok", "dependencies": shown}, headers=NO_STORE)


@router.get("/api/health/db", response_model=None)
async def database_health(state: AppState) -> Response:
    """Whether the chat database answers within 5 s."""
    finding = (await look({"chat_db": chat_database}, state, DATABASE_LIMIT_S))["chat_db"]
    members = {"latency_ms": finding.latency_ms, "database": state.settings.python_chat_db_name}
    if finding.state == "ok":
        return JSONResponse({"status": "ok", **members}, headers=NO_STORE)
    error = DatabaseUnavailable()
    headers = NO_STORE | {"Retry-After": str(RETRY_AFTER_S)}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, error.code, error.message, headers=headers, **members)


async def metrics() -> Response:
    """The process's figures for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def look(checks: Mapping[str, Check], state: State, limit_s: float) -> dict[str, Finding]:
    """What each check finds, side by side, none waited for longer than `limit_s` seconds."""
    tasks = {name: asyncio.create_task(_find(name, check, state)) for name, check in checks.items()}
    # A check that hangs is left to its own cancellation: waiting for that could take longer than the limit.
    _, late = await asyncio.wait(tasks.values(), timeout=limit_s)
    for task in late:
        task.cancel()
    silent = Finding("failing", limit_s * 1000, f"No answer within {limit_s:g} s.")
    return {name: silent if task in late else task.result() for name, task in tasks.items()}


async def _find(name: str, check: Check, state: State) -> Finding:
    began = time.perf_counter()
    reason = None
    try:
        trouble = await check(state)
    except (SQLAlchemyError, RedisError, OSError) as error:
        # The error's own text names hosts and users: it is for the log alone.
        trouble, reason = f"It does not answer ({type(error).__name__}).", str(error)
    if trouble:
        log.warning("dependency_failing", dependency=name, problem=trouble, reason=reason)
    latency_ms = round((time.perf_counter() - began) * 1000, 1)
    return Finding("failing" if trouble else "ok", latency_ms, trouble)


async def chat_database(state: State) -> str | None:
    """The chat database answers, with a login that this deployment may use."""
    async with state.engines.chat.connect() as connection:
        if must_be_modest(state.settings):
            problem: str | None = await connection.run_sync(login_problem)
            return problem
        await connection.execute(text("SELECT 1"))
    return None


async def dashboard_database(state: State) -> str | None:
    """The dashboard database answers, and has the columns that this service reads and writes."""
    async with state.engines.dashboard.connect() as connection:
        missing = await connection.run_sync(missing_columns)
    return f"Columns are missing: {', '.join(missing)}." if missing else None


async def migrations(state: State) -> str | None:
    """The chat database has every migration that this version knows."""
    async with state.engines.chat.connect() as connection:
        pending = await connection.run_sync(pending_migration)
    return f"Run the migrations: {pending} is missing." if pending else None


async def key(state: State) -> str | None:
    """The key file is one that can be used; if it no longer is, the keys read before are still in force."""
    state.keys.current()
    trouble: str | None = state.keys.problem
    return trouble


async def redis(state: State) -> str | None:
    """Redis answers."""
    await to_thread.run_sync(state.redis.ping, abandon_on_cancel=True)
    return None


async def workers(state: State) -> str | None:
    """A sweeper was at work within the last minute, so that workers are there."""
    async with state.engines.chat.connect() as connection:
        swept = await connection.scalar(text(f"SELECT {SWEPT_LATELY}"))
    return None if swept else "No sweep for 60 s: is a worker pool running?"


CHECKS: dict[str, Check] = {
    "chat_db": chat_database,
    "migrations": migrations,
    "key": key,
    "dashboard_db": dashboard_database,
    "redis": redis,
    "workers": workers,
}
