"""The chat socket: who may connect, then frames until either side ends it with a code."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from fastapi import APIRouter, WebSocket
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import State
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from chat_api.auth import Principal, TokenRefused, bearer_token, require
from chat_api.chat.access import admitted_bot
from chat_api.chat.client_frames import MAX_FRAME_BYTES, SUBPROTOCOL, Auth, BadFrame, parse_frame
from chat_api.chat.schema import schema_text
from chat_api.chat.services import ChatServices
from chat_api.chat.session import Session
from chat_api.chat.sockets import Over, Sockets
from chat_api.chat.stream import ClientGoneError, SlowReaderError, Wire
from chat_api.core.errors import ServiceError
from chat_api.core.refusals import RequestError
from chat_api.deps import principal_of
from chat_api.errors import CloseCode, as_service_error, outcome_of
from chat_api.metrics import WS_CONNECTIONS
from chat_api.server import cut

AUTH_WITHIN_S = 5.0
CLOSE_WITHIN_S = 2.0
SCHEMA_AGE_S = 3600
BEARER = "bearer."
CODES = {Over.SLOW: CloseCode.OVERLOADED, Over.RESTARTING: CloseCode.RESTARTING}

router = APIRouter()
log = structlog.get_logger(__name__)


class Closing(Exception):
    """The socket is to be closed with `code`; None when the other side is gone."""

    def __init__(self, code: CloseCode | None) -> None:
        super().__init__(code)
        self.code = code


@router.get("/api/chat/schema.json", tags=["chat"], response_class=Response)
async def schema() -> Response:
    """The JSON Schema of chat.v1's frames, those of clients and those of servers."""
    headers = {"Cache-Control": f"public, max-age={SCHEMA_AGE_S}", "Access-Control-Allow-Origin": "*"}
    return Response(schema_text(), headers=headers, media_type="application/schema+json")


async def chat(websocket: WebSocket) -> None:
    """Accepts, so that browsers can read why they are refused, then serves or closes."""
    websocket.scope["route"] = ROUTE  # where FastAPI's own leave it, for the access line
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    sockets: Sockets = websocket.app.state.sockets
    with WS_CONNECTIONS.track_inprogress(), sockets.counted() as has_room:
        code = await _serve_until_closed(websocket) if has_room else CloseCode.OVERLOADED
        if code is not None:
            await _close(websocket, code)


# Not by FastAPI's decorator: its dependencies, of which there are none, take several KiB of each open socket.
ROUTE = WebSocketRoute("/api/chat/ws", chat)
router.routes.append(ROUTE)


async def _close(websocket: WebSocket, code: CloseCode) -> None:
    """Tells the other side why, and ends the connection at once when it does not even take that."""
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await websocket.close(code)
    except TimeoutError:
        log.info("socket_cut")
        cut(websocket.scope)
    except RuntimeError:
        return


async def _serve_until_closed(websocket: WebSocket) -> CloseCode | None:
    try:
        async with _session(websocket) as session:
            await _serve(websocket, session)
    except Closing as closing:
        return closing.code
    except SlowReaderError:
        return CloseCode.OVERLOADED
    except ClientGoneError:
        return None
    except RequestError as error:
        log.info("socket_refused", code=error.code, reason=getattr(error, "reason", None))
        return outcome_of(error).close
    except (ServiceError, SQLAlchemyError) as error:
        log.warning("socket_failed", error=type(error).__name__)
        return outcome_of(as_service_error(error)).close
    return None


@contextlib.asynccontextmanager
async def _session(websocket: WebSocket) -> AsyncIterator[Session]:
    """The session of an admitted visitor, greeted. Raises RequestError, Closing, SQLAlchemyError."""
    state: State = websocket.app.state
    services: ChatServices = state.chat
    sockets: Sockets = state.sockets
    principal = await _authenticate(websocket, state)
    require(principal, "chat")
    origin = websocket.headers.get("origin")
    bot = await admitted_bot(services.bots, principal, origin, production=state.settings.in_production)
    websocket.scope["headers"].clear()  # which a socket would keep for hours, the token among them
    session = Session(
        services,
        state.answers,
        bot,
        principal,
        Wire(_sender(websocket)),
        lambda token: principal_of(state, token),
        origin=origin,
        address=websocket.client.host if websocket.client else None,
    )
    with sockets.admitted(bot), sockets.served(session):
        try:
            await session.greet()
            yield session
        finally:
            await session.end()


def _sender(websocket: WebSocket) -> Callable[[str], Awaitable[None]]:
    async def send(text: str) -> None:
        try:
            await websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError):
            raise ClientGoneError from None

    return send


async def _authenticate(websocket: WebSocket, state: State) -> Principal:
    """Who connects: by header, subprotocol, query or first frame. Raises TokenRefused, Closing."""
    offered: list[str] = websocket.scope.get("subprotocols", [])
    tokens = {protocol.removeprefix(BEARER) for protocol in offered if protocol.startswith(BEARER)}
    if (token := bearer_token(websocket.headers.getlist("authorization"))) is not None:
        tokens.add(token)
    if state.settings.ws_query_token:
        tokens.update(websocket.query_params.getlist("token"))
    if len(tokens) > 1:
        raise TokenRefused("two different tokens at once")
    return principal_of(state, tokens.pop() if tokens else await _first_frame(websocket))


async def _first_frame(websocket: WebSocket) -> str:
    try:
        async with asyncio.timeout(AUTH_WITHIN_S):
            frame = parse_frame(_text_of(await websocket.receive()))
    except TimeoutError:
        raise Closing(CloseCode.AUTH_TIMEOUT) from None
    except RequestError:
        raise TokenRefused("the first frame is not a frame") from None
    if not isinstance(frame, Auth):
        raise TokenRefused("the first frame brings no token")
    return frame.token


async def _serve(websocket: WebSocket, session: Session) -> None:
    """Takes frames until the token expires, the visitor leaves or the service ends it. Raises Closing, RequestError."""
    while True:
        receiving = asyncio.create_task(websocket.receive())
        first: list[asyncio.Future[Any]] = [receiving, session.over]
        try:
            left = max(0.0, session.seconds_left())
            await asyncio.wait(first, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if session.over.done():
                raise Closing(CODES[session.over.result()])
            if not receiving.done():
                raise Closing(CloseCode.TOKEN)
        finally:
            receiving.cancel()
        await _take(session, receiving.result())


async def _take(session: Session, message: Any) -> None:
    try:
        text = _text_of(message)
    except BadFrame as error:
        await session.refuse(error)
    else:
        await session.take(text)


def _text_of(message: Any) -> str:
    """The text of a received message. Raises Closing when it is too big or the last, BadFrame for a binary one."""
    if message["type"] == "websocket.disconnect":
        raise Closing(None)
    text = message.get("text")
    frame: str | bytes = message["bytes"] if text is None else text
    if len(frame) > MAX_FRAME_BYTES or (text and len(text.encode("utf-8", "replace")) > MAX_FRAME_BYTES):
        raise Closing(CloseCode.TOO_BIG)
    if text is None:
        raise BadFrame("Frames are text, not binary.")
    return str(text)
