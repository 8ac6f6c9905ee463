"""An answer of which nothing may reach the visitor: the bot says its fallback, and the owner finds the question."""

import pytest

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
