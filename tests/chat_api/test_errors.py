"""Errors as problems: every class has its answer, bad requests are told what is wrong, and nobody learns too much."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import psycopg
import pytest
from fastapi import Body, FastAPI, Query
from pydantic import BaseModel, ConfigDict, SecretStr
from sqlalchemy import exc as sql
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from chat_api.auth import TokenRefused
from chat_api.core import errors as core
from chat_api.core import refusals
from chat_api.errors import CloseCode, as_service_error, install_error_handlers, outcome_of, problem_of
from chat_api.middleware import BodyLimit, LastResort, RequestContext

CANARY = "canary-3f9a1c"


class Question(BaseModel):
    """A body with a rule of each kind."""

    model_config = ConfigDict(extra="forbid")

    text: str
    count: int = 0
    kind: Literal["a", "b"] = "a"
    password: SecretStr = SecretStr("")


def raising(error: Exception) -> FastAPI:
    """An application whose route `/` raises this error."""
    app = FastAPI()
    for middleware in (BodyLimit, LastResort, RequestContext):
        app.add_middleware(middleware)
    install_error_handlers(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    @app.post("/questions")
    async def ask(body: Annotated[Question, Body()], page: Annotated[int, Query()] = 1) -> str:
        return body.text

    return app


def answer_to(error: Exception) -> Any:
    """What a caller gets when a route raises this."""
    return TestClient(raising(error)).get("/", headers={"X-Request-ID": "request-1"})


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A client of an application with a JSON route."""
    return TestClient(raising(ValueError()))


def all_errors(cls: type[core.ServiceError] = core.ServiceError) -> Iterator[type[core.ServiceError]]:
    """The whole tree."""
    yield cls
    for child in cls.__subclasses__():
        yield from all_errors(child)


TREE = [cls for cls in all_errors() if cls.__module__ in {core.__name__, refusals.__name__}]


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_every_error_is_a_problem(cls: type[core.ServiceError]) -> None:
    answer = answer_to(cls())
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["code"], body["detail"]) == (answer.status_code, cls.code, cls.__doc__)
    assert {"type", "title", "status", "detail", "code"} <= body.keys()
    assert (answer.status_code in {429, 503}) == ("retry-after" in answer.headers)
    assert outcome_of(cls()).close in CloseCode


@pytest.mark.parametrize(
    ("cls", "status", "close"),
    [
        (refusals.Unauthenticated, 401, 4401),
        (refusals.MissingScope, 403, 4403),
        (refusals.ForbiddenBot, 403, 4403),
        (refusals.ForbiddenOrigin, 403, 4403),
        (refusals.UnknownSource, 404, 4403),
        (refusals.InvalidRequest, 422, 4403),
        (refusals.RequestError, 400, 4403),
        (core.DatabaseUnavailable, 503, 1013),
        (core.ProviderUnavailable, 503, 1013),
        (core.ServiceError, 500, 1011),
    ],
)
def test_statuses_and_close_codes(cls: type[core.ServiceError], status: int, close: int) -> None:
    assert outcome_of(cls()) == (status, close)


def test_retry_after_is_whole_seconds() -> None:
    assert problem_of(core.DatabaseUnavailable(retry_after=1.2)).headers["retry-after"] == "2"
    assert int(problem_of(core.DatabaseUnavailable()).headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "error",
    [
        refusals.Unauthenticated(),
        refusals.Unauthenticated(f"{CANARY} is not it"),
        TokenRefused(CANARY),
        TokenRefused("other"),
    ],
)
def test_401_is_the_same_bytes_whatever_is_wrong(error: Exception) -> None:
    answer = answer_to(error)
    expected = answer_to(TokenRefused("something else"))
    assert (answer.status_code, answer.content) == (401, expected.content)
    assert dict(answer.headers) == dict(expected.headers)


def test_reason_of_a_401_is_in_the_log() -> None:
    with capture_logs() as lines:
        answer_to(TokenRefused("it has expired"))
    assert {"event": "token_refused", "reason": "it has expired", "log_level": "info"} in lines


@pytest.mark.parametrize(
    "error",
    [
        sql.OperationalError("SELECT 1", {"q": CANARY}, psycopg.OperationalError(CANARY)),
        sql.InterfaceError("SELECT 1", None, Exception(CANARY)),
        sql.TimeoutError(CANARY),
        psycopg.OperationalError(CANARY),
        psycopg.errors.AdminShutdown(CANARY),
    ],
    ids=lambda error: type(error).__name__,
)
def test_database_that_does_not_answer_is_503(error: Exception) -> None:
    answer = answer_to(error)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert CANARY not in answer.text
    assert as_service_error(error).code == "database_unavailable"


@pytest.mark.parametrize(
    "cause", [psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled]
)
def test_what_others_hold_is_told_from_a_database_that_is_away(cause: type[psycopg.Error]) -> None:
    held = cause(CANARY)
    for error in (held, sql.OperationalError("SELECT 1", None, held)):
        answer = answer_to(error)
        assert (answer.status_code, answer.json()["code"]) == (503, "held")
        assert "again in a few seconds" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
        assert CANARY not in answer.text


@pytest.mark.parametrize(
    "error", [ValueError(CANARY), KeyError(CANARY), sql.ProgrammingError("x", None, Exception(CANARY))]
)
def test_anything_else_is_500_with_the_request_id_alone(error: Exception) -> None:
    with capture_logs() as lines:
        answer = answer_to(error)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "request-1"
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request_failed"]


def test_route_and_method_unknown(client: TestClient) -> None:
    answer = client.get(f"/{CANARY}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_route")
    assert CANARY not in answer.text
    answer = client.delete("/questions")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"{", 422, "invalid_request"),
        (b"text=1", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'{"text": "\xff"}', 400, "bad_request"),
        (b"[" * 100_000, 400, "bad_request"),
        (b'{"text": NaN}', 422, "invalid_request"),
        (b'{"text": "a", "count": 1e400}', 422, "invalid_request"),
        (b"{}", 422, "invalid_request"),
    ],
)
def test_body_that_is_not_the_json_asked_for(client: TestClient, body: bytes, status: int, code: str) -> None:
    answer = client.post("/questions", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_body_of_another_type(client: TestClient) -> None:
    answer = client.post("/questions", content=b'{"text": "a"}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_invalid_fields_are_named(client: TestClient) -> None:
    answer = client.post("/questions?page=x", json={"count": "many", "kind": "c"})
    assert {item["field"] for item in answer.json()["errors"]} == {"query.page", "body.text", "body.count", "body.kind"}
    assert all(item["message"] for item in answer.json()["errors"])


def test_invalid_values_are_not_echoed(client: TestClient) -> None:
    body = {"text": [CANARY], "count": CANARY, "kind": CANARY, "password": {"is": CANARY}, "sk-" + CANARY: 1}
    answer = client.post(f"/questions?page={CANARY}", json=body)
    assert answer.status_code == 422
    assert CANARY not in answer.text


def test_many_invalid_fields_are_listed_in_part(client: TestClient) -> None:
    answer = client.post("/questions", json={f"{number}{'x' * 1000}": 1 for number in range(500)})
    assert len(answer.json()["errors"]) == 20
    assert len(answer.content) < 10_000
