"""A scripted chat.v1 server: what a client meets in the wild, on demand. Its heirs choose the script and judge the client."""

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

Frame = dict[str, Any]
HOLD_S = 20
TOKEN_LIFETIME_S = 3600


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
    """The end; `text` defaults to the deltas since the last sources, and `more` overrides any field."""

    citations: Sequence[int] = ()
    finish_reason: str = "stop"
    more: Frame = field(default_factory=dict)


@dataclass
class Error:
    """An error frame for the question."""

    code: str
    more: Frame = field(default_factory=dict)


@dataclass
class Raw:
    """A frame as it is, but for the question's id."""

    frame: Frame


@dataclass
class Close:
    """Closes the connection with this code; without one it is cut, and nobody says why."""

    code: int | None = None


@dataclass
class Pause:
    """Nothing for so many seconds."""

    seconds: float


class Again:
    """The last frame once more, as a replay would bring it."""


class Hold:
    """Waits until the test lets go."""


class UntilStop:
    """Waits for the visitor's stop."""


Step = Sources | Delta | Done | Error | Raw | Close | Pause | Again | Hold | UntilStop


class _Cut(Exception):
    """The connection ends without a close frame."""


def conversation_id(connection: int) -> str:
    """The conversation that the n-th connection is greeted with."""
    return str(UUID(int=connection))


def message_id(turn: str) -> str:
    """The id of the answer to the question `turn`."""
    return str(uuid5(NAMESPACE_OID, turn))


def unsigned_token(
    number: int,
    *,
    visitor: str = "visitor-1",
    lifetime_s: int = TOKEN_LIFETIME_S,
    issued_at: int = 1_700_000_000,
) -> str:
    """The n-th token: only its times, in seconds since the epoch, and its identity are of interest to a client."""
    times = {"iat": issued_at, "exp": issued_at + lifetime_s}
    claims = {**times, "sub": visitor, "bot_id": "b", "org_id": "o", "n": number}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


class ScriptedChat:
    """Serves connections and plays scripts. Read by the test's thread, played in the server's."""

    def __init__(self) -> None:
        self.open = 0
        self.connections = 0
        self.bot: Frame = {}
        self.received: list[Frame] = []
        self.sent: dict[str, list[Frame]] = {}
        """The frames of each answer, for those who resume it."""
        self.go = threading.Event()

    async def admit(self, socket: WebSocket) -> bool:
        """Whether the client is let in: accepts, greets or closes."""
        raise NotImplementedError

    async def answer(self, socket: WebSocket, frame: Frame, stopped: asyncio.Event) -> None:
        """Plays what an `ask` or `resume` is answered with."""
        raise NotImplementedError

    async def receive(self, socket: WebSocket) -> Frame | None:
        """The client's next frame; None once it is gone."""
        message = await socket.receive()
        return json.loads(message["text"]) if message["type"] == "websocket.receive" else None

    async def serve(self, socket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        self.connections += 1
        self.open += 1
        socket.state.conversation_id = conversation_id(self.connections)
        try:
            if await self.admit(socket):
                await self._listen(socket)
        except* (WebSocketDisconnect, _Cut):
            pass
        finally:  # a page may be gone before it has said a word
            self.open -= 1

    async def greet(self, socket: WebSocket) -> None:
        """Says `ready`."""
        expires_at = datetime.now(UTC) + timedelta(seconds=TOKEN_LIFETIME_S)
        ready = {"bot": self.bot, "conversation_id": socket.state.conversation_id}
        await socket.send_json({"type": "ready", **ready, "expires_at": expires_at.isoformat()})

    async def _listen(self, socket: WebSocket) -> None:
        stopped = asyncio.Event()
        plays: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as tasks:
            with contextlib.suppress(RuntimeError):  # it was closed from here
                while (frame := await self.receive(socket)) is not None:
                    self.received.append(frame)
                    if frame["type"] == "stop":
                        stopped.set()
                    elif frame["type"] in {"ask", "resume"}:
                        stopped.clear()
                        plays.append(tasks.create_task(self.answer(socket, frame, stopped)))
                        await asyncio.sleep(0)  # what comes right behind the question finds it begun
            for play in plays:
                play.cancel()

    async def play(self, socket: WebSocket, turn: str, steps: Sequence[Step], stopped: asyncio.Event) -> None:
        """Plays the steps of the answer to the question `turn`. Raises TimeoutError when the visitor does not stop it."""
        sent = self.sent.setdefault(turn, [])
        for step in steps:
            match step:
                case Hold():
                    await asyncio.to_thread(self.go.wait, HOLD_S)
                case UntilStop():
                    await asyncio.wait_for(stopped.wait(), HOLD_S)
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Close(code):
                    await self.end(socket, turn, code)
                    return
                case Again():
                    await socket.send_json(sent[-1])
                case Raw(raw):
                    await socket.send_json({**raw, "id": turn})
                case _:
                    sent.append({"id": turn, **_frame(step, turn, sent)})
                    await socket.send_json(sent[-1])

    async def end(self, socket: WebSocket, turn: str, code: int | None) -> None:
        """Ends the connection while `turn` is answered."""
        if code is None:
            raise _Cut
        await socket.close(code)


def _frame(step: Sources | Delta | Done | Error, turn: str, sent: Sequence[Frame]) -> Frame:
    seq = len(sent) + 1
    match step:
        case Sources(items):
            return {"type": "sources", "seq": seq, "sources": list(items)}
        case Delta(piece):
            return {"type": "delta", "seq": seq, "text": piece}
        case Done(citations, reason, more):
            ended = {"text": _text(sent), "citations": list(citations), "finish_reason": reason}
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            return {"type": "done", "seq": seq, "message_id": message_id(turn), **ended, "usage": usage, **more}
        case Error(code, more):
            return {"type": "error", "code": code, "message": "From the server.", **more}


def _text(sent: Sequence[Frame]) -> str:
    begun = max((place for place, frame in enumerate(sent) if frame["type"] == "sources"), default=0)
    return "".join(frame["text"] for frame in sent[begun:] if frame["type"] == "delta")


@contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[int]:
    """Serves the application on a loopback port, a free one unless given, which is given. Raises TimeoutError."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise TimeoutError("the scripted server did not start")
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)
