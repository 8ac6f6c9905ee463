"""A scripted chat.v1 server and the host page around it: what the widget meets in the wild, on demand."""

import asyncio
import base64
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

from chat_api.widget import widget_script

Frame = dict[str, Any]

HOST_PAGE = """<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>Host page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head><body>
<h1>Harbour Lane Bicycles</h1><p>Repairs, rentals and parts since 1987.</p><div id="chat" class="box"></div>
<script async src="{api}/widget.js" data-token-url="/token" {attributes}></script></body></html>"""


@dataclass
class Sources:
    """The sources offered, as the protocol has them."""

    items: Sequence[Frame]


@dataclass
class Delta:
    """A piece of the answer."""

    text: str


@dataclass
class Done:
    """The end; `text` defaults to all deltas so far, and `more` overrides any field."""

    citations: Sequence[int] = ()
    finish_reason: str = "stop"
    more: Frame = field(default_factory=dict)


@dataclass
class Error:
    """An error frame for the question."""

    code: str
    more: Frame = field(default_factory=dict)


@dataclass
class Close:
    """Cuts the connection with this code."""

    code: int


@dataclass
class Raw:
    """A frame as it is, but for the question's id."""

    frame: Frame


class Again:
    """The last frame once more, as a replay would bring it."""


class Hold:
    """Waits until the test lets go."""


class UntilStop:
    """Waits for the visitor's stop."""


Step = Sources | Delta | Done | Error | Raw | Close | Again | Hold | UntilStop


class FakeChat:
    """What the server will do, and what it has seen. Set up by the test's thread, played in the server's."""

    def __init__(self) -> None:
        self.open = 0
        self.reset()

    def reset(self) -> None:
        """As new, for the next test on the same server."""
        self.bot: Frame = {
            "name": "Harbour Lane",
            "welcome_message": "Hello! Ask about repairs.",
            "sample_questions": ["When are you open?"],
            "disclaimer": "Answers can be wrong.",
        }
        self.refusals: deque[int] = deque()
        self.plays: deque[Sequence[Step]] = deque()
        self.received: list[Frame] = []
        self.sent: dict[str, list[Frame]] = {}
        self.resumable = False
        self.connections = 0
        self.tokens = 0
        self.silent_tokens = 0
        self.no_token: Response | None = None
        """What the token address answers instead of a token."""
        self.token_lifetime_s = 3600
        self.visitor = "visitor-1"
        self.attributes = ""
        self.lang = "en"
        self.go = threading.Event()

    def frames(self, kind: str) -> list[Frame]:
        """The frames of this type that the widget sent so far."""
        return [frame for frame in self.received if frame["type"] == kind]

    def token(self) -> str:
        """An unsigned token: only its lifetime and identity are of interest to a widget."""
        self.tokens += 1
        claims = {
            "iat": 1_700_000_000,
            "exp": 1_700_000_000 + self.token_lifetime_s,
            "sub": self.visitor,
            "bot_id": "b",
            "org_id": "o",
            "n": self.tokens,
        }
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return f"e30.{payload}.c2ln"

    async def serve(self, socket: WebSocket) -> None:
        """One connection: first frame, greeting or refusal, then questions until it ends."""
        self.connections += 1
        self.open += 1
        try:
            await self._converse(socket)
        finally:  # a page may be gone before it has said a word
            self.open -= 1

    async def _converse(self, socket: WebSocket) -> None:
        await socket.accept("chat.v1")
        self.received.append(await socket.receive_json())
        if self.refusals:
            await socket.close(self.refusals.popleft())
        else:
            conversation = f"conversation-{self.connections}"
            await socket.send_json({"type": "ready", "bot": self.bot, "conversation_id": conversation})
            await self._listen(socket)

    async def _listen(self, socket: WebSocket) -> None:
        stopped = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    frame = await socket.receive_json()
                except (WebSocketDisconnect, RuntimeError):
                    return
                self.received.append(frame)
                if frame["type"] == "ask":
                    stopped.clear()
                    self.sent.pop(frame["id"], None)
                    tasks.create_task(self._play(socket, frame["id"], self.plays.popleft(), stopped))
                elif frame["type"] == "resume":
                    stopped.clear()
                    tasks.create_task(self._resume(socket, frame, stopped))
                elif frame["type"] == "stop":
                    stopped.set()

    async def _resume(self, socket: WebSocket, wanted: Frame, stopped: asyncio.Event) -> None:
        """Replays what was sent after `after` and goes on with the next play; `cannot_resume` where none is left."""
        sent = self.sent.get(wanted["id"], [])
        if not self.resumable:
            error = {"type": "error", "id": wanted["id"], "code": "cannot_resume", "message": "From the server."}
            await socket.send_json(error)
            return
        for frame in sent[wanted["after"] :]:
            await socket.send_json(frame)
        await self._play(socket, wanted["id"], self.plays.popleft(), stopped)

    async def _play(self, socket: WebSocket, turn: str, steps: Sequence[Step], stopped: asyncio.Event) -> None:
        sent = self.sent.setdefault(turn, [])
        text = "".join(frame["text"] for frame in sent if frame["type"] == "delta")
        frame: Frame = {}
        for step in steps:
            match step:
                case Hold():
                    await asyncio.to_thread(self.go.wait, 20)
                case UntilStop():
                    await asyncio.wait_for(stopped.wait(), 20)
                case Close(code):
                    await socket.close(code)
                    return
                case Again():
                    await socket.send_json(frame)
                case Raw(raw):
                    await socket.send_json({**raw, "id": turn})
                case _:
                    text += step.text if isinstance(step, Delta) else ""
                    frame = {"id": turn, "seq": len(sent) + 1, "message_id": f"m-{turn}", **_frame(step, text)}
                    sent.append(frame)
                    await socket.send_json(frame)


def _frame(step: Sources | Delta | Done | Error, text: str) -> Frame:
    match step:
        case Sources(items):
            return {"type": "sources", "sources": list(items)}
        case Delta(piece):
            return {"type": "delta", "text": piece}
        case Done(citations, reason, more):
            return {"type": "done", "text": text, "citations": list(citations), "finish_reason": reason, **more}
        case Error(code, more):
            return {"type": "error", "code": code, "message": "From the server.", **more}


def create_app(chat: FakeChat) -> FastAPI:
    """The host's site and the API in one application; the test gives them two names, so that they are two origins."""
    app = FastAPI(openapi_url=None)

    @app.get("/widget.js")
    def script() -> Response:
        return Response(widget_script(), media_type="text/javascript")

    @app.get("/token", response_model=None)
    async def token() -> Response | dict[str, str]:
        if chat.no_token:
            return chat.no_token
        given = {"token": chat.token()}
        if chat.silent_tokens:
            chat.silent_tokens -= 1
            await asyncio.to_thread(chat.go.wait, 20)
        return given

    @app.get("/")
    def page(request: Request) -> Response:
        api = f"http://127.0.0.1:{request.url.port}"
        policy = f"default-src 'none'; script-src {api}; connect-src 'self' ws://127.0.0.1:{request.url.port}; base-uri 'none'; require-trusted-types-for 'script'"
        body = HOST_PAGE.format(api=api, attributes=chat.attributes, lang=chat.lang)
        return Response(body, media_type="text/html", headers={"Content-Security-Policy": policy})

    @app.websocket("/api/chat/ws")
    async def socket(websocket: WebSocket) -> None:
        await chat.serve(websocket)

    return app


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """Serves the application on a free loopback port, which is given."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        if time.monotonic() > deadline:
            raise TimeoutError("the fake server did not start")
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)
