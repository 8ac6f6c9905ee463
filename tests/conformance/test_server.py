"""Our own server against the kit, and the published schema against the code."""

import json

import httpx2
import jsonschema
import pytest

from chat_api.chat.client_frames import parse_frame
from chat_api.chat.schema import PUBLISHED, make_schema
from tests.chat_api.chat_world import Chat
from tests.conformance.checks import CHECKS, Check
from tests.conformance.target import Target


@pytest.mark.stack
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_our_server_conforms(check: Check, target: Target) -> None:
    check(target)


@pytest.mark.stack
def test_the_schema_is_served(chat: Chat) -> None:
    address = chat.ws_url.replace("ws://", "http://").replace("/ws", "/schema.json")
    answer = httpx2.get(address, trust_env=False)
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json() == make_schema()


def test_the_published_schema_is_the_code_s() -> None:
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert published == make_schema(), "run `python -m chat_api.chat.schema`"
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "auth", "token": "x"},
        {"type": "ask", "id": "1", "text": "hi", "page_url": None, "more": 1},
        {"type": "resume", "id": "1", "conversation_id": "11111111-1111-4111-8111-111111111111", "after": 0},
        {"type": "stop", "id": "1"},
        {"type": "ping"},
    ],
)
def test_what_the_server_takes_is_in_the_schema(frame: dict[str, object]) -> None:
    parse_frame(json.dumps(frame))
    jsonschema.validate(frame, make_schema())
