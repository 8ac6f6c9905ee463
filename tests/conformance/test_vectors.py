"""The vectors for clients: frames of chat.v1, all of them, and shown as they say by the reference client."""

from dataclasses import asdict
from typing import Any

import jsonschema
import pytest

from chat_api.chat.schema import make_schema
from tests.conformance.client import VECTORS, Shown


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_reference_client_shows_what_the_vector_says(vector: dict[str, Any]) -> None:
    shown = Shown()
    for frame in vector["frames"]:
        shown.take(frame)
    assert {**asdict(shown), **vector["shows"]} == asdict(shown)


def test_vectors_are_made_of_frames() -> None:
    schema = make_schema()
    known = {"sources", "delta", "done", "error"}
    for vector in VECTORS:
        for frame in vector["frames"]:
            if frame["type"] in known and "of" not in frame:
                jsonschema.validate(frame, schema)
