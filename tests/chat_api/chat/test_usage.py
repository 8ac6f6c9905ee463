"""What was used and what it cost: by bot, purpose and model, and a model without a price is never free."""

from typing import Any

import pytest

from tests.chat_api.chat.rest_world import Rest, Row, org_token
from tests.chat_api.chat_world import TestBot

pytestmark = pytest.mark.stack

PATH = "/api/usage"
READER = {"scope": "usage:read"}


def use(rest: Rest, bot: TestBot, purpose: str, model: str, prompt: int, completion: int = 0, **more: int) -> None:
    """A row of the ledger, `days` ago; `cost` in millionths of a dollar."""
    rest.chat.rows(
        "INSERT INTO usage_days (org_id, bot_id, day, purpose, model, calls, prompt_tokens, completion_tokens,"
        " cost_microusd) VALUES (%s, %s, CAST(now() AT TIME ZONE 'UTC' AS date) - %s, %s, %s, 1, %s, %s, %s)",
        *[bot.org_id, bot.bot_id, more.get("days", 0), purpose, model, prompt, completion, more.get("cost", 0)],
    )


def read(rest: Rest, bot: TestBot, window: str = "30d") -> Row:
    """The bot's usage."""
    return rest.get(f"{PATH}?window={window}", bot, **READER)


def brief(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["purpose"], row["model"], row["prompt_tokens"], row["completion_tokens"], row["cost"]) for row in rows]


def test_tokens_and_cost_by_purpose_and_model(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    use(rest, bot, "embed", "text-embedding-3-small", 1_000_000, cost=20_000)
    use(rest, bot, "embed", "text-embedding-3-small", 500_000, cost=10_000, days=3)
    use(rest, bot, "query", "text-embedding-3-small", 10, cost=0)
    use(rest, bot, "chat", "gpt-4o-mini", 2_000, 1_000, cost=900)
    use(rest, bot, "rewrite", "gpt-4o-mini", 100, 10, cost=21)
    use(rest, bot, "fetch", "", 0)
    found = read(rest, bot)
    assert brief(found["usage"]) == [
        ("chat", "gpt-4o-mini", 2_100, 1_010, 0.000921),
        ("embed", "text-embedding-3-small", 1_500_010, 0, 0.03),
    ]
    chat, embed = found["usage"]
    assert (chat["parts"], chat["calls"]) == ({"chat": 3_000, "rewrite": 110}, 2)
    assert (embed["parts"], embed["calls"]) == ({"embed": 1_500_000, "query": 10}, 3)
    assert {one["bot_id"] for one in found["usage"]} == {str(bot.bot_id)}
    assert found["total"] == {
        **{"prompt_tokens": 1_502_110, "completion_tokens": 1_010, "cost": 0.030921, "unpriced_models": []}
    }
    assert found["next_cursor"] is None


def test_a_model_without_a_price_is_never_free(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    use(rest, bot, "chat", "house-model", 5, 5)
    use(rest, bot, "embed", "all-MiniLM-L6-v2", 100)
    found = read(rest, bot)
    assert brief(found["usage"]) == [("chat", "house-model", 5, 5, None), ("embed", "all-MiniLM-L6-v2", 100, 0, 0)]
    assert (found["total"]["cost"], found["total"]["unpriced_models"]) == (None, ["house-model"])


def test_what_was_written_before_there_was_a_price_costs_todays(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    use(rest, bot, "chat", "gpt-4o-mini", 1_000_000, cost=100_000, days=1)
    use(rest, bot, "chat", "gpt-4o-mini", 1_000_000)
    assert read(rest, bot)["total"]["cost"] == 0.1 + 0.15


@pytest.mark.parametrize(("window", "days"), [("24h", 1), ("7d", 7), ("30d", 30)])
def test_a_window_is_all_days_that_it_touches(rest: Rest, window: str, days: int) -> None:
    bot = rest.chat.add_bot()
    use(rest, bot, "chat", "gpt-4o-mini", 1)
    use(rest, bot, "chat", "gpt-4o-mini", 10, days=days)
    # The day may change between these two rows and the answer: then one day less is seen.
    use(rest, bot, "chat", "gpt-4o-mini", 100, days=days + 1)
    found = read(rest, bot, window)
    assert found["total"]["prompt_tokens"] == 11
    assert found["since"].endswith("T00:00:00Z")
    assert found["window"] == window


def test_an_org_sees_all_of_its_bots_and_a_bots_token_its_own(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    sibling = rest.chat.add_bot(org_id=bot.org_id)
    stranger = rest.chat.add_bot()
    for number, one in enumerate((bot, sibling, stranger)):
        use(rest, one, "chat", "gpt-4o-mini", 10**number)
    whole = rest.call("GET", PATH, org_token(bot, "usage:read")).json()
    assert whole["total"]["prompt_tokens"] == 11
    assert {row["bot_id"] for row in whole["usage"]} == {str(bot.bot_id), str(sibling.bot_id)}
    assert read(rest, bot)["total"]["prompt_tokens"] == 1
    named = rest.call("GET", f"{PATH}?bot_id={sibling.bot_id}", org_token(bot, "usage:read")).json()
    assert named["total"]["prompt_tokens"] == 10


@pytest.mark.parametrize("limit", [1, 2, 500])
def test_usage_comes_in_pages_and_the_total_is_of_all(rest: Rest, limit: int) -> None:
    bot = rest.chat.add_bot()
    for purpose, model in (("chat", "a"), ("chat", "b"), ("embed", "a"), ("query", "c"), ("rewrite", "b")):
        use(rest, bot, purpose, model, 1)
    rows = rest.pages(PATH, "usage", bot, limit, **READER)
    assert [(row["purpose"], row["model"]) for row in rows] == [
        ("chat", "a"), ("chat", "b"), ("embed", "a"), ("embed", "c"),
    ]  # fmt: skip
    assert rest.get(f"{PATH}?limit={limit}", bot, **READER)["total"]["prompt_tokens"] == 5


def test_nothing_was_used_yet(rest: Rest) -> None:
    found = read(rest, rest.chat.add_bot())
    assert found["usage"] == []
    assert found["total"] == {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0, "unpriced_models": []}


@pytest.mark.parametrize("query", ["window=1h", "window=", "limit=0", "limit=501", "cursor=e30=", "bot_id=x"])
def test_bad_parameters_are_refused(rest: Rest, query: str) -> None:
    answer = rest.call("GET", f"{PATH}?{query}", rest.chat.add_bot().token(**READER))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
