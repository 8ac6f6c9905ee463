"""A whole client of chat.v1: it does what a client owes, and can stand as an example for other languages."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum, auto
from uuid import uuid4

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.conformance.client import Shown
from tests.conformance.scripted import Frame

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0


class Door(Enum):
    """How the token comes."""

    HEADER = auto()
    FIRST_FRAME = auto()
    SUBPROTOCOL = auto()
    QUERY = auto()


class Visitor:
    """One visitor's conversation. `get_token` is called for each connection."""

    patience_s = 30.0
    max_attempts = 8

    def __init__(self, ws_url: str, get_token: Callable[[], str], door: Door = Door.FIRST_FRAME) -> None:
        self.ws_url = ws_url
        self.get_token = get_token
        self.door = door
        self.conversation_id: str | None = None
        self.socket: ClientConnection | None = None
        self._open = ExitStack()
        self.shown = Shown()
        self.question: Frame = {}

    def ask(self, text: str, *, stop: bool = False) -> Shown:
        """What is shown of the answer once it has ended; `stop` ends it at its first word. Raises OSError, TimeoutError."""
        self.shown = self.fresh()
        self.question = {"type": "ask", "id": f"question-{uuid4()}", "text": text}
        attempt, sent = 0, False
        while attempt < self.max_attempts:
            try:
                socket = self.socket or self.connect()
                self.send(socket, self.again() if sent else self.first())
                sent = True
                self.follow(socket, stop=stop)
            except ConnectionClosed:
                self.close()
                self.pause(attempt)
                attempt += 1
            else:
                return self.shown
        raise TimeoutError("the server does not keep a connection")

    def close(self) -> None:
        """Hangs up."""
        self.socket = None
        self._open.close()

    def fresh(self) -> Shown:
        """An empty screen."""
        return Shown()

    def pause(self, attempt: int) -> None:
        """Waits longer before each further attempt."""
        time.sleep(min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S))

    def connect(self) -> ClientConnection:
        """A connection that has been greeted."""
        token, protocols, headers, url = self.get_token(), [Subprotocol("chat.v1")], {}, self.ws_url
        if self.door is Door.HEADER:
            headers = {"Authorization": f"Bearer {token}"}
        elif self.door is Door.SUBPROTOCOL:
            protocols.append(Subprotocol(f"bearer.{token}"))
        elif self.door is Door.QUERY:
            url += f"?token={token}"
        dialled = connect(url, subprotocols=protocols, additional_headers=headers, proxy=None)
        socket = self._open.enter_context(dialled)
        if self.door is Door.FIRST_FRAME:
            self.send(socket, {"type": "auth", "token": token})
        ready = self.receive(socket)
        self.conversation_id = self.conversation_id or ready["conversation_id"]
        self.socket = socket
        return socket

    def first(self) -> Frame:
        """What asks."""
        self.question["conversation_id"] = self.conversation_id
        return self.question

    def again(self) -> Frame:
        """What asks for the rest."""
        turn, conversation = self.question["id"], self.question["conversation_id"]
        return {"type": "resume", "id": turn, "conversation_id": conversation, "after": self.shown.seq}

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        """Shows the answer to its end. Raises ConnectionClosed."""
        while not (self.shown.finish_reason or self.shown.error):
            frame = self.receive(socket)
            if frame.get("id") != self.question["id"]:
                continue
            if frame.get("code") == "cannot_resume":
                self.shown = self.fresh()
                self.send(socket, self.question)
                continue
            self.shown.take(frame)
            if stop and frame["type"] == "delta":
                self.send(socket, {"type": "stop", "id": self.question["id"]})

    def send(self, socket: ClientConnection, frame: Frame) -> None:
        """Sends a frame."""
        socket.send(json.dumps(frame))

    def receive(self, socket: ClientConnection) -> Frame:
        """The next frame."""
        frame: Frame = json.loads(socket.recv(timeout=self.patience_s))
        return frame
