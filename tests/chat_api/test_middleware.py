"""Around every route: request ids, access lines, figures, body limit, CORS by path."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, Request, WebSocket
from prometheus_client import REGISTRY
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Message
from structlog.testing import capture_logs

from chat_api.core.telemetry import current_request_id
from chat_api.errors import install_error_handlers
from chat_api.middleware import BodyLimit, CorsByPath, LastResort, RequestContext

LIMIT = 1000
DASHBOARD = "https://dashboard.example"
OPERATORS = [DASHBOARD, "https://Köln.example:443"]
"""As they are written in the settings."""


def make_app() -> FastAPI:
    """An application with all of it around a few routes."""
    app = FastAPI()
    app.add_middleware(BodyLimit, max_bytes=LIMIT)
    app.add_middleware(LastResort)
    app.add_middleware(CorsByPath, origins=OPERATORS)
    app.add_middleware(RequestContext)
    install_error_handlers(app)

    @app.get("/things/{thing_id}")
    async def thing(thing_id: str) -> str | None:
        structlog.contextvars.bind_contextvars(org_id="org-1")
        return current_request_id()

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/api/chat/messages")
    async def messages() -> str:
        return "of a bot"

    @app.get("/broken-stream")
    async def broken_stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            raise ValueError("too late for a 500")

        return StreamingResponse(pieces())

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(current_request_id() or "")
        await socket.close(4401)

    return app


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A client of such an application."""
    return TestClient(make_app())


def access_lines(lines: list[Any]) -> list[dict[str, Any]]:
    """The access lines among captured ones."""
    return [line for line in lines if line["event"] == "request"]


@pytest.mark.parametrize("offered", ["abcd1234", "A.b_c-9" * 9, "x" * 64])
def test_request_id_is_taken_and_sent_back(client: TestClient, offered: str) -> None:
    answer = client.get("/things/1", headers={"X-Request-ID": offered})
    assert answer.headers["x-request-id"] == answer.json() == offered


@pytest.mark.parametrize(
    "offered", [None, "", "short", "x" * 65, "has space in it", "a/b/c/d/e/f", "é" * 9, "12345678\n"]
)
def test_any_other_request_id_is_replaced(client: TestClient, offered: str | None) -> None:
    headers = {} if offered is None else {b"X-Request-ID": offered.encode()}
    answer = client.get("/things/1", headers=headers)
    assert answer.headers["x-request-id"] == answer.json() != offered
    assert len(answer.json()) == 32


def test_nothing_bound_by_a_request_is_in_the_next_ones_lines() -> None:
    async def both() -> None:
        app = make_app()
        await exchange(app, "GET", "/things/1")
        await exchange(app, "GET", "/nothing")

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        asyncio.run(both())
    first, second = access_lines(lines)
    assert first["org_id"] == "org-1"
    assert "org_id" not in second
    assert first["request_id"] != second["request_id"]


def test_access_line_has_the_route_and_never_the_query(client: TestClient) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        client.get("/things/secret-path?token=secret-query", headers={"X-Request-ID": "request-1"})
    (line,) = access_lines(lines)
    assert {**line, "ms": 0} == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "route": "/things/{thing_id}",
        "status": 200,
        "ms": 0,
        "request_id": "request-1",
        "org_id": "org-1",
    }
    assert "secret" not in str(lines)


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [("GET", "/nothing/here", 404, "other"), ("DELETE", "/size", 405, "/size"), ("GET", "/boom", 500, "/boom")],
)
def test_every_answer_has_an_access_line(client: TestClient, method: str, path: str, status: int, route: str) -> None:
    with capture_logs() as lines:
        client.request(method, path)
    (line,) = access_lines(lines)
    assert (line["method"], line["status"], line["route"]) == (method, status, route)


def test_websocket_has_an_access_line_with_its_close_code(client: TestClient) -> None:
    with (
        capture_logs() as lines,
        client.websocket_connect("/talk?token=secret", headers={"X-Request-ID": "request-1"}) as socket,
    ):
        assert socket.receive_text() == "request-1"
        socket.receive()
    (line,) = access_lines(lines)
    assert (line["method"], line["route"], line["status"]) == ("WEBSOCKET", "/talk", 4401)
    assert "secret" not in str(lines)


def test_requests_are_counted_under_few_names(client: TestClient) -> None:
    def count(**labels: str) -> float:
        return REGISTRY.get_sample_value("http_requests_total", labels) or 0

    before = (
        count(method="OTHER", route="other", status="404"),
        count(method="GET", route="/things/{thing_id}", status="200"),
    )
    client.request("BREW", "/pot/1")
    client.request("FROTH", "/pot/2")
    client.get("/things/1")
    after = (
        count(method="OTHER", route="other", status="404"),
        count(method="GET", route="/things/{thing_id}", status="200"),
    )
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)


def in_pieces(total: int) -> Iterator[bytes]:
    """A chunked body of that many bytes."""
    for _ in range(total // 100):
        yield b"x" * 100


def test_body_up_to_the_limit_passes(client: TestClient) -> None:
    assert client.post("/size", content=b"x" * LIMIT).json() == LIMIT
    assert client.post("/size", content=in_pieces(LIMIT)).json() == LIMIT


@pytest.mark.parametrize("declared", [str(LIMIT + 1), "9" * 5000, "-1", "many", "1e3"])
def test_declared_body_over_the_limit_is_413_unread(client: TestClient, declared: str) -> None:
    answer = client.post("/size", content=b"", headers={"Content-Length": declared})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large_request")
    assert answer.headers["content-type"] == "application/problem+json"


def test_chunked_body_over_the_limit_is_413_before_its_end() -> None:
    sent = asyncio.run(exchange(make_app(), "POST", "/size"))
    assert sent[0]["status"] == 413
    assert b"too_large_request" in sent[1]["body"]


async def exchange(app: FastAPI, method: str, path: str) -> list[Message]:
    """What an application answers, in this very task, to a request whose body never ends."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "server": ("api", 80)}
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return sent


def test_answer_that_breaks_off_is_not_followed_by_another(client: TestClient) -> None:
    with pytest.raises(ValueError, match="too late"):
        client.get("/broken-stream")


@pytest.mark.parametrize("origin", [DASHBOARD, "https://xn--kln-sna.example"])
def test_operators_origins_may_call(client: TestClient, origin: str) -> None:
    answer = client.get("/things/1", headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    preflight = client.options(
        "/things/1",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)


def test_no_other_origin_may_call(client: TestClient) -> None:
    for origin in ("https://kln.example", "http://dashboard.example", "null"):
        assert "access-control-allow-origin" not in client.get("/things/1", headers={"Origin": origin}).headers


@pytest.mark.parametrize("path", ["/boom", "/nothing/here"])
def test_their_pages_can_read_errors(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Origin": DASHBOARD})
    assert answer.headers["access-control-allow-origin"] == DASHBOARD


@pytest.mark.parametrize(
    "origin", ["https://other.example", "https://dashboard.example.evil", "null", "http://dashboard.example"]
)
def test_other_origins_may_not(client: TestClient, origin: str) -> None:
    assert "access-control-allow-origin" not in client.get("/things/1", headers={"Origin": origin}).headers


@pytest.mark.parametrize(
    ("path", "method"), [("/things/1", "DELETE"), ("/api/chat/messages", "DELETE"), ("/api/chat/messages", "PUT")]
)
def test_a_preflight_is_refused_as_all_else_is(client: TestClient, path: str, method: str) -> None:
    headers = {"Origin": "https://other.example", "Access-Control-Request-Method": method}
    answer = client.options(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "Origin" in answer.headers["vary"]


def test_chat_routes_are_not_the_operators_to_open(client: TestClient) -> None:
    answer = client.get("/api/chat/messages", headers={"Origin": DASHBOARD})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
