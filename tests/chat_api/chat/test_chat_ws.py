"""Questions over the WebSocket: streaming, stopping, what is on record, and faults of the provider."""

import json
import time
from uuid import uuid4

import pytest

from tests.chat_api.chat_world import Chat, Frame, wait_until

pytestmark = pytest.mark.stack

PARCELS = "Parcels ordered by 11:30 leave on the same day."
PALLETS = "Pallets leave on Mondays."


def kinds(frames: list[Frame]) -> list[str]:
    """The frames' types, with runs of deltas as one."""
    found: list[str] = []
    for frame in frames:
        if not found or found[-1] != frame["type"] or frame["type"] != "delta":
            found.append(frame["type"])
    return found


def test_a_question_is_answered_with_its_sources(chat: Chat) -> None:
    bot = chat.add_bot()
    source_id = chat.teach(bot, [PARCELS], url="https://shop.example/delivery")
    with chat.visit(bot) as visit:
        frames = visit.asked("When do parcels leave?", page_url="https://shop.example/")
    assert kinds(frames) == ["sources", "delta", "done"]
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {frame["id"] for frame in frames} == {"q1"}
    (source,) = frames[0]["sources"]
    assert (source["n"], source["source_id"], source["title"], source["heading"]) == (
        1,
        str(source_id),
        "Title",
        "Heading",
    )
    assert source["url"].startswith("https://shop.example/delivery#:~:text=Parcels%20ordered%20by%2011%3A30")
    assert source["snippet"] == PARCELS
    assert 0 <= source["score"] <= 1
    done = frames[-1]
    assert done["text"] == f"{PARCELS} [1]" == "".join(frame["text"] for frame in frames[1:-1])
    assert (done["citations"], done["finish_reason"]) == ([1], "stop")
    assert done["usage"]["prompt_tokens"] > 20
    assert done["usage"]["completion_tokens"] > 5
    (row,) = chat.rows(
        "SELECT c.visitor, t.conversation_id::text, page_url, citations, sources->0->>'n', model, timings"
        " FROM turns t JOIN conversations c USING (org_id, bot_id, conversation_id) WHERE message_id = %s",
        done["message_id"],
    )
    assert row[:-1] == (
        "visitor-1", visit.ready["conversation_id"], "https://shop.example/", [1], "1", "gpt-4o-mini",
    )  # fmt: skip
    assert {"embed", "search", "first_delta", "total"} <= row[-1].keys()


def test_deltas_arrive_while_the_provider_is_still_answering(chat: Chat) -> None:
    chat.provider.controls.token_delay_ms = 30
    chat.provider.controls.answers.append("word " * 200)
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        visit.ask()
        assert [visit.receive()["type"] for _ in range(4)] == ["sources", "delta", "delta", "delta"]
        assert chat.provider.counts.running == 1


def test_stop_ends_the_answer_and_the_provider_call(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.controls.token_delay_ms = 20
    chat.provider.controls.answers.append("word " * 500)
    with chat.visit(bot) as visit:
        visit.ask()
        streamed = [visit.receive() for _ in range(5)]
        visit.send({"type": "stop", "id": "another"})
        visit.send({"type": "stop", "id": "q1"})
        frames = [*streamed, *visit.answer()]
        wait_until(lambda: chat.provider.counts.client_closed == 1)
        text = "".join(frame["text"] for frame in frames if frame["type"] == "delta")
        assert (frames[-1]["finish_reason"], frames[-1]["text"]) == ("stopped", text)
        assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
        assert chat.turns(bot) == [("What is it?", text, "stopped", None)]
        chat.provider.controls.answers.extend(["The question as it is searched for", "Fresh."])
        assert visit.asked(ask_id="q2")[-1]["text"] == "Fresh."


def test_a_stop_that_comes_with_the_question_or_soon_after_is_answered_too(chat: Chat) -> None:
    chat.provider.controls.latency_ms = 300
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        for number in range(10):
            visit.ask(ask_id=str(number))
            time.sleep(0.003 * number)
            visit.send({"type": "stop", "id": str(number)})
            done = visit.answer()[-1]
            assert (done["type"], done.get("finish_reason"), done.get("text")) == ("done", "stopped", "")


def test_a_visitor_who_leaves_and_does_not_return_ends_the_provider_call(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.controls.token_delay_ms = 20
    chat.provider.controls.answers.append("word " * 500)
    with chat.visit(bot) as visit:
        visit.ask()
        for _ in range(3):
            visit.receive()
    wait_until(lambda: chat.provider.counts.client_closed == 1)
    wait_until(lambda: bool(chat.turns(bot)))
    (turn,) = chat.turns(bot)
    assert turn[1].startswith("word word")
    assert turn[2:] == ("stopped", "disconnected")
    chat.provider.controls.answers.append("The whole answer.")
    with chat.visit(bot) as later:
        done = later.asked(conversation_id=visit.ready["conversation_id"])[-1]
    assert (done["text"], done["finish_reason"]) == ("The whole answer.", "stop")
    assert len(chat.turns(bot)) == 1


def test_one_answer_at_a_time(chat: Chat) -> None:
    chat.provider.controls.token_delay_ms = 20
    chat.provider.controls.answers.append("word " * 20)
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        visit.ask(ask_id="first")
        assert visit.receive()["id"] == "first"
        visit.ask(ask_id="second")
        frames = visit.answer()
        busy = frames[-1]
        assert (busy["type"], busy["code"], busy["id"]) == ("error", "busy", "second")
        assert visit.answer()[-1]["finish_reason"] == "stop"


def test_another_conversations_question_with_the_same_id_is_another_one(chat: Chat) -> None:
    chat.provider.controls.token_delay_ms = 20
    chat.provider.controls.answers.append("word " * 20)
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        visit.ask()
        visit.receive()
        for kind in ("ask", "resume"):
            visit.send({"type": kind, "id": "q1", "text": "Why?", "after": 0, "conversation_id": str(uuid4())})
            busy = visit.answer()[-1]
            assert (busy["type"], busy["code"], busy["id"]) == ("error", "busy", "q1")
        assert visit.answer()[-1]["finish_reason"] == "stop"


def test_no_passage_means_no_answer_and_no_model(chat: Chat) -> None:
    bot = chat.add_bot(fallback_message="Ask my boss.", sample_questions=["Open?"], disclaimer="Machines err.")
    with chat.visit(bot) as visit:
        frames = visit.asked()
    assert kinds(frames) == ["sources", "delta", "done"]
    assert frames[0]["sources"] == []
    done = frames[-1]
    assert done["text"].startswith("Ask my boss.")
    assert (done["finish_reason"], done["citations"], done["sample_questions"]) == ("no_answer", [], ["Open?"])
    assert "Machines err." in json.dumps(done)
    assert chat.provider.counts.requests["chat"] == 0
    assert chat.turns(bot)[0][2] == "no_answer"


def test_what_is_below_the_bots_threshold_is_not_offered(chat: Chat) -> None:
    strict, open_ = chat.add_bot(PARCELS, similarity_threshold=1), chat.add_bot(PARCELS, "Zebra quagga okapi")
    with chat.visit(strict) as visit:
        assert visit.asked("When do parcels leave?")[-1]["finish_reason"] == "no_answer"
    with chat.visit(open_) as visit:
        sources = visit.asked("When do parcels leave?")[0]["sources"]
    assert [source["snippet"] for source in sources] == [PARCELS, "Zebra quagga okapi"]
    assert sources[0]["score"] > sources[1]["score"]


def test_a_question_sent_again_is_answered_from_the_record(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    with chat.visit(bot) as visit:
        first = visit.asked()
        again = visit.asked()
    requests = chat.provider.counts.requests.copy()
    with chat.visit(bot) as later:
        third = later.asked(conversation_id=visit.ready["conversation_id"])
    assert chat.provider.counts.requests == requests
    assert requests == {"embeddings": 1, "chat": 1}
    for repeated in (again, third):
        assert repeated[0] == first[0]
        assert {**repeated[-1], "seq": 0} == {**first[-1], "seq": 0}
        assert "".join(frame["text"] for frame in repeated if frame["type"] == "delta") == first[-1]["text"]


def test_the_conversation_so_far_is_given_to_the_model(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, history_length=1)
    with chat.visit(bot) as visit:
        for number in range(3):
            rewritten = ["same length"] if number else []
            chat.provider.controls.answers.extend([*rewritten, f"Answer {number}."])
            done = visit.asked("same length", ask_id=str(number))[-1]
            assert done["text"] == f"Answer {number}."
    tokens = chat.rows("SELECT prompt_tokens FROM turns WHERE bot_id = %s ORDER BY created_at", bot.bot_id)
    assert tokens[0][0] < tokens[1][0] == tokens[2][0]


def test_unknown_citations_never_reach_the_visitor(chat: Chat) -> None:
    text = "It leaves today [1][7]. Not tomorrow [12], nor [2, 9] later [99999] ever [[8]3]."
    chat.provider.controls.answers.append(text.replace(" ", "  ").replace("[", "[\n").replace("[\n", "["))
    with chat.visit(chat.add_bot(PARCELS, PALLETS)) as visit:
        done = visit.asked()[-1]
    assert set(done["citations"]) == {1, 2}
    assert [number for number in range(100_000) if f"[{number}]" in done["text"]] == [1, 2]


# --- when the provider fails ------------------------------------------------------------------------------------------


def test_a_provider_that_is_busy_for_a_moment_is_asked_again(chat: Chat) -> None:
    chat.provider.fail(429, "chat", retry_after=0.2)
    chat.provider.fail(500, "chat")
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        assert visit.asked()[-1]["finish_reason"] == "stop"
    assert chat.provider.counts.requests["chat"] == 3


def test_a_provider_that_is_busy_for_long_is_a_typed_error(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.fail(429, "chat", retry_after=40)
    with chat.visit(bot) as visit:
        frames = visit.asked()
        assert kinds(frames) == ["sources", "error"]
        error = frames[-1]
        assert (error["code"], error["id"], error["retry_after"]) == ("provider_unavailable", "q1", 40)
        assert chat.turns(bot)[0][3] == "provider_unavailable"
        assert visit.asked()[-1]["finish_reason"] == "stop", "no answer was given under this id yet"
    assert len(chat.turns(bot)) == 1


@pytest.mark.parametrize(("act", "times"), [(500, 5), (503, 5), ("malformed", 5), ("cut", 5)])
def test_a_provider_that_stays_broken_is_a_typed_error(chat: Chat, act: int, times: int) -> None:
    chat.provider.fail(act, "chat", times=times)
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        error = visit.asked()[-1]
        assert (error["type"], error["code"]) == ("error", "provider_unavailable")
        chat.provider.reset()
        assert visit.asked(ask_id="q2")[-1]["type"] == "done"


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_provider_that_refuses_is_not_asked_again(chat: Chat, status: int) -> None:
    chat.provider.fail(status, "chat")
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        error = visit.asked()[-1]
    assert (error["type"], error["code"]) == ("error", "provider_rejected")
    assert "sk-test" not in json.dumps(error)
    assert chat.provider.counts.requests["chat"] == 1


def test_a_stream_that_breaks_off_ends_in_a_typed_error(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.controls.answers.append("one two three four five")
    chat.provider.fail("cut", "chat", after=3)
    with chat.visit(bot) as visit:
        frames = visit.asked()
    assert kinds(frames) == ["sources", "delta", "error"]
    assert frames[-1]["code"] == "provider_unavailable"
    assert "".join(frame["text"] for frame in frames[1:-1]).strip() == "one two three"
    ((_, answer, _, error_code),) = chat.turns(bot)
    assert (answer.strip(), error_code) == ("one two three", "provider_unavailable")
    assert chat.provider.counts.requests["chat"] == 1


def test_a_provider_that_says_nothing_is_given_up(chat: Chat) -> None:
    chat.provider.fail("hang", "chat")
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        assert visit.asked()[-1]["code"] == "provider_unavailable"
    wait_until(lambda: chat.provider.counts.client_closed == 1)


def test_a_question_that_can_t_be_embedded_is_a_typed_error(chat: Chat) -> None:
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        chat.provider.fail(503, "embeddings", times=9)
        assert visit.asked()[-1]["code"] == "provider_unavailable"
        chat.provider.reset()
        chat.provider.fail(429, "embeddings", retry_after=0.1)
        assert visit.asked(ask_id="q2")[-1]["type"] == "done"
