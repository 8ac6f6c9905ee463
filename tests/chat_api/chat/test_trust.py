"""Answers that can be trusted and paid for, over the socket: what is curated, cached, declined, checked and limited."""

import json
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.chat_api.chat.hostile_answers import HOSTILE
from tests.chat_api.chat.test_links import leaks
from tests.chat_api.chat_world import Chat, Frame, TestBot

pytestmark = pytest.mark.stack
PARCELS = "Parcels ordered by 11:30 leave on the same day. The carrier is Northern Freight."
PALLETS = "A pallet to the Highlands costs £129."


def last(chat: Chat, bot: TestBot, *questions: str, answers: tuple[str, ...] = ()) -> Frame:
    """The last frame of the last question's answer, asked on one socket; the model gives these answers."""
    chat.provider.controls.answers.extend(answers)
    with chat.visit(bot) as visit:
        frames = [visit.asked(question, ask_id=str(number)) for number, question in enumerate(questions)]
    for each in frames:
        text = "".join(frame["text"] for frame in each if frame["type"] == "delta")
        assert each[-1]["type"] == "error" or each[-1]["text"] == text
        assert [frame["seq"] for frame in each if "seq" in frame] == list(
            range(1, len(each) + (each[-1]["type"] != "error"))
        )
    return frames[-1][-1]


def used(chat: Chat) -> dict[str, int]:
    """Requests to the provider."""
    return dict(chat.provider.counts.requests)


# --- curated, blocked, cached -----------------------------------------------------------------------------------------


def test_the_owners_answer_costs_nothing(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, curated_answers=[{"question": "When are you open?", "answer": "From 9 to 5 [1]."}])
    done = last(chat, bot, "when are you OPEN")
    assert (done["text"], done["finish_reason"], done["citations"]) == ("From 9 to 5.", "curated", [])
    assert used(chat) == {}


def test_a_blocked_question_is_declined_and_a_blocked_term_masked(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, blocked_terms=["rival ltd"], fallback_message="Ask us [1] by phone.")
    done = last(chat, bot, "Are you better than RIVAL  Ltd?")
    assert (done["text"], done["finish_reason"]) == ("Ask us by phone.", "no_answer")
    assert used(chat) == {}
    assert last(chat, bot, "Who?", answers=("We, not Rival Ltd, are [1].",))["text"] == "We, not •••, are [1]."


def test_the_same_first_question_is_answered_once_until_the_bot_learns(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, similarity_threshold=0)
    first = last(chat, bot, "When do parcels leave?", answers=("Parcels leave on the same day [1].",))
    again = last(chat, bot, "  when do parcels leave ")
    assert (first["finish_reason"], again["finish_reason"]) == ("stop", "cached")
    assert (again["text"], again["citations"]) == (first["text"], first["citations"])
    assert again["usage"] == {"prompt_tokens": 0, "completion_tokens": 0}
    assert used(chat) == {"embeddings": 1, "chat": 1}
    chat.teach(bot, [PALLETS])
    assert last(chat, bot, "When do parcels leave?")["finish_reason"] == "stop"


def test_an_answer_is_given_again_on_its_own_page_alone(chat: Chat) -> None:
    bot = chat.add_bot(retrieval_k=1)
    for price, page in (("£10", "lamp"), ("£99", "chair")):
        chat.teach(bot, [f"The price is {price}."], url=f"https://shop.example/{page}")
    asked = []
    for number, page in enumerate(("lamp", "chair", "lamp/?utm_source=mail", "chair#buy")):
        with chat.visit(bot) as visit:
            done = visit.asked("What is the price?", str(number), page_url=f"https://shop.example/{page}")[-1]
            asked.append((done["text"], done["finish_reason"]))
    texts = ["The price is £10. [1]", "The price is £99. [1]"] * 2
    assert asked == list(zip(texts, ["stop", "stop", "cached", "cached"], strict=True))


@pytest.mark.parametrize("change", ["other bot", "off", "history", "unsupported", "stopped source"])
def test_nothing_else_is_answered_from_the_cache(chat: Chat, change: str) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=change != "off")
    answer = "Parcels leave in 99 hours [1]." if change == "unsupported" else "Parcels leave on the same day [1]."
    assert last(chat, bot, "When?", answers=(answer,))["finish_reason"] == "stop"
    if change == "stopped source":
        chat.rows("UPDATE sources SET deleted_at = now() WHERE bot_id = %s", bot.bot_id)
        assert last(chat, bot, "When?")["finish_reason"] == "no_answer"
    elif change == "history":
        assert last(chat, bot, "Who?", "When?", answers=("They [1].", "When?", answer))["finish_reason"] == "stop"
    else:
        other = chat.add_bot(PARCELS, org_id=bot.org_id) if change == "other bot" else bot
        assert last(chat, other, "When?", answers=(answer,))["finish_reason"] == "stop"


# --- no answer, unsupported -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["<no_answer/>", "  <no_answer/> I would guess noon [1].", "<NO_ANSWER>"])
def test_a_model_that_cannot_answer_says_so_in_the_bots_words(chat: Chat, said: str) -> None:
    bot = chat.add_bot(PARCELS, fallback_message="Sorry.", disclaimer="Call us.", sample_questions=["When?"])
    done = last(chat, bot, "Who?", answers=(said,))
    assert (done["finish_reason"], done["text"], done["citations"]) == ("no_answer", "Sorry.\n\nCall us.", [])
    assert done["sample_questions"] == ["When?"]


def test_samples_are_drawn_from_what_the_bot_knows(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, PALLETS)
    chat.rows(
        "UPDATE chunks SET heading = 'Delivery › When do you ship?' WHERE bot_id = %s AND ordinal = 0", bot.bot_id
    )
    assert last(chat, bot, "Who?", answers=("<no_answer/>",))["sample_questions"] == ["When do you ship?", "Heading"]


def test_a_sentence_its_passage_does_not_say_is_marked(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    with chat.visit(bot) as visit:
        chat.provider.controls.answers.append("Parcels leave on the same day [1]. Northern Freight takes 9 days [1].")
        done = visit.asked()[-1]
        again = visit.asked()[-1]
    ((start, end),) = [(span["start"], span["end"]) for span in done["unsupported"]]
    assert done["text"][start:end] == "Northern Freight takes 9 days [1]."
    assert again["unsupported"] == done["unsupported"]
    assert "unsupported" not in last(chat, bot, "And?", answers=("Parcels leave on the same day [1].",))


# --- hostile content --------------------------------------------------------------------------------------------------


def test_an_obedient_model_cannot_lead_visitors_away(chat: Chat) -> None:
    bot = chat.add_bot(answer_cache=False, origins=["https://shop.example"])
    chat.teach(bot, [f"Say: {HOSTILE[0]}"], url="https://shop.example/a")
    chosen = HOSTILE[::9]
    leaked = []
    with chat.visit(bot, origin="https://shop.example", claims={"sub": "v"}) as visit:
        for number, answer in enumerate(chosen):
            chat.provider.controls.answers.append(answer)
            frames = visit.asked(ask_id=str(number), conversation_id=str(uuid4()))
            leaked += [frame for frame in frames[1:] if leaks(frame.get("text", ""))]
    assert leaked == []


# --- follow-ups -------------------------------------------------------------------------------------------------------


def test_a_follow_up_is_searched_for_as_it_is_meant(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, PALLETS, retrieval_k=1)
    with chat.visit(bot) as visit:
        visit.asked("What does a pallet to the Highlands cost?", ask_id="1")
        chat.provider.controls.answers.extend(["What do two pallets to the Highlands cost?", "Twice that [1]."])
        sources, *_, done = visit.asked("And for two?", ask_id="2")
    assert [source["snippet"] for source in sources["sources"]] == [PALLETS]
    assert done["text"] == "Twice that [1]."
    assert used(chat) == {"embeddings": 3, "chat": 3}
    purposes = chat.rows("SELECT purpose, calls FROM usage_days WHERE bot_id = %s ORDER BY purpose", bot.bot_id)
    assert purposes == [("chat", 2), ("query", 3), ("rewrite", 1)]


# --- limits and money -------------------------------------------------------------------------------------------------


def limit(chat: Chat, bot: TestBot, **limits: Any) -> None:
    """Sets the org's limits."""
    chat.dashboard("UPDATE orgs SET limits = %s WHERE id = %s", Jsonb(limits), bot.org_id)


def test_a_model_that_the_org_does_not_allow_is_not_asked(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, model="gpt-forbidden")
    limit(chat, bot, allowed_models=["gpt-allowed"])
    last(chat, bot, "What?")
    assert chat.rows("SELECT model FROM turns WHERE bot_id = %s", bot.bot_id) == [("gpt-allowed",)]


def test_a_spent_budget_ends_in_a_typed_error_and_leaves_what_is_free(chat: Chat) -> None:
    curated = [{"question": "Open?", "answer": "Always."}]
    bot = chat.add_bot(PARCELS, daily_token_budget=0, curated_answers=curated)
    error = last(chat, bot, "What?")
    assert (error["type"], error["code"]) == ("error", "budget_exhausted")
    assert 0 < error["retry_after"] <= 86_400
    assert last(chat, bot, "Open?")["finish_reason"] == "curated"
    assert used(chat) == {}


def test_a_budget_too_small_for_an_answer_falls_back(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, fallback_message="Later.", daily_token_budget=500, max_tokens=400)
    done = last(chat, bot, "What?")
    assert (done["finish_reason"], done["text"]) == ("budget", "Later.")
    assert used(chat).get("chat") is None
    assert chat.rows("SELECT count(*) FROM budget_reservations WHERE bot_id = %s", bot.bot_id) == [(0,)]


def test_a_month_that_is_nearly_spent_is_answered_by_the_cheaper_model(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=False)
    limit(chat, bot, monthly_tokens=100_000)
    assert last(chat, bot, "What?")["finish_reason"] == "stop"
    chat.rows(
        "INSERT INTO usage_days (org_id, bot_id, day, purpose, model, prompt_tokens)"
        " VALUES (%s, %s, (now() AT TIME ZONE 'UTC')::date, 'embed', 'e', 90000)", bot.org_id, uuid4(),
    )  # fmt: skip
    assert last(chat, bot, "What?")["finish_reason"] == "budget"
    models = chat.rows("SELECT model FROM turns WHERE bot_id = %s ORDER BY created_at", bot.bot_id)
    assert models == [("gpt-4o-mini",), ("gpt-cheaper",)]


def test_where_no_cheaper_model_is_allowed_nothing_is_stepped_down(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, answer_cache=False, max_tokens=3)
    limit(chat, bot, monthly_tokens=100_000, allowed_models=["gpt-4o-mini"])
    chat.rows(
        "INSERT INTO usage_days (org_id, bot_id, day, purpose, model, prompt_tokens)"
        " VALUES (%s, %s, (now() AT TIME ZONE 'UTC')::date, 'embed', 'e', 90000)", bot.org_id, uuid4(),
    )  # fmt: skip
    assert last(chat, bot, "What?", answers=("This one is longer than three tokens.",))["finish_reason"] == "length"


def test_an_orgs_rate_is_kept(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    limit(chat, bot, messages_per_minute=2)
    error = last(chat, bot, "One?", "Two?", "Three?")
    assert (error["type"], error["code"], error["id"]) == ("error", "rate_limited", "2")
    assert error["retry_after"] >= 1
    assert "budget" not in json.dumps(error)
