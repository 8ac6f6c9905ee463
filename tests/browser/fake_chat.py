"""The scripted chat.v1 server as the widget's tests set it up, and the host page around it."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response, WebSocket

from chat_api.widget import widget_script
from tests.conformance.scripted import Frame, ScriptedChat, Step, unsigned_token

HOST_PAGE = """<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>Host page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head><body>
<h1>Harbour Lane Bicycles</h1><p>Repairs, rentals and parts since 1987.</p><div id="chat" class="box"></div>
<script async src="{api}/widget.js" data-token-url="/token" {attributes}></script></body></html>"""


class FakeChat(ScriptedChat):
    """What the server will do, and what it has seen. Set up by the test's thread, played in the server's."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """As new, for the next test on the same server."""
        self.bot = {
            "name": "Harbour Lane",
            "welcome_message": "Hello! Ask about repairs.",
            "sample_questions": ["When are you open?"],
            "disclaimer": "Answers can be wrong.",
        }
        self.refusals: deque[int] = deque()
        self.plays: deque[Sequence[Step]] = deque()
        self.received = []
        self.sent = {}
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
        """The visitor's next token."""
        self.tokens += 1
        return unsigned_token(self.tokens, visitor=self.visitor, lifetime_s=self.token_lifetime_s)

    async def admit(self, socket: WebSocket) -> bool:
        """Takes any first frame; greets unless a refusal is due."""
        await socket.accept("chat.v1")
        self.received.append(await socket.receive_json())
        if self.refusals:
            await socket.close(self.refusals.popleft())
            return False
        await self.greet(socket)
        return True

    async def answer(self, socket: WebSocket, frame: Frame, stopped: asyncio.Event) -> None:
        """The next play; to `resume` what was sent after `after` before it, or `cannot_resume`."""
        turn = frame["id"]
        if frame["type"] == "ask":
            self.sent.pop(turn, None)
        elif not self.resumable:
            error = {"type": "error", "id": turn, "code": "cannot_resume", "message": "From the server."}
            await socket.send_json(error)
            return
        else:
            for missed in self.sent.get(turn, [])[frame["after"] :]:
                await socket.send_json(missed)
        await self.play(socket, turn, self.plays.popleft(), stopped)


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
