"""Follow-ups are made understandable by themselves: by a model in time, by rule without one."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat import rewrite
from chat_api.chat.find import merged
from chat_api.chat.prompt import Message, PastTurn
from chat_api.chat.retrieve import Found
from chat_api.chat.rewrite import Completion, Rewriting, standalone, with_topic
from chat_api.core.errors import ProviderUnavailable
from tests.chat_api.chat.passages import passage

PALLETS = [PastTurn("What does a pallet to the Highlands cost?", "It costs £129 [1].")]


def rewritten(reply: str | Exception, history: Sequence[PastTurn] = PALLETS) -> tuple[Rewriting, list[Message]]:
    """What comes of a follow-up when the model says so, and what the model was told."""
    told: list[Message] = []

    async def complete(messages: Sequence[Message], _: int) -> Completion:
        told.extend(messages)
        if isinstance(reply, Exception):
            raise reply
        return Completion(reply, "m", 50, 9)

    return asyncio.run(standalone("And for two?", history, complete, "m")), told


def test_the_model_rewrites_with_the_conversation_as_material() -> None:
    rewriting, told = rewritten('"What do two pallets to the Highlands cost?"\n')
    assert rewriting.text == "What do two pallets to the Highlands cost?"
    assert rewriting.used == Completion('"What do two pallets to the Highlands cost?"\n', "m", 50, 9)
    assert [message["role"] for message in told] == ["system", "user"]
    assert "pallet to the Highlands cost" in told[1]["content"]
    assert told[1]["content"].endswith("Last question: And for two?")


def test_a_first_question_costs_nothing() -> None:
    assert rewritten("never asked", []) == (Rewriting("And for two?"), [])


@pytest.mark.parametrize("reply", ["", "  \n", "x" * 600])
def test_what_is_no_question_is_not_used_but_counted(reply: str) -> None:
    rewriting, _ = rewritten(reply)
    assert (rewriting.text, rewriting.used is not None) == ("And for two?", True)


def test_a_model_that_is_away_leaves_the_question_as_it_is() -> None:
    assert rewritten(ProviderUnavailable())[0] == Rewriting("And for two?")


def test_a_slow_model_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "WITHIN_S", 0.01)

    async def never(*_: object) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError

    rewriting = asyncio.run(standalone("And for two?", PALLETS, never, "m"))
    assert rewriting.text == "And for two?"
    assert rewriting.used
    assert rewriting.used.prompt_tokens > 50


@pytest.mark.parametrize(
    ("questions", "follow_up", "expected"),
    [
        (["What does a pallet to the Highlands cost?"], "And for two?", {"pallet", "highlands", "cost"}),
        (["How long is the warranty of the Wren kettle?"], "Does it cover rust?", {"warranty", "wren", "kettle"}),
        (["How long is the Wren's warranty?", "And the Heron's?"], "And abroad?", {"warranty", "heron's"}),
        (["Was kostet der Versand nach Wien?"], "Und nach Graz?", {"kostet", "versand", "wien"}),
    ],
)
def test_by_rule_a_follow_up_gets_the_words_it_leans_on(
    questions: list[str], follow_up: str, expected: set[str]
) -> None:
    text = with_topic(follow_up, [PastTurn(question, "x") for question in questions])
    assert text.startswith(follow_up)
    assert expected <= set(text.split())


def test_by_rule_a_question_of_its_own_stays() -> None:
    question = "Which payment methods does the online shop accept?"
    assert with_topic(question, PALLETS) == question


@given(st.text(max_size=300), st.lists(st.text(max_size=300), max_size=4))
def test_by_rule_nothing_is_lost_and_nothing_grows_without_end(question: str, before: list[str]) -> None:
    text = with_topic(question, [PastTurn(one, "a") for one in before])
    assert text.startswith(question)
    assert len(text) <= max(500, len(question))


def test_of_both_searches_each_passage_counts_once_with_its_better_score() -> None:
    def found(number: int, score: float) -> Found:
        return Found(passage(str(number), chunk_id=UUID(int=number), score=score), 1, 0, 9, 1, None)

    one, two, three, better = found(1, 0.1), found(2, 0.2), found(3, 0.3), found(1, 0.9)
    assert merged([[one, three], [two, better]]) == [better, three, two]
    assert merged([[], [two, one]]) == [two, one]
