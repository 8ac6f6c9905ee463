"""What routes ask for, as annotated aliases; all of it was opened by the lifespan and hangs on `app.state`."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, Request, Response, Security
from fastapi.security import HTTPBearer
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import State

from chat_api.auth import Principal, TokenRefused, TokenRules, bearer_token, require, verify
from chat_api.core.database import of_org
from chat_api.core.settings import Settings


def principal_of(state: State, token: str) -> Principal:
    """Who a token is, by the app's keys and settings; for HTTP and WebSocket. Raises TokenRefused."""
    principal = verify(token, state.keys.current(), TokenRules.of(state.settings), time.time())
    structlog.contextvars.bind_contextvars(org_id=str(principal.org_id))
    return principal


# Shown in the API's description; the header itself is read more strictly below.
_bearer = HTTPBearer(auto_error=False)


async def current_principal(request: Request, _shown: Annotated[object, Security(_bearer)]) -> Principal:
    """Who is asking, by the Authorization header alone. Raises TokenRefused (401)."""
    token = bearer_token(request.headers.getlist("authorization"))
    if token is None:
        raise TokenRefused("there is none")
    return principal_of(request.app.state, token)


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


def require_scope(scope: str) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency that gives the principal when its token allows `scope`, else MissingScope (403)."""

    async def allowed(principal: CurrentPrincipal) -> Principal:
        require(principal, scope)
        return principal

    return allowed


async def no_store(response: Response) -> None:
    """A dependency of routes whose answers no cache may keep."""
    response.headers["Cache-Control"] = "no-store"


async def _settings(request: Request) -> Settings:
    found: Settings = request.app.state.settings
    return found


async def _redis(request: Request) -> Redis:
    found: Redis = request.app.state.redis
    return found


async def _chat_session(request: Request, principal: CurrentPrincipal) -> AsyncIterator[AsyncSession]:
    """One that sees the rows of the token's org alone."""
    engine = of_org(request.app.state.engines.chat, principal.org_id)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


async def _dashboard_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(request.app.state.engines.dashboard, expire_on_commit=False) as session:
        yield session


SettingsDep = Annotated[Settings, Depends(_settings)]
RedisDep = Annotated[Redis, Depends(_redis)]
ChatSession = Annotated[AsyncSession, Depends(_chat_session)]
DashboardSession = Annotated[AsyncSession, Depends(_dashboard_session)]
