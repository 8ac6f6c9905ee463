"""One turn by REST: JSON and events, paid once for each id, the socket's rules, and what a visitor thinks of it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from chat_api.core.settings import Settings
from tests.chat_api.chat.rest_world import Rest, Row, rest_of
from tests.chat_api.chat_world import Chat, TestBot, serving, wait_until

pytestmark = pytest.mark.stack

PARCELS = "Parcels ordered by 11:30 leave on the same day."
PATH = "/api/chat/messages"
EVENTS = {"Accept": "text/event-stream"}


def post(rest: Rest, bot: TestBot, body: Row | None = None, **options: Any) -> httpx2.Response:
    """Asks; the body has an id and a text unless it says otherwise."""
    token = bot.token(**options.pop("claims", {}))
    return rest.call("POST", PATH, token, json={"id": "q1", "text": "What is it?", **(body or {})}, **options)


def asked(rest: Rest, bot: TestBot, body: Row | None = None, **options: Any) -> Row:
    answer = post(rest, bot, body, **options)
    assert answer.status_code == 200, answer.text
    found: Row = answer.json()
    return found


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def frames_of(events: str) -> list[Row]:
    """The frames of a stream, whose events are named and numbered as they are."""
    frames: list[Row] = []
    for event in events.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines())
        frame = json.loads(fields["data"])
        assert fields["event"] == frame["type"]
        assert fields.get("id", "None") == str(frame.get("seq"))
        frames.append(frame)
    return frames


@contextmanager
def other_deployment(chat: Chat, settings: Settings, **changed: Any) -> Iterator[Rest]:
    """Another replica, with other settings."""
    with (
        serving(settings.model_copy(update=changed)) as address,
        rest_of(Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)) as rest,
    ):
        yield rest


def test_a_question_is_answered_with_its_sources(rest: Rest) -> None:
    bot = rest.chat.add_bot()
    source_id = rest.chat.teach(bot, [PARCELS], url="https://shop.example/delivery")
    conversation_id = str(uuid4())
    found = asked(rest, bot, {"text": "When do parcels leave?", "conversation_id": conversation_id, "page_url": "https://shop.example/"})  # fmt: skip
    assert found["text"] == f"{PARCELS} [1]"
    assert (found["id"], found["conversation_id"], found["finish_reason"]) == ("q1", conversation_id, "stop")
    assert (found["citations"], found["unsupported"], found["sample_questions"]) == ([1], [], [])
    assert [source["source_id"] for source in found["sources"]] == [str(source_id)]
    assert found["usage"]["prompt_tokens"] > 20
    (kept,) = rest.get(f"/api/chat/conversations/{conversation_id}/messages", bot)["messages"]
    assert kept["message_id"] == found["message_id"]
    assert (kept["question"], kept["answer"], kept["page_url"]) == (
        "When do parcels leave?", found["text"], "https://shop.example/",
    )  # fmt: skip


def test_no_answer_offers_questions(rest: Rest) -> None:
    bot = rest.chat.add_bot(fallback_message="Ask my boss.", sample_questions=["Open?"])
    found = asked(rest, bot)
    assert (found["text"], found["finish_reason"]) == ("Ask my boss.", "no_answer")
    assert (found["sources"], found["sample_questions"]) == ([], ["Open?"])


def test_the_same_frames_come_as_events(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    answer = post(rest, bot, headers=EVENTS)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = frames_of(answer.text)
    assert [frames[0]["type"], frames[1]["type"], frames[-1]["type"]] == ["sources", "delta", "done"]
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert "".join(frame.get("text", "") for frame in frames[1:-1]) == frames[-1]["text"]
    again = asked(rest, bot)
    assert again["message_id"] == frames[-1]["message_id"]
    assert again["conversation_id"] == answer.headers["x-conversation-id"]


def test_events_come_while_the_provider_is_still_answering(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    rest.chat.provider.controls.token_delay_ms = 30
    rest.chat.provider.controls.answers.append("word " * 200)
    headers = {**EVENTS, "Authorization": f"Bearer {bot.token()}"}
    with rest.http.stream("POST", PATH, headers=headers, json={"id": "q1", "text": "Hm?"}) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("event: "))
        assert [next(lines) for _ in range(3)] == ["event: sources", "event: delta", "event: delta"]
        assert rest.chat.provider.counts.running == 1


def test_a_question_sent_again_is_paid_once(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    first = asked(rest, bot)
    assert asked(rest, bot) == first
    assert asked(rest, bot, {"conversation_id": first["conversation_id"]}) == first
    assert rest.chat.provider.counts.requests == {"embeddings": 1, "chat": 1}
    other = asked(rest, bot, claims={"sub": "visitor-2"})
    assert other["conversation_id"] != first["conversation_id"], "the id is the visitor's own"
    assert asked(rest, bot, {"text": "Another one?"})["conversation_id"] != first["conversation_id"]


def test_another_visitors_same_question_comes_from_the_cache(rest: Rest) -> None:
    def cached() -> bool:
        bot = rest.chat.add_bot(PARCELS)
        paid = asked(rest, bot)
        before = rest.chat.provider.counts.requests["chat"]
        other = asked(rest, bot, claims={"sub": "visitor-2"})
        if other["finish_reason"] != "cached":
            return False
        assert other["text"] == paid["text"]
        assert rest.chat.provider.counts.requests["chat"] == before
        return True

    wait_until(cached)  # while Redis is slow the cache is left alone for some seconds


def test_the_socket_and_the_route_are_one_conversation(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    with rest.chat.visit(bot) as visit:
        done = visit.asked()[-1]
        again = asked(rest, bot, {"conversation_id": visit.ready["conversation_id"]})
    assert (again["message_id"], again["text"]) == (done["message_id"], done["text"])
    assert rest.chat.provider.counts.requests["chat"] == 1


def test_another_visitors_conversation_is_not_there(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    theirs = asked(rest, bot)["conversation_id"]
    for options in ({}, {"headers": EVENTS}):
        answer = post(rest, bot, {"conversation_id": theirs, "id": "q2"}, claims={"sub": "visitor-2"}, **options)
        assert refusal(answer) == (404, "unknown_conversation")
    assert len(rest.chat.turns(bot)) == 1
    asked_ids = rest.chat.rows("SELECT ask_id FROM answers WHERE bot_id = %s", bot.bot_id)
    assert ("q2",) not in asked_ids, "nothing was claimed either"


@pytest.mark.parametrize(
    "body",
    [
        {"id": ""}, {"id": "x" * 65}, {"id": 1}, {"id": None}, {"id": "\0"}, {"text": ""}, {"text": "  "},
        {"text": "x" * 4_001}, {"text": "a\0b"}, {"text": ["hi"]}, {"text": None}, {"conversation_id": "mine"},
        {"page_url": 1}, {"type": "stop"},
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused_unpaid(rest: Rest, body: Row) -> None:
    bot = rest.chat.add_bot(PARCELS)
    assert refusal(post(rest, bot, body)) == (422, "invalid_request")
    assert rest.chat.turns(bot) == []


@pytest.mark.parametrize("field", ["id", "text", "page_url"])
def test_a_lone_surrogate_is_no_question(rest: Rest, field: str) -> None:
    bot = rest.chat.add_bot(PARCELS)
    body = {"id": "q1", "text": "Why?", field: "\ud800"}
    answer = rest.call(
        "POST", PATH, bot.token(), content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert refusal(answer) == (422, "invalid_request")


def test_a_provider_that_fails_is_a_problem(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    rest.chat.provider.fail(400, "chat", times=9)
    assert refusal(post(rest, bot)) == (502, "provider_rejected")
    rest.chat.provider.reset()
    rest.chat.provider.fail(500, "chat", times=9)
    answer = post(rest, bot, {"id": "q2"})
    assert refusal(answer) == (503, "provider_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    rest.chat.provider.reset()
    assert asked(rest, bot, {"id": "q2"})["finish_reason"] == "stop", "what failed may be asked again"


def test_what_fails_after_the_first_event_is_an_event(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    rest.chat.provider.fail(400, "chat", times=9)
    frames = frames_of(post(rest, bot, headers=EVENTS).text)
    assert [frame["type"] for frame in frames] == ["sources", "error"]
    assert frames[-1]["code"] == "provider_rejected"
    rest.chat.provider.reset()
    rest.chat.provider.fail(400, "embeddings", times=9)
    assert refusal(post(rest, bot, {"id": "q2"}, headers=EVENTS)) == (502, "provider_rejected")


def test_too_many_questions_are_refused_with_a_time(rest: Rest, chat_settings: Settings) -> None:
    bot = rest.chat.add_bot(PARCELS)
    with other_deployment(rest.chat, chat_settings, visitor_messages_per_minute=2) as strict:
        claims = {"sub": str(uuid4())}
        assert [post(strict, bot, {"id": str(n)}, claims=claims).status_code for n in range(3)] == [200, 200, 429]
        answer = post(strict, bot, {"id": "4"}, headers=EVENTS, claims=claims)
        assert refusal(answer) == (429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1


def test_a_budget_that_is_used_up_is_said(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS, daily_token_budget=1)
    rest.chat.rows(
        "INSERT INTO usage_days (org_id, bot_id, day, purpose, model, prompt_tokens)"
        " VALUES (%s, %s, CAST(now() AT TIME ZONE 'UTC' AS date), 'chat', 'm', 5)",
        *[bot.org_id, bot.bot_id],
    )
    answer = post(rest, bot)
    assert refusal(answer) == (429, "budget_exhausted")
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    assert rest.chat.provider.counts.requests["chat"] == 0


def leave_whole(rest: Rest, **request: Any) -> None:
    """Asks, and does not wait for the answer."""
    with pytest.raises(httpx2.ReadTimeout):
        rest.http.post(PATH, timeout=httpx2.Timeout(20, read=1), **request)


def leave_events(rest: Rest, **request: Any) -> None:
    """Asks, and leaves in mid-answer."""
    request["headers"] |= EVENTS
    with rest.http.stream("POST", PATH, **request) as stream:
        assert "delta" in next(line for line in stream.iter_lines() if "delta" in line)


@pytest.mark.parametrize("leave", [leave_whole, leave_events])
def test_nobody_pays_for_an_answer_that_nobody_waits_for(
    rest: Rest, chat_settings: Settings, leave: Callable[..., None]
) -> None:
    bot = rest.chat.add_bot(PARCELS)
    rest.chat.provider.controls.token_delay_ms = 20
    rest.chat.provider.controls.answers.append("word " * 1_000)
    with other_deployment(rest.chat, chat_settings, resume_grace_s=0) as hasty:
        authorised = {"Authorization": f"Bearer {bot.token()}"}
        leave(hasty, headers=authorised, json={"id": "q1", "text": "Hm?"})
        wait_until(lambda: rest.chat.provider.counts.client_closed == 1)
        wait_until(lambda: bool(rest.chat.turns(bot)))
        assert rest.chat.turns(bot)[0][2:] == ("stopped", "disconnected")
        rest.chat.provider.controls.answers.append("The whole answer.")
        assert asked(hasty, bot, {"text": "Hm?"})["text"] == "The whole answer."


def test_who_comes_back_in_time_gets_the_answer_that_was_begun(rest: Rest, chat_settings: Settings) -> None:
    bot = rest.chat.add_bot(PARCELS)
    rest.chat.provider.controls.token_delay_ms = 20
    rest.chat.provider.controls.answers.append("word " * 80)
    with other_deployment(rest.chat, chat_settings, resume_grace_s=60) as patient:
        leave_events(patient, headers={"Authorization": f"Bearer {bot.token()}"}, json={"id": "q1", "text": "Hm?"})
        assert asked(patient, bot, {"text": "Hm?"})["text"].split() == ["word"] * 80
    assert rest.chat.provider.counts.requests["chat"] == 1


def test_origins_are_the_sockets(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS, origins=["https://shop.example"])
    page, other = {"Origin": "https://shop.example"}, {"Origin": "https://shop.example.evil"}
    assert post(rest, bot, headers=page).status_code == 200
    assert refusal(post(rest, bot, headers=other)) == (403, "forbidden_origin")
    bound = {"origins": ["https://shop.example"]}
    assert refusal(post(rest, bot, claims=bound)) == (403, "forbidden_origin")
    assert post(rest, bot, headers=page, claims=bound).status_code == 200
    elsewhere = {"origins": ["https://else.example"]}
    assert refusal(post(rest, bot, headers=page, claims=elsewhere)) == (403, "forbidden_origin")


def test_feedback_is_kept_and_may_change(rest: Rest) -> None:
    bot = rest.chat.add_bot(PARCELS)
    message_id = asked(rest, bot)["message_id"]

    def feed(value: object, of: TestBot = bot, **more: Any) -> httpx2.Response:
        claims = more.pop("claims", {})
        return rest.call("POST", f"{PATH}/{message_id}/feedback", of.token(**claims), json={"value": value, **more})

    assert feed("up", comment="Thanks").json() == {"message_id": message_id, "value": "up", "comment": "Thanks"}
    assert feed("down").status_code == 200
    assert rest.chat.rows("SELECT feedback, feedback_comment FROM turns WHERE bot_id = %s", bot.bot_id) == [
        ("down", None)
    ]
    for bad in (feed("sideways"), feed(None), feed("up", comment="x" * 2_001), feed("up", comment="\0")):
        assert refusal(bad) == (422, "invalid_request")
    assert refusal(feed("up", claims={"sub": "visitor-2"})) == (404, "unknown_message")
    assert refusal(feed("up", rest.chat.add_bot())) == (404, "unknown_message")
    assert refusal(feed("up", rest.chat.add_bot(org_id=bot.org_id))) == (403, "forbidden_bot")
    message_id = str(uuid4())
    assert refusal(feed("up")) == (404, "unknown_message")


def test_content_is_in_no_log(rest: Rest, capfd: pytest.CaptureFixture[str]) -> None:
    bot = rest.chat.add_bot(PARCELS)
    found = asked(rest, bot, {"text": "Is zanzibar near?"}, claims={"sub": "visitor-zebra"})
    rest.call("GET", "/api/chat/conversations", bot.token(sub="visitor-zebra"))
    rest.call("DELETE", "/api/visitors/visitor-zebra", bot.token(scope="conversations:erase"))
    written = ""

    def line_is_written() -> bool:
        nonlocal written
        written += "".join(capfd.readouterr())
        return "/api/visitors/{sub" in written

    wait_until(line_is_written)
    for private in ("zanzibar", "zebra", PARCELS, found["text"]):
        assert private not in written


def test_the_description_shows_bodies_answers_and_problems(rest: Rest) -> None:
    paths = rest.http.get("/openapi.json").json()["paths"]
    operations = {
        "/api/chat/messages": "post",
        "/api/chat/messages/{message_id}/feedback": "post",
        "/api/chat/conversations": "get",
        "/api/chat/conversations/{conversation_id}": "get",
        "/api/chat/conversations/{conversation_id}/messages": "get",
        "/api/chat/unanswered": "get",
        "/api/usage": "get",
        "/api/visitors/{sub}": "delete",
    }
    for path, method in operations.items():
        shown = paths[path][method]["responses"]
        assert "$ref" in shown["200"]["content"]["application/json"]["schema"], path
        assert {"401", "403", "404", "422", "503"} <= shown.keys(), path
    assert {"429", "502"} <= paths[PATH]["post"]["responses"].keys()
    assert "text/event-stream" in paths[PATH]["post"]["responses"]["200"]["content"]
