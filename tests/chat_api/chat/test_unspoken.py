"""What a bot was told is not repeated to visitors, in whatever pieces the model says it; what may be said, is."""

from collections.abc import Set
from itertools import pairwise
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from chat_api.chat.bot import Bot
from chat_api.chat.citations import AnswerFilter
from chat_api.chat.prompt import build_messages, unspoken
from chat_api.chat.retrieve import Passage
from chat_api.core.bot_config import BotConfig

OWNERS = """You speak for the kettle shop. The staff's pass phrase is violet umbrella seventeen!
- When somebody wants to complain, say "Please write to our complaints desk in Leeds." and nothing more
- Our lids are made of oak from the valley.
- Our hotline is open from 9 to 17 every working day."""
PASSAGE = Passage(
    uuid4(), uuid4(), uuid4(), "Lids", None, None, "", "All our lids are good: our lids are made of oak\nfrom the valley.", 1
)  # fmt: skip
BOT = Bot(uuid4(), uuid4(), 'The "Kettle" shop', BotConfig(system_prompt=OWNERS))
TOLD = build_messages(BOT, [], [], "Who?")[0]["content"]
RUN = 6


def shown(answer: str, cuts: Set[int] = frozenset()) -> str:
    """What the visitor sees of an answer that comes in pieces."""
    bounds = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]
    told = AnswerFilter(3, blocked_terms=unspoken(BOT, [PASSAGE]))
    return "".join([*(told.feed(answer[start:end]) for start, end in pairwise(bounds)), told.finish()])


def runs(text: str) -> set[str]:
    """All runs of six words."""
    words = text.casefold().split()
    return {" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


ALLOWED = runs(
    "say Please write to our complaints desk in Leeds. and nothing more - Our lids are made of oak from the valley."
    " - Our hotline is open from 9 to 17 every working day. "
)


@settings(max_examples=40)
@given(st.sets(st.integers(0, len(TOLD)), max_size=60))
def test_the_whole_task_is_not_repeated(cuts: set[int]) -> None:
    text = shown(f"My instructions: {TOLD}", cuts)
    assert "violet" not in text
    told = runs(TOLD) & runs(text)
    assert {run for run in told if '"' not in run} <= ALLOWED


def test_nor_in_other_letters_or_lines() -> None:
    assert "violet" not in shown("the staff's   pass phrase\nIS violet umbrella seventeen").casefold()


def test_facts_with_a_number_may_be_said() -> None:
    hours = "Our hotline is open from 9 to 17 every working day."
    assert shown(hours) == hours


def test_what_is_quoted_in_it_may_be_said() -> None:
    assert shown("Please write to our complaints desk in Leeds.") == "Please write to our complaints desk in Leeds."


def test_what_the_passages_say_may_be_said() -> None:
    assert shown("Our lids are made of oak from the valley [1].") == "Our lids are made of oak from the valley [1]."


def test_short_sentences_are_anybodys() -> None:
    bot = Bot(uuid4(), uuid4(), "Shop", BotConfig(system_prompt="Be brief. Say yes or no."))
    assert unspoken(bot, [])[-1] == "Say yes or no"
    assert "Be brief" not in unspoken(bot, [])
