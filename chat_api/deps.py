"""What routes ask for, as annotated aliases; all of it was opened by the lifespan and hangs on `app.state`."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request, Response, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import State

from chat_api.auth import Principal, TokenRefused, TokenRules, bearer_token, require, verify
from chat_api.chat.origins import check_token_origin
from chat_api.core.database import of_org
from chat_api.core.settings import Settings
from chat_api.training.objects import Bucket

Check = Callable[[Principal], None]


def principal_of(state: State, token: str) -> Principal:
    """Who a token is, by the app's keys and settings; for HTTP and WebSocket. Raises TokenRefused."""
    principal = verify(token, state.keys.current(), TokenRules.of(state.settings), time.time())
    structlog.contextvars.bind_contextvars(org_id=str(principal.org_id))
    return principal


# Shown in the API's description; the header itself is read more strictly below.
_bearer = HTTPBearer(auto_error=False)


async def current_principal(request: Request, _shown: Annotated[object, Security(_bearer)]) -> Principal:
    """Who is asking, by the Authorization header alone. Raises TokenRefused (401), ForbiddenOrigin (403)."""
    return _identify(request)


def _identify(request: Request) -> Principal:
    """As `current_principal`; a request's token is verified once."""
    known: Principal | None = getattr(request.state, "principal", None)
    if known:
        return known
    token = bearer_token(request.headers.getlist("authorization"))
    if token is None:
        raise TokenRefused("there is none")
    principal = principal_of(request.app.state, token)
    check_token_origin(request.headers.get("origin"), principal.origins)
    request.state.principal = principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


class Allowed:
    """A dependency that gives the principal if `check` raises nothing."""

    def __init__(self, check: Check) -> None:
        self.check = check

    async def __call__(self, principal: CurrentPrincipal) -> Principal:
        """The principal."""
        self.check(principal)
        return principal


def require_scope(scope: str) -> Allowed:
    """A dependency that gives the principal when its token allows `scope`, else MissingScope (403)."""
    return Allowed(lambda principal: require(principal, scope))


class TokenFirst(APIRoute):
    """A route that looks at who is asking before it reads the body: a stranger's is not judged."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind what its dependencies demand of the token."""
        handle, checks = super().get_route_handler(), list(_checks_of(self.dependant))

        async def checked(request: Request) -> Response:
            principal = _identify(request)
            for check in checks:
                check(principal)
            return await handle(request)

        return checked


def _checks_of(dependant: Dependant) -> Iterator[Check]:
    for needed in dependant.dependencies:
        if isinstance(needed.call, Allowed):
            yield needed.call.check
        yield from _checks_of(needed)


async def no_store(response: Response) -> None:
    """A dependency of routes whose answers no cache may keep."""
    response.headers["Cache-Control"] = "no-store"


async def _settings(request: Request) -> Settings:
    found: Settings = request.app.state.settings
    return found


async def _bucket(request: Request) -> Bucket:
    found: Bucket = request.app.state.bucket
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
BucketDep = Annotated[Bucket, Depends(_bucket)]
RedisDep = Annotated[Redis, Depends(_redis)]
ChatSession = Annotated[AsyncSession, Depends(_chat_session)]
DashboardSession = Annotated[AsyncSession, Depends(_dashboard_session)]
