"""The owner's own answers and blocked terms: who asks for them gets them, and nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.blocked import masked, mentions, open_from
from chat_api.chat.curated import find_curated
from chat_api.core.bot_config import CuratedAnswer
from chat_api.core.words import normalised
from tests.chat_api.chat.calls import Calls

KNOWN = [
    CuratedAnswer(question, f"Answer to: {question}")
    for question in (
        "What are your opening hours?", "Do you ship to France?", "How do I reset my password?",
        "Wie lange dauert die Lieferung?", "Can I return a parcel within 30 days?", "Do you not accept dogs?",
        "営業時間は何時ですか", "Is the train from Leeds to York late?",
    )
]  # fmt: skip


def asked(question: str) -> str | None:
    """The known question that is answered."""
    found = find_curated(question, KNOWN)
    return found.question if found else None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("what are your opening hours", 0), ("  WHAT ARE YOUR OPENING HOURS?? ", 0), ("What are the opening hours?", 0),
        ("what are your openning hours", 0), ("Please, do you ship to france?", 1), ("How do I reset my pasword?", 2),
        ("wie lange dauert eure Lieferung", 3), ("Can I return parcels within 30 days?", 4), ("営業時間は何時ですか？", 6),
        ("Could I return the parcel within 30 days?", 4),
    ],
)  # fmt: skip
def test_the_same_question_in_nearly_the_same_words(question: str, expected: int) -> None:
    assert asked(question) == KNOWN[expected].question


@pytest.mark.parametrize(
    "question",
    [
        "Do you ship to Germany?", "Do you not ship to France?", "How do I reset your password?", "Do you accept dogs?",
        "Can I return a parcel within 60 days?", "Can I return a parcel?", "opening", "", "???", "Do you?",
        "Is the train from York to Leeds late?", "Who reset my password?", "What are your closing hours?",
        "Wie lange dauert die Lieferung nach Wien?", "営業時間は何ですか",
    ],
)  # fmt: skip
def test_another_question_is_not_answered(question: str) -> None:
    assert asked(question) is None


@pytest.mark.parametrize(
    ("question", "known"),
    [
        ("shipping to Austria", "Shipping to Australia"), ("Shipping cost Ireland", "Shipping cost Iceland"),
        ("cost of shipping", "Cost of shopping"), ("contract", "Contact"), ("convert", "Convent"),
        ("Who are your contractors?", "Who is your contract?"), ("hours of Williams", "Hours of William"),
        ("price of the model10", "Price of the model1"), ("price of 100000", "Price of 1000000"),
        ("price of model110", "Price of model10"), ("pets", "Pet"), ("form", "from"), ("returned parcel", "Return parcel"),
        ("shipping to Austrian", "Shipping to Austria"),
    ],
)  # fmt: skip
def test_a_word_that_is_much_like_another_is_not_that_one(question: str, known: str) -> None:
    assert find_curated(question, [CuratedAnswer(known, "no")]) is None
    assert find_curated(known.lower(), [CuratedAnswer(known, "yes")])


@pytest.mark.parametrize(
    ("question", "known"),
    [
        ("delviery costs", "Delivery costs"), ("adress of the shop", "Address of the shop"), ("refundds", "Refunds"),
        ("the Lieferungen", "lieferung"), ("shipping to Auustria", "Shipping to Austria"), ("wich retruns", "wich returns"),
    ],
)  # fmt: skip
def test_a_slip_of_the_pen_changes_nothing(question: str, known: str) -> None:
    assert find_curated(question, [CuratedAnswer(known, "yes")])


@given(st.text(max_size=60))
def test_whoever_asks_exactly_that_is_answered(question: str) -> None:
    answers = [CuratedAnswer(question, "yes")]
    assert bool(find_curated(question.upper().lower(), answers)) <= bool(normalised(question))
    assert bool(find_curated(f"  {question} ?", answers)) == bool(normalised(question))


def test_blocked_terms_are_whole_words_in_any_case() -> None:
    terms = ("acme corp", "C++")
    assert mentions("What of ACME\tCorp?", terms)
    assert mentions("Is C++ fine?", terms)
    assert not mentions("acme corporation and C", terms)
    assert not mentions("anything", ())
    assert masked("Acme Corp, acme  corp!", terms) == "•••, •••!"


@given(st.lists(st.sampled_from(["acme", " ", "corp", "a", "c", "\n", "x"]), max_size=8).map("".join))
def test_no_beginning_of_a_term_is_let_go(text: str) -> None:
    start = open_from(text, ("acme corp",))
    for end in range(start):
        rest = " ".join(text[end:].split()) if end == 0 or not text[end - 1].isalnum() else ""
        assert not (rest and text[end].strip() and "acme corp".startswith(rest) and not text.endswith((" ", "\n")))


def test_a_long_question_is_read_once_whatever_the_answers() -> None:
    answers = [CuratedAnswer(question=f"When does shop {n} open on days {n}?", answer="At nine.") for n in range(500)]
    question = "why " * 1_000
    assert find_curated(question, answers) is None
    with Calls(10 * 1_000 + 40 * len(answers)):
        assert find_curated(question, answers) is None
