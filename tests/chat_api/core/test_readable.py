"""JSON and times that Python can't hold: read as what is right nowhere, without stopping what stands beside them."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.bot_config import parse_config, parse_limits
from chat_api.core.readable import EARLIEST, LATEST, MOST_DEPTH, read_json, readable
from tests.workers.chat_rows import engine_of

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(depth: int, middle: str = "1") -> str:
    return "[" * depth + middle + "]" * depth


@given(PLAIN)
def test_json_is_read_as_it_is(value: Any) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value).encode()) == value


@given(st.text(), st.integers(MOST_DEPTH, 100_000), st.sampled_from(['"[{"', '"\\"]}"', "{}", "null"]))
def test_what_is_nested_too_deep_leaves_the_rest_readable(words: str, depth: int, middle: str) -> None:
    value = read_json(f'{{"before": {json.dumps(words)}, "deep": {nested(depth, middle)}, "after": [{{}}]}}')
    assert (value["before"], value["after"]) == (words, [{}])
    assert json.loads(json.dumps(value)) == value


def test_the_deepest_that_is_read_stays_as_it_is() -> None:
    assert read_json(nested(MOST_DEPTH)) == json.loads(nested(MOST_DEPTH))
    assert "unreadable" in str(read_json(nested(MOST_DEPTH + 1)))


@pytest.mark.parametrize("number", ["1" * 301, "-" + "9" * 5_000, "1e999", "-1e999"])
def test_numbers_that_are_too_long_are_right_for_no_setting(number: str) -> None:
    value = read_json(f'{{"temperature": {number}, "welcome_message": "Hello", "theme": {{"x": {number}}}}}')
    config, bad = parse_config(value)
    assert (config.welcome_message, sorted(bad)) == ("Hello", ["temperature", "theme"])
    assert parse_limits({"monthly_tokens": value["temperature"]})[1] == ["monthly_tokens"]


@pytest.mark.parametrize(("one", "other"), [(nested(90, "1"), nested(90, "2")), ("1" * 400, "2" * 400)])
def test_another_value_that_is_unreadable_is_another_one(one: str, other: str) -> None:
    assert read_json(one) == read_json(one) != read_json(other)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("infinity", LATEST),
        ("-infinity", EARLIEST),
        ("0044-03-15 BC", EARLIEST),
        ("20000-01-01", LATEST),
        ("2026-01-02 03:04:05+00", datetime.fromisoformat("2026-01-02T03:04:05+00:00")),
    ],
)
def test_times_are_of_years_that_there_are(module_dashboard_db: str, said: str, read: datetime) -> None:
    with readable(engine_of(module_dashboard_db)).connect() as connection:
        found = connection.exec_driver_sql("SELECT CAST(%s AS timestamptz), '[1e400]'::jsonb", (said,)).one()
    assert found[0] == read
    assert found[1] == read_json("[1" + "0" * 400 + "]")
