"""What owners may set for a bot and an org: good values are taken, bad ones are named and fall back."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.bot_config import BotConfig, CuratedAnswer, OrgLimits, OwnersQuestion, parse_config, parse_limits
from chat_api.core.models.dashboard import limit_in

SOURCE = "0b5f4d0e-3f0e-4c5b-9d0f-7a4a1de0b0aa"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_every_option_is_taken() -> None:
    given_values = {
        "system_prompt": "Be brief.", "model": " gpt-4o ", "temperature": 0, "max_tokens": 10, "history_length": 0,
        "retrieval_k": 50, "similarity_threshold": 1, "language": "de", "welcome_message": "Hi", "fallback_message": "?",
        "disclaimer": "!", "sample_questions": ["a"], "blocked_terms": [" x "], "daily_token_budget": 0,
        "curated_answers": [{"question": "q", "answer": "a", "id": 7}], "answer_cache": False, "theme": {"color": "#123"},
        "test_questions": [
            {"question": " Who? ", "source_id": SOURCE}, {"question": "When?", "url": "https://a.example/"},
            {"question": "Why?", "answerable": False},
        ],
    }  # fmt: skip
    config, bad = parse_config(given_values)
    assert bad == []
    assert set(given_values) == set(BotConfig.__slots__)
    assert all(getattr(config, name) != getattr(BotConfig(), name) for name in given_values)
    assert (config.model, config.blocked_terms) == ("gpt-4o", ("x",))
    assert config.curated_answers == (CuratedAnswer("q", "a"),)
    assert config.test_questions == (
        OwnersQuestion("Who?", UUID(SOURCE)),
        OwnersQuestion("When?", url="https://a.example/"),
        OwnersQuestion("Why?", answerable=False),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("curated_answers", [{"question": "q"}]),
        ("curated_answers", [{"question": " ", "answer": "a"}]),
        ("curated_answers", {"q": "a"}),
        ("blocked_terms", [""]),
        ("blocked_terms", ["x"] * 201),
        ("daily_token_budget", -1),
        ("daily_token_budget", "lots"),
        ("daily_token_budget", "10"),
        ("max_tokens", True),
        ("max_tokens", 10.5),
        ("temperature", True),
        ("temperature", "1"),
        ("similarity_threshold", True),
        ("history_length", False),
        ("retrieval_k", "5"),
        ("answer_cache", "no"),
        ("answer_cache", 0),
        ("test_questions", [{"question": "Who?", "answerable": "no"}]),
        ("answer_cache", "perhaps"),
        ("theme", ["red"]),
        ("theme", {"a": {"b": 1}}),
        ("model", ""),
        ("temperature", 9),
        ("test_questions", [{"question": "Who?"}]),
        ("test_questions", [{"question": "Who?", "answerable": True}]),
        ("test_questions", [{"question": "Who?", "source_id": "a"}]),
        ("test_questions", [{"question": "Who?", "source_id": SOURCE, "url": "https://a.example/"}]),
        ("test_questions", [{"question": "Who?", "source_id": SOURCE, "answerable": False}]),
        ("test_questions", [{"question": " ", "answerable": False}]),
        ("test_questions", [{"question": "Who?", "answerable": False}] * 101),
    ],
)
def test_a_bad_value_is_named_and_falls_back(name: str, value: object) -> None:
    config, bad = parse_config({name: value, "disclaimer": "kept", "another": 1})
    assert bad == [name]
    assert config == BotConfig(disclaimer="kept")


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    assert parse_config({"max_tokens": 500.0, "temperature": 1.0}) == (BotConfig(max_tokens=500, temperature=1), [])
    assert parse_limits({"monthly_tokens": 1e6})[0].monthly_tokens == 1_000_000


def test_an_orgs_limits() -> None:
    assert parse_limits({"monthly_tokens": 5, "allowed_models": ["a"], "messages_per_minute": 0, "max_file_mb": 1}) == (
        OrgLimits(5, 0, ("a",), max_file_mb=1),
        [],
    )
    assert parse_limits({"monthly_tokens": -5, "allowed_models": "gpt-4o"}) == (
        OrgLimits(),
        ["monthly_tokens", "allowed_models"],
    )
    assert parse_limits({"monthly_tokens": "5", "messages_per_minute": True}) == (
        OrgLimits(),
        ["monthly_tokens", "messages_per_minute"],
    )
    assert parse_limits(None) == (OrgLimits(), [])


@pytest.mark.parametrize(
    ("value", "good"), [(0, True), (0.5, True), (10**30, True), (-1, False), (True, False), ("1", False), ([1], False)]
)
@pytest.mark.parametrize("name", ["monthly_pages", "max_sources", "max_file_mb"])
def test_what_bounds_trainings_is_what_doctor_calls_good(name: str, value: object, *, good: bool) -> None:
    assert parse_limits({name: value})[1] == ([] if good else [name])
    assert (limit_in({name: value}, name) is not None) is good


@pytest.mark.parametrize("raw", [[], "x", 0, False, [{"disclaimer": "kept"}]])
def test_what_is_no_object_is_named_itself(raw: object) -> None:
    assert parse_config(raw) == (BotConfig(), ["config"])
    assert parse_limits(raw) == (OrgLimits(), ["limits"])


@given(st.dictionaries(st.sampled_from(list(BotConfig.__slots__)), json_values))
def test_anything_gives_a_usable_configuration(raw: dict[str, object]) -> None:
    config, bad = parse_config(raw)
    assert set(bad) <= set(raw)
    assert all(raw[name] is not None for name in bad)
    assert all(getattr(config, name) == getattr(BotConfig(), name) for name in bad)
    assert 0 <= config.similarity_threshold <= 1
    assert 1 <= config.retrieval_k <= 50
    repr(config)


@pytest.mark.parametrize("raw", [None, {}, {"unknown": 1}, {"model": None}])
def test_no_configuration_is_the_default_one(raw: object) -> None:
    assert parse_config(raw) == (BotConfig(), [])


def test_bad_values_fall_back_one_by_one() -> None:
    config, bad = parse_config(
        {"temperature": 9, "max_tokens": "many", "retrieval_k": 3, "sample_questions": ["a", 1], "history_length": -1,
         "similarity_threshold": 0, "system_prompt": ["x"], "welcome_message": "Hi"}
    )  # fmt: skip
    assert sorted(bad) == ["history_length", "max_tokens", "sample_questions", "system_prompt", "temperature"]
    assert (config.retrieval_k, config.similarity_threshold, config.welcome_message) == (3, 0, "Hi")
    assert (config.temperature, config.max_tokens) == (BotConfig().temperature, BotConfig().max_tokens)
