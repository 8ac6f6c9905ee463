"""What tokens cost: by the settings' table, in millionths of a dollar."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chat_api.core.prices import USUAL, cost_microusd
from chat_api.core.settings import Settings

NEEDED = {
    "DASHBOARD_DB_HOST": "localhost", "DASHBOARD_DB_USERNAME": "dash", "DASHBOARD_DB_NAME": "dashboard",
    "PYTHON_CHAT_DB_HOST": "localhost", "PYTHON_CHAT_DB_USERNAME": "chat", "PYTHON_CHAT_DB_NAME": "chat",
    "OPENAI_API_KEY": "sk-test", "R2_ACCOUNT_ID": "account",
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "prompt", "completion", "cost"),
    [
        ("text-embedding-3-small", 1_000_000, 0, 20_000),
        ("text-embedding-3-small", 49, 0, 1),
        ("gpt-4o-mini", 1000, 100, 210),
        ("gpt-4o-mini-2024-07-18", 1000, 100, 210),
        ("gpt-4o-2024-08-06", 1000, 100, 3500),
        ("gpt-4o-realtime", 1000, 100, None),
        ("all-MiniLM-L6-v2", 10**9, 0, 0),
        ("unheard-of", 1, 1, None),
    ],
)
def test_the_usual_models_have_a_price(model: str, prompt: int, completion: int, cost: int | None) -> None:
    assert cost_microusd(USUAL, model, prompt, completion) == cost


@given(st.floats(0, 1000), st.floats(0, 1000), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_cost_is_within_a_millionth_of_the_sum(price: float, other: float, prompt: int, completion: int) -> None:
    cost = cost_microusd({"m": (price, other)}, "m", prompt, completion)
    assert cost is not None
    assert abs(cost - (prompt * price + completion * other)) <= 0.5


def settings_of(environment: dict[str, Any]) -> Settings:
    return Settings.model_validate({name.lower(): value for name, value in environment.items()})


def test_the_settings_prices_stand_beside_the_usual_ones() -> None:
    prices = settings_of({**NEEDED, "PRICES": {"mine": [1, 2], "gpt-4o": [3, 4]}}).prices
    assert (prices["mine"], prices["gpt-4o"], prices["gpt-4o-mini"]) == ((1, 2), (3, 4), USUAL["gpt-4o-mini"])


@pytest.mark.parametrize("bad", [{"mine": [1]}, {"mine": [-1, 2]}, {"mine": "free"}, ["mine"]])
def test_a_price_that_is_none_is_a_problem(bad: object) -> None:
    with pytest.raises(ValidationError, match="prices"):
        settings_of({**NEEDED, "PRICES": bad})


def test_prices_are_read_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**NEEDED, "PRICES": '{"mine": [1, 2]}'}.items():
        monkeypatch.setenv(name, value)
    assert Settings().prices["mine"] == (1, 2)
