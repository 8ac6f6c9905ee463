"""The dashboard's values as Python can hold them: its owners may store more than that, and one row must not stop others."""

import hashlib
import json
import math
import re
from datetime import UTC, datetime
from typing import Any, TypeVar

from psycopg import DataError
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

MOST_DIGITS = 300
"""Of a whole number: one that has more is not a float either."""
MOST_DEPTH = 64
"""Lists and objects in each other; some further in, Python's own reading and writing of JSON gives up."""
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

_PIECES = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
SomeEngine = TypeVar("SomeEngine", Engine, AsyncEngine)


def readable(engine: SomeEngine) -> SomeEngine:
    """The engine, whose connections read any JSON (see `read_json`), and any time as one of the years 1 to 9999."""
    pool_of = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    event.listen(pool_of, "connect", lambda _adapted, record: _read_with(record.driver_connection))
    return engine


def _read_with(driver: Any) -> None:
    set_json_loads(read_json, driver)
    driver.adapters.register_loader("timestamptz", _TimeLoader)


class _TimeLoader(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:  # infinity, or a year that Python does not have
            return EARLIEST if bytes(data).startswith(b"-") or bytes(data).endswith(b"BC") else LATEST


def read_json(raw: bytes | str) -> Any:
    """The value, which JSON can be made of again.

    A number that is too long, and a list or object that is nested too deep, is `[["unreadable", its checksum]]`: right
    for no setting, and another one when it is changed.
    """
    given = raw if isinstance(raw, str) else raw.decode()
    if given.count("[") + given.count("{") > MOST_DEPTH:
        given = _shallow(given)
    return _DECODER.decode(given)


def _shallow(given: str) -> str:
    kept: list[str] = []
    depth = place = 0
    for piece in _PIECES.finditer(given):
        if piece.group() in "[{":
            depth += 1
            if depth == MOST_DEPTH + 1:
                kept.append(given[place : piece.start()])
                place = piece.start()
        elif piece.group() in "]}":
            if depth == MOST_DEPTH + 1:
                kept.append(json.dumps(_unreadable(given[place : piece.end()])))
                place = piece.end()
            depth -= 1
    return "".join([*kept, given[place:]])


def _unreadable(given: str) -> list[list[str]]:
    return [["unreadable", hashlib.sha256(given.encode()).hexdigest()]]


def _whole(digits: str) -> Any:
    return int(digits) if len(digits) <= MOST_DIGITS else _unreadable(digits)


def _broken(digits: str) -> Any:
    number = float(digits)
    return number if math.isfinite(number) else _unreadable(digits)


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_broken)
