"""One HTTP request of the loopback provider and its answer, on bare ASGI."""

import asyncio
import json
from typing import Any

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable


class Refusal(Exception):
    """The request is answered with an OpenAI error object."""

    def __init__(self, status: int, message: str, code: str | None = None, wait: float | str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if wait is None else {"retry-after": str(wait)}
        self.body = {"error": {"message": message, "type": "loopback_error", "param": None, "code": code}}


class ClientGone(Exception):
    """The client closed its connection before the end of its answer."""


class Exchange:
    """One HTTP request and its answer, on the three ASGI callables; notices when the client goes away."""

    def __init__(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self.route = (scope["method"], scope["path"])
        self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.cut_after: int | None = None
        self._receive, self._send = receive, send
        self._gone: asyncio.Task[Any] | None = None

    async def read(self) -> dict[str, Any]:
        """The body as JSON; an empty one is {}."""
        body = b""
        while True:
            message: Any = await self._receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self._gone = asyncio.ensure_future(self._receive())
        try:
            parsed = json.loads(body or b"{}")
        except ValueError as error:
            raise Refusal(400, "the body is not JSON") from error
        if not isinstance(parsed, dict):
            raise Refusal(400, "the body is not an object")
        return parsed

    async def pause(self, seconds: float | None) -> None:
        """Wait (None: for ever), and give other requests a turn; raises ClientGone as soon as the client is."""
        if seconds == 0:
            await asyncio.sleep(0)
        elif self._gone:
            await asyncio.wait({self._gone}, timeout=seconds)
        if self._gone and self._gone.done():
            raise ClientGone

    async def start(self, status: int, content_type: str, headers: dict[str, str], length: int | None = None) -> None:
        """Send the status and headers."""
        lines = headers | {"content-type": content_type} | ({} if length is None else {"content-length": str(length)})
        encoded = [(name.encode(), value.encode()) for name, value in lines.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded, "trailers": False})

    async def write(self, body: bytes, *, more: bool = False) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole JSON answer, or the first half of it when it is to be cut."""
        await self.start(status, "application/json", headers or {}, len(body))
        if self.cut_after is None:
            await self.write(body)
        else:
            await self.write(body[: len(body) // 2], more=True)

    def close(self) -> None:
        """Stop watching the client."""
        if self._gone:
            self._gone.cancel()
