"""What a client brings to the door, and the frames that it sends."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from jsonschema import Draft202012Validator

from chat_api.chat.client_frames import MAX_FRAME_BYTES, SUBPROTOCOL
from chat_api.chat.schema import schema_text
from tests.conformance.scripted import Frame

AUTH_WITHIN_S = 5.0
BEARER = "bearer."
_client_frame = Draft202012Validator(
    {**json.loads(schema_text()), "oneOf": [{"$ref": "#/$defs/ClientFrame"}]},
    format_checker=Draft202012Validator.FORMAT_CHECKER,
)


class Refused(Exception):
    """The client is not let in; `code` closes its connection."""

    def __init__(self, code: int, problem: str) -> None:
        super().__init__(problem)
        self.code = code


def read_frame(message: Mapping[str, Any]) -> Frame | str:
    """A client's frame, or what is wrong with it. Raises WebSocketDisconnect."""
    if message["type"] != "websocket.receive":
        raise WebSocketDisconnect(message.get("code", 1006))
    text = message.get("text")
    if text is None:
        return "it sent a binary frame"
    if len(text.encode()) > MAX_FRAME_BYTES:
        return f"it sent a frame over {MAX_FRAME_BYTES} bytes"
    try:
        frame: Frame = json.loads(text)
    except ValueError:
        return f"it sent what is no JSON: {text[:200]}"
    return frame if _client_frame.is_valid(frame) else f"it sent what is no frame of the schema: {text[:200]}"


async def token_of(socket: WebSocket) -> str:
    """The token of an accepted client, by whichever door. Raises Refused, WebSocketDisconnect."""
    offered: list[str] = socket.scope["subprotocols"]
    if SUBPROTOCOL not in offered:
        raise Refused(1002, f"it did not offer the subprotocol {SUBPROTOCOL}, but {offered}")
    tokens = {protocol.removeprefix(BEARER) for protocol in offered if protocol.startswith(BEARER)}
    tokens |= {header.partition(" ")[2].strip() for header in socket.headers.getlist("authorization")}
    tokens |= set(socket.query_params.getlist("token"))
    if len(tokens) > 1:
        raise Refused(4401, "it brought two different tokens at once")
    return tokens.pop() if tokens else await _first_token(socket)


async def _first_token(socket: WebSocket) -> str:
    try:
        async with asyncio.timeout(AUTH_WITHIN_S):
            frame = read_frame(await socket.receive())
    except TimeoutError:
        raise Refused(4408, f"it brought no token, and sent no auth frame within {AUTH_WITHIN_S:.0f} s") from None
    if isinstance(frame, str):
        raise Refused(4401, frame)
    if frame["type"] != "auth":
        raise Refused(4401, f"it brought no token, and its first frame was not auth but {frame['type']}")
    return str(frame["token"])
