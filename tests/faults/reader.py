"""The steady questioner: asks a bot over the WebSocket, and looks at which states of its pages an answer comes from."""

import json
import re
import threading
import time
from collections import Counter
from uuid import UUID, uuid4

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from deploy.local.client import DashboardClient

STAMP = "State {number} of the catalogue"
_stamp = re.compile(STAMP.format(number=r"(\d+)"))
EVERY_S, PATIENCE_S = 0.1, 15.0


class Reader:
    """One visitor who asks ten times a second; `empty`, `mixed` and `stepped back` are wrong answers."""

    def __init__(self, client: DashboardClient, bot_id: UUID, question: str) -> None:
        self._client, self._bot_id, self._question = client, bot_id, question
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._newest = 0
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(2 * PATIENCE_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with self._socket() as socket:
                    json.loads(socket.recv(timeout=PATIENCE_S))
                    while not self._ended.wait(EVERY_S):
                        self.answers[self._ask(socket)] += 1
            except (WebSocketException, OSError, TimeoutError):
                self.answers["broken off"] += 1
                time.sleep(0.3)

    def _socket(self) -> ClientConnection:
        token = self._client.sign_token("chat", bot_id=self._bot_id, subject=f"reader-{uuid4().hex[:8]}")
        address = self._client.stack["api_url"].replace("http", "ws", 1) + "/api/chat/ws"
        headers = {"Authorization": f"Bearer {token}"}
        return connect(address, subprotocols=[Subprotocol("chat.v1")], additional_headers=headers, proxy=None)

    def _ask(self, socket: ClientConnection) -> str:
        """What became of one question: `good`, `empty`, `mixed`, `stepped back`, or the error that was said."""
        socket.send(json.dumps({"type": "ask", "id": uuid4().hex, "text": self._question}))
        states: set[int] = set()
        while True:
            frame = json.loads(socket.recv(timeout=PATIENCE_S))
            if frame["type"] == "sources":
                states = {int(found[1]) for one in frame["sources"] if (found := _stamp.search(one["snippet"]))}
            if frame["type"] == "error":
                return f"error: {frame['code']}"
            if frame["type"] == "done":
                return self._judge(states)

    def _judge(self, states: set[int]) -> str:
        if not states:
            return "empty"
        if len(states) > 1:
            return "mixed"
        before, self._newest = self._newest, max(self._newest, *states)
        return "good" if min(states) >= before else "stepped back"


def wrong(readers: list[Reader]) -> dict[str, int]:
    """How often answers were wrong, by how."""
    return {how: sum(reader.answers[how] for reader in readers) for how in ("empty", "mixed", "stepped back")}
