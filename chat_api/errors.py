"""Errors → HTTP problem (RFC 9457) and WebSocket close code: the only place that knows both."""

import json
import math
from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from chat_api.core.database import DATABASE_DOWN, is_held
from chat_api.core.errors import (
    DatabaseUnavailable,
    DependencyError,
    Held,
    ProviderRejected,
    ServiceError,
    TrainingError,
)
from chat_api.core.redaction import make_redactor
from chat_api.core.refusals import (
    Conflict,
    ForbiddenBot,
    ForbiddenOrigin,
    InvalidRequest,
    MissingScope,
    RequestError,
    TooManyRequests,
    Unauthenticated,
    UnknownResource,
)
from chat_api.core.telemetry import current_request_id

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 5
MAX_PROBLEM_FIELDS = 20

log = structlog.get_logger(__name__)
_redact = make_redactor()


class CloseCode(IntEnum):
    """Why a WebSocket is closed."""

    TOO_BIG = 1009
    INTERNAL = 1011
    RESTARTING = 1012
    OVERLOADED = 1013
    TOKEN = 4401
    FORBIDDEN = 4403
    AUTH_TIMEOUT = 4408
    TOO_MANY = 4429


class Outcome(NamedTuple):
    """What becomes of an error on either side of the API."""

    status: HTTPStatus
    close: CloseCode


# The nearest class in an error's ancestry decides.
_OUTCOMES: dict[type[ServiceError], Outcome] = {
    ServiceError: Outcome(HTTPStatus.INTERNAL_SERVER_ERROR, CloseCode.INTERNAL),
    RequestError: Outcome(HTTPStatus.BAD_REQUEST, CloseCode.FORBIDDEN),
    InvalidRequest: Outcome(HTTPStatus.UNPROCESSABLE_ENTITY, CloseCode.FORBIDDEN),
    Unauthenticated: Outcome(HTTPStatus.UNAUTHORIZED, CloseCode.TOKEN),
    MissingScope: Outcome(HTTPStatus.FORBIDDEN, CloseCode.FORBIDDEN),
    ForbiddenBot: Outcome(HTTPStatus.FORBIDDEN, CloseCode.FORBIDDEN),
    ForbiddenOrigin: Outcome(HTTPStatus.FORBIDDEN, CloseCode.FORBIDDEN),
    UnknownResource: Outcome(HTTPStatus.NOT_FOUND, CloseCode.FORBIDDEN),
    Conflict: Outcome(HTTPStatus.CONFLICT, CloseCode.FORBIDDEN),
    TooManyRequests: Outcome(HTTPStatus.TOO_MANY_REQUESTS, CloseCode.TOO_MANY),
    Held: Outcome(HTTPStatus.SERVICE_UNAVAILABLE, CloseCode.OVERLOADED),
    DependencyError: Outcome(HTTPStatus.SERVICE_UNAVAILABLE, CloseCode.OVERLOADED),
    ProviderRejected: Outcome(HTTPStatus.BAD_GATEWAY, CloseCode.INTERNAL),
    TrainingError: Outcome(HTTPStatus.UNPROCESSABLE_ENTITY, CloseCode.INTERNAL),
}

# What the framework refuses before any of our code has run: (code, sentence).
REFUSALS: dict[int, tuple[str, str]] = {
    400: ("bad_request", "The request can't be read."),
    404: ("unknown_route", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method."),
    413: ("too_large_request", "The request's body is larger than allowed."),
}


class Problem(BaseModel):
    """An RFC 9457 answer, as the API's description shows it."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Problems of these statuses, as a route's `responses` show them."""
    content = {PROBLEM_JSON: {"schema": Problem.model_json_schema()}}
    return {int(status): {"description": status.phrase, "content": content} for status in statuses}


PROBLEMS = problems(
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What every route that needs a token may answer beside its own."""


def as_service_error(error: Exception) -> ServiceError:
    """Any exception as one of our own: a database that does not answer, or rows that are held, the rest is `internal`."""
    if isinstance(error, ServiceError):
        return error
    if is_held(error):
        return Held()
    return DatabaseUnavailable() if isinstance(error, DATABASE_DOWN) else ServiceError()


def outcome_of(error: ServiceError) -> Outcome:
    """The HTTP status and the WebSocket close code of an error."""
    return next(_OUTCOMES[cls] for cls in type(error).__mro__ if cls in _OUTCOMES)


def problem(
    status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: object
) -> Response:
    """An RFC 9457 answer. `code` is the stable name; `members` are further fields of the problem."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **members}
    return Response(json.dumps(body), int(status), headers, PROBLEM_JSON)


def problem_of(error: ServiceError) -> Response:
    """The problem that an error is, with Retry-After where waiting helps."""
    status = outcome_of(error).status
    headers = {}
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers["Retry-After"] = str(math.ceil(error.retry_after or RETRY_AFTER_S))
    members = {"request_id": current_request_id()} if status == HTTPStatus.INTERNAL_SERVER_ERROR else {}
    return problem(status, error.code, error.message, headers=headers, **members)


def refusal(error: HTTPException) -> Response:
    """The problem for what the framework refuses: no such route, no such method, a body too large."""
    code, sentence = REFUSALS.get(error.status_code, (f"http_{error.status_code}", str(error.detail)))
    return problem(error.status_code, code, sentence, headers=error.headers)


def unauthenticated() -> Response:
    """The answer to every bad token: the same bytes whatever is wrong with it."""
    sentence = Unauthenticated().message
    return problem(401, Unauthenticated.code, sentence, headers={"WWW-Authenticate": "Bearer"})


def install_error_handlers(app: FastAPI) -> None:
    """Makes every error of a route a problem. What no handler takes is the outermost middleware's."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_refusal)
    for down in DATABASE_DOWN:
        app.add_exception_handler(down, _on_database_down)


async def _on_service_error(_request: Request, error: Exception) -> Response:
    found = as_service_error(error)
    if isinstance(found, Unauthenticated):
        log.info("token_refused", reason=getattr(found, "reason", "there is none"))
        return unauthenticated()
    return problem_of(found)


async def _on_database_down(_request: Request, error: Exception) -> Response:
    found = as_service_error(error)
    log.warning(found.code, error=type(error).__name__)
    return problem_of(found)


async def _on_refusal(_request: Request, error: Exception) -> Response:
    return refusal(error if isinstance(error, HTTPException) else HTTPException(400))


async def _on_invalid(_request: Request, error: Exception) -> Response:
    """Says which fields are wrong and why, and never what was in them."""
    found: list[dict[str, Any]] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    fields = [
        {"field": _redact(".".join(str(part)[:64] for part in item["loc"])), "message": _redact(item["msg"])}
        for item in found[:MAX_PROBLEM_FIELDS]
    ]
    return problem(422, InvalidRequest.code, InvalidRequest().message, errors=fields)
