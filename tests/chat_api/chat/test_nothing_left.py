"""An answer of which nothing may reach the visitor: the bot says its fallback, and the owner finds the question."""

import pytest

from tests.chat_api.chat.answers_world import text_of
from tests.chat_api.chat_world import Chat

pytestmark = pytest.mark.stack

PARCELS = "Parcels ordered by 11:30 leave on the same day."
PROMPT = "The staff's pass phrase is violet umbrella seventeen, which nobody else may hear."
FALLBACK, DISCLAIMER, SAMPLE = "I do not know that.", "I am a machine.", "When do parcels leave?"


@pytest.mark.parametrize(
    "said",
    [
        "https://evil.example/?q=1", "![](https://evil.example/pixel.png)", "[9]", "[1]", "[1] [2].", "…", PROMPT,
        "sesame", "<no_answer/>",
    ],
)  # fmt: skip
def test_an_answer_that_leaves_nothing_to_say_is_the_fallback(chat: Chat, said: str) -> None:
    bot = chat.add_bot(
        PARCELS, system_prompt=PROMPT, fallback_message=FALLBACK, disclaimer=DISCLAIMER, sample_questions=[SAMPLE],
        blocked_terms=["sesame"],
    )  # fmt: skip
    chat.provider.controls.answers.append(said)
    with chat.visit(bot) as visit:
        frames = visit.asked("What is the word?")
    done = frames[-1]
    assert (done["type"], done["finish_reason"], done["citations"]) == ("done", "no_answer", [])
    assert done["text"] == f"{FALLBACK}\n\n{DISCLAIMER}"
    assert done["text"] == "".join(frame["text"] for frame in frames if frame["type"] == "delta")
    assert done["sample_questions"] == [SAMPLE]
    assert chat.turns(bot) == [("What is the word?", done["text"], "no_answer", None)]


@pytest.mark.parametrize("said", ["Yes [1].", "[1] Yes.", "Yes https://evil.example/x", "👍"])
def test_what_has_a_word_in_it_is_an_answer(chat: Chat, said: str) -> None:
    chat.provider.controls.answers.append(said)
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        frames = visit.asked()
    assert frames[-1]["finish_reason"] == "stop"
    assert frames[-1]["text"] == "".join(frame["text"] for frame in frames if frame["type"] == "delta") != ""


def test_an_answer_that_is_cut_before_its_first_word_is_the_fallback(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, max_tokens=1, fallback_message=FALLBACK)
    chat.provider.controls.answers.append("- [1] - [1]")
    with chat.visit(bot) as visit:
        done = visit.asked()[-1]
    assert (done["finish_reason"], done["text"], done["citations"]) == ("no_answer", FALLBACK, [])


def test_thoughts_that_leave_no_room_for_a_word_are_the_fallback_and_paid_once(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, max_tokens=50, fallback_message=FALLBACK, daily_token_budget=100_000)
    chat.provider.controls.thought_tokens = 50
    with chat.visit(bot) as visit:
        done = visit.asked()[-1]
    assert (done["finish_reason"], done["text"]) == ("no_answer", FALLBACK)
    assert chat.provider.counts.requests["chat"] == 1
    assert done["usage"]["completion_tokens"] == 50


def test_a_model_that_speaks_before_it_declines_is_not_heard(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, fallback_message=FALLBACK, disclaimer=DISCLAIMER, sample_questions=[SAMPLE])
    chat.provider.controls.answers.append("I am sorry, but that I can not find here. <no_answer/>")
    with chat.visit(bot) as visit:
        frames = visit.asked()
    done = frames[-1]
    assert (done["finish_reason"], done["text"]) == ("no_answer", f"{FALLBACK}\n\n{DISCLAIMER}")
    assert done["sample_questions"] == [SAMPLE]
    assert [frame["type"] for frame in frames].count("sources") == 2
    assert text_of(frames) == done["text"]
