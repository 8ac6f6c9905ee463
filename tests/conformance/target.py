"""The server under check, and a client that takes nothing for granted: every frame is held against the schema."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jsonschema import Draft202012Validator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from chat_api.chat.schema import make_schema

Frame = dict[str, Any]
PATIENCE_S = 30.0
_schema = make_schema()
_server_frame = Draft202012Validator({**_schema, "oneOf": [{"$ref": "#/$defs/ServerFrame"}]})


class MakeToken(Protocol):
    """Makes a token of the bot under check."""

    def __call__(self, subject: str = "visitor-1", scope: str = "chat") -> str:
        """A good token of this visitor."""


@dataclass(frozen=True)
class Target:
    """A chat.v1 server, a way to make its tokens, and a question that its bot can answer."""

    ws_url: str
    make_token: MakeToken
    question: str = "When do parcels leave?"

    @contextlib.contextmanager
    def dial(self, *, token: str | None = None, protocols: Sequence[str] = ("chat.v1",)) -> Iterator["Client"]:
        """A connection, with a token in its header if there is one."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        offered = [Subprotocol(protocol) for protocol in protocols]
        with connect(self.ws_url, subprotocols=offered, additional_headers=headers, proxy=None) as socket:
            yield Client(socket)

    @contextlib.contextmanager
    def visit(self, subject: str = "visitor-1") -> Iterator["Client"]:
        """A connection of a visitor who was greeted."""
        with self.dial(token=self.make_token(subject)) as client:
            client.ready = client.receive()
            assert client.ready["type"] == "ready", client.ready
            yield client


class Client:
    """One connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.ready: Frame = {}

    def send(self, frame: Frame | str | bytes) -> None:
        """Sends a frame; text and bytes as they are."""
        self.socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    def receive(self) -> Frame:
        """The next frame, which is one of chat.v1's."""
        frame: Frame = json.loads(self.socket.recv(timeout=PATIENCE_S))
        _server_frame.validate(frame)
        return frame

    def ask(self, text: str, ask_id: str, **more: object) -> None:
        """Asks."""
        self.send({"type": "ask", "id": ask_id, "text": text, **more})

    def resume(self, conversation_id: str, ask_id: str, after: int) -> None:
        """Asks for the frames after `after`."""
        self.send({"type": "resume", "conversation_id": conversation_id, "id": ask_id, "after": after})

    def answer(self, ask_id: str, after: int = 0) -> list[Frame]:
        """The frames of an answer after the seq `after`, to its end: numbered without a gap, and of one question."""
        frames: list[Frame] = []
        while not frames or frames[-1]["type"] not in {"done", "error"}:
            frames.append(self.receive())
        assert {frame.get("id") for frame in frames} == {ask_id}, frames
        numbered = [frame["seq"] for frame in frames if frame["type"] != "error"]
        assert numbered == list(range(after + 1, after + 1 + len(numbered))), numbered
        return frames

    def error(self) -> Frame:
        """The next frame, which is an error."""
        frame = self.receive()
        assert frame["type"] == "error", frame
        return frame

    def alive(self) -> None:
        """Asserts that the connection still serves."""
        self.send({"type": "ping"})
        assert self.receive() == {"type": "pong"}

    def close_code(self) -> int:
        """The code with which the server closes; what it says before that is read."""
        with contextlib.suppress(TimeoutError):
            try:
                while True:
                    self.socket.recv(timeout=PATIENCE_S)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError("the server did not close the connection")
