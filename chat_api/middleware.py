"""What stands around every route: request id, access line and figures, CORS by path, the last resort, body limit."""

import time
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_api.chat.origins import among
from chat_api.core.errors import ServiceError
from chat_api.core.telemetry import accept_request_id, bind_request_id
from chat_api.errors import problem, problem_of
from chat_api.metrics import HTTP_REQUESTS, HTTP_SECONDS

MAX_BODY_BYTES = 1024 * 1024
MAX_DIGITS = 18
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"}
REQUEST_ID = "X-Request-ID"
# Whose pages may call is the bot's to say, or anybody's may.
_OF_BOTS = "/api/chat/"
_ANYBODYS = "/widget.js"
_ALLOWED_HEADERS = ["Authorization", "Content-Type", "Last-Event-ID", REQUEST_ID]
_EXPOSED_HEADERS = ["Retry-After", REQUEST_ID, "X-Conversation-ID"]

log = structlog.get_logger("chat_api.access")


class RequestContext:
    """Binds the request id to all logs of a request, sends it back, and writes one line and figures at its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        request_id = accept_request_id(Headers(scope=scope).get(REQUEST_ID))
        bind_request_id(request_id)
        visit = _Visit(scope, send, request_id)
        try:
            await self._app(scope, receive, visit.send)
        finally:
            visit.finish()


class _Visit:
    """One request or WebSocket on its way through: what was answered, and when it began."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope, self._send, self._request_id = scope, send, request_id
        self._began = time.perf_counter()
        self._status = 0

    async def send(self, message: Message) -> None:
        """Passes a message on, noting the answer's status (or close code)."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self._request_id
        elif message["type"] == "websocket.close":
            self._status = message.get("code", 1000)
        await self._send(message)

    def finish(self) -> None:
        """Writes the access line: the route as declared, never the raw path or query. Status 0: the caller left."""
        seconds = time.perf_counter() - self._began
        method = self._scope.get("method", "WEBSOCKET")
        # A method is the caller's word; each new one would be a series of figures for ever.
        method = method if method in _METHODS else "OTHER"
        route = getattr(self._scope.get("route"), "path", "other")
        log.info("request", method=method, route=route, status=self._status, ms=round(seconds * 1000, 1))
        if self._scope["type"] == "http":
            HTTP_REQUESTS.labels(method, route, self._status).inc()
            HTTP_SECONDS.labels(method, route).observe(seconds)


class LastResort:
    """Answers what no error handler took with a 500 that says nothing but the request id; the log has the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other scopes pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:  # the process's edge: whatever it is, the caller gets an answer
            log.exception("request_failed")
            if started:
                raise
            await problem_of(ServiceError())(scope, receive, send)


class BodyLimit:
    """Refuses bodies over `max_bytes` when they are read: by their declared length or, in chunks, as they come."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other scopes pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        fits = declared.isdecimal() and len(declared) <= MAX_DIGITS and int(declared) <= self._max_bytes
        left = self._max_bytes if fits else -1

        async def counted() -> Message:
            nonlocal left
            message: Message = await receive() if left >= 0 else {}
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)


class CorsByPath:
    """CORS for the operator's origins; for the routes of bots, where a bot's own origins are answered, see BotCors."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self._app = app
        self._of_bots = BotCors(app)
        self._cors = OperatorsCors(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other scopes pass."""
        if scope["type"] != "http" or scope["path"].startswith(_ANYBODYS):
            await self._app(scope, receive, send)
        elif scope["path"].startswith(_OF_BOTS):
            await self._of_bots(scope, receive, send)
        else:
            await self._cors(scope, receive, send)


class Cors(CORSMiddleware):
    """CORS that refuses a preflight as all else is refused: with a problem."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Whether the page may send what it announces."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == HTTPStatus.OK:
            return answer
        return problem(answer.status_code, "bad_request", f"{bytes(answer.body).decode()}.", headers={"Vary": "Origin"})


class OperatorsCors(Cors):
    """CORS for listed origins, however their addresses are written: browsers say `xn--…` and leave usual ports out."""

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether a page of this origin may call."""
        return self.allow_all_origins or among(origin, self.allow_origins)


class BotCors:
    """CORS where the bot says who may read: its route leaves that page's origin in the request's state as `readable_by`.

    A preflight brings no token, so nobody knows the bot: any page may ask. That grants nothing, since neither cookies
    nor anything else of the browser's goes with the request; the route then looks at the origin with the bot at hand.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._preflight = Cors(
            app, allow_origin_regex="https?://.+", allow_methods=["GET", "POST"], allow_headers=_ALLOWED_HEADERS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if origin and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight.preflight_response(headers)(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if origin and self._readable(scope, origin, message["status"]):
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Access-Control-Expose-Headers"] = ", ".join(_EXPOSED_HEADERS)
            await send(message)

        await self._app(scope, receive, marked)

    def _readable(self, scope: Scope, origin: str, status: int) -> bool:
        # A page has to learn that its token is no longer good; that answer is the same for everybody.
        refused = status == HTTPStatus.UNAUTHORIZED and self._preflight.is_allowed_origin(origin)
        return refused or scope.get("state", {}).get("readable_by") == origin
