"""chat.v1's JSON Schema, made from the frames' classes; chat.v1.schema.json beside this is the published copy."""

import json
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from chat_api.chat.client_frames import ClientFrame
from chat_api.chat.server_frames import ServerFrame

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PUBLISHED = Path(__file__).with_name("chat.v1.schema.json")


def make_schema() -> dict[str, Any]:
    """The schema: `#/$defs/ClientFrame` and `#/$defs/ServerFrame` are what either side sends."""
    frames = [*get_args(ClientFrame), *get_args(ServerFrame)]
    _, schema = models_json_schema([(frame, "validation") for frame in frames], ref_template="#/$defs/{model}")
    return {
        "$schema": DIALECT,
        "title": "chat.v1",
        "description": "The frames of the WebSocket /api/chat/ws. Fields that a client does not know are to be ignored.",
        "oneOf": [{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": {**schema["$defs"], "ClientFrame": _one_of(ClientFrame), "ServerFrame": _one_of(ServerFrame)},
    }


def _one_of(frames: UnionType) -> dict[str, Any]:
    return {"oneOf": [{"$ref": f"#/$defs/{frame.__name__}"} for frame in get_args(frames)]}


@cache
def schema_text() -> str:
    """The published schema, as it is served."""
    return PUBLISHED.read_text(encoding="utf-8")


def main() -> None:
    """Publishes the schema anew: `python -m chat_api.chat.schema`."""
    PUBLISHED.write_text(json.dumps(make_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
