"""Cursors of the lists: opaque to callers, they hold the place where a page ended."""

import base64
import binascii
import json
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import TypeAdapter, ValidationError

from chat_api.core.refusals import InvalidRequest

MAX_LISTED = 500
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="How many at most")]
Cursor = Annotated[str | None, Query(max_length=8192, description="`next_cursor` of the page before")]
Place = TypeVar("Place")


def cursor_at(*place: str | int | UUID) -> str:
    """The cursor of a place in a list."""
    return base64.urlsafe_b64encode(json.dumps(place, default=str).encode()).decode()


def place_of(cursor: str, place: TypeAdapter[Place]) -> Place:
    """The place that a cursor holds. Raises InvalidRequest for one that is not ours."""
    try:
        return place.validate_json(base64.b64decode(cursor.encode(), b"-_", validate=True))
    except (ValidationError, binascii.Error, UnicodeEncodeError) as error:
        raise InvalidRequest("The cursor is not one of ours.") from error
