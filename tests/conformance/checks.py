"""The checks: what a chat.v1 server must do. Each takes a Target and fails with an AssertionError."""

from collections.abc import Callable
from uuid import uuid4

from tests.conformance.client import text_of
from tests.conformance.target import Frame, Target

Check = Callable[[Target], None]
CHECKS: list[Check] = []
BAD_FRAMES = (
    "", "nonsense", "[]", "null", "{}", '{"type":"nothing"}', '{"type":1}', '{"type":"ask"}', '{"type":"ask","id":"1"}',
    '{"type":"ask","id":"","text":"hi"}', '{"type":"ask","id":1,"text":"hi"}', '{"type":"ask","id":"1","text":"  "}',
    '{"type":"ask","id":"1","text":"hi","conversation_id":"mine"}', '{"type":"stop"}',
    '{"type":"resume","id":"1","after":0}', '{"type":"feedback","message_id":"x","value":"up"}', b'{"type":"ping"}',
)  # fmt: skip


def check(function: Check) -> Check:
    """Adds a check to the list."""
    CHECKS.append(function)
    return function


def fresh() -> str:
    """A question's id that was not used before."""
    return f"check-{uuid4()}"


def whole(frames: list[Frame]) -> Frame:
    """Asserts what holds of every answer; its last frame."""
    done = frames[-1]
    assert done["type"] == "done", done
    assert frames[0]["type"] == "sources"
    assert done["text"] == text_of(frames)
    offered = [source["n"] for frame in frames if frame["type"] == "sources" for source in frame["sources"]]
    assert set(done["citations"]) <= set(offered)
    return done


# --- the handshake ----------------------------------------------------------------------------------------------------


@check
def the_first_frame_may_bring_the_token(target: Target) -> None:
    with target.dial() as client:
        assert client.socket.subprotocol == "chat.v1"
        client.send({"type": "auth", "token": target.make_token()})
        assert client.receive()["type"] == "ready"


@check
def a_subprotocol_may_bring_the_token_and_is_not_echoed(target: Target) -> None:
    with target.dial(protocols=("chat.v1", f"bearer.{target.make_token()}")) as client:
        assert client.receive()["type"] == "ready"
        assert client.socket.subprotocol == "chat.v1"


@check
def a_bad_token_is_refused_with_4401(target: Target) -> None:
    for token in ("nonsense", target.make_token()[:-6] + "AAAAAA"):
        with target.dial(token=token) as client:
            assert client.close_code() == 4401


@check
def a_first_frame_without_a_token_is_refused_with_4401(target: Target) -> None:
    for frame in ({"type": "ping"}, {"type": "ask", "id": "1", "text": "hi"}, "nonsense"):
        with target.dial() as client:
            client.send(frame)
            assert client.close_code() == 4401


@check
def silence_is_ended_with_4408(target: Target) -> None:
    with target.dial() as client:
        assert client.close_code() == 4408


@check
def a_token_without_the_scope_is_refused_with_4403(target: Target) -> None:
    with target.dial(token=target.make_token(scope="training:read")) as client:
        assert client.close_code() == 4403


@check
def a_token_can_be_renewed_by_its_own_visitor_alone(target: Target) -> None:
    with target.visit() as client:
        client.send({"type": "auth", "token": target.make_token()})
        assert client.receive()["type"] == "ready"
        client.send({"type": "auth", "token": target.make_token(subject="visitor-2")})
        assert client.close_code() == 4403


# --- frames -----------------------------------------------------------------------------------------------------------


@check
def bad_frames_are_said_and_survived(target: Target) -> None:
    with target.visit() as client:
        for frame in BAD_FRAMES:
            client.send(frame)
            assert client.error()["code"] == "bad_frame", frame
        client.alive()


@check
def unknown_fields_are_ignored(target: Target) -> None:
    with target.visit() as client:
        client.send({"type": "ping", "of": "tomorrow"})
        assert client.receive() == {"type": "pong"}


@check
def a_question_may_have_4000_characters(target: Target) -> None:
    with target.visit() as client:
        ask_id = fresh()
        client.ask("x" * 4_001, ask_id)
        error = client.error()
        assert (error["code"], error["id"]) == ("too_long", ask_id)


@check
def a_frame_over_32_kib_ends_the_connection_with_1009(target: Target) -> None:
    with target.visit() as client:
        client.send("x" * (32 * 1024 + 1))
        assert client.close_code() == 1009


@check
def feedback_is_for_ones_own_answers(target: Target) -> None:
    with target.visit() as client:
        client.send({"type": "feedback", "message_id": str(uuid4()), "value": "up"})
        assert client.error()["code"] == "bad_frame"
        client.alive()


# --- answers ----------------------------------------------------------------------------------------------------------


@check
def an_answer_is_sources_deltas_and_done(target: Target) -> None:
    with target.visit() as client:
        ask_id = fresh()
        client.ask(target.question, ask_id)
        frames = client.answer(ask_id)
        done = whole(frames)
        assert {frame["type"] for frame in frames[1:-1]} <= {"delta"}
        client.send({"type": "feedback", "message_id": done["message_id"], "value": "up", "comment": "Thanks"})
        client.alive()


@check
def a_question_sent_again_gets_the_same_answer(target: Target) -> None:
    ask_id = fresh()
    with target.visit() as client:
        conversation_id = client.ready["conversation_id"]
        client.ask(target.question, ask_id, conversation_id=conversation_id)
        first = whole(client.answer(ask_id))
    with target.visit() as client:
        client.ask(target.question, ask_id, conversation_id=conversation_id)
        again = whole(client.answer(ask_id))
    assert {**again, "seq": 0} == {**first, "seq": 0}


@check
def there_is_one_answer_at_a_time(target: Target) -> None:
    with target.visit() as client:
        first, second = fresh(), fresh()
        client.ask(target.question, first)
        client.ask(target.question, second)
        frames = [client.receive()]
        while {"done", "error"}.isdisjoint({frame["type"] for frame in frames if frame.get("id") == first}):
            frames.append(client.receive())
        others = [frame for frame in frames if frame.get("id") == second]
        assert [frame["code"] for frame in others] == ["busy"] or not others


@check
def after_stop_the_text_is_what_was_streamed(target: Target) -> None:
    with target.visit() as client:
        ask_id = fresh()
        client.ask(target.question, ask_id)
        client.send({"type": "stop", "id": ask_id})
        frames = client.answer(ask_id)
        assert frames[-1]["text"] == text_of(frames)
        client.send({"type": "stop", "id": ask_id})
        client.alive()


# --- resume -----------------------------------------------------------------------------------------------------------


@check
def an_answer_is_replayed_after_any_of_its_frames(target: Target) -> None:
    with target.visit() as client:
        ask_id, conversation_id = fresh(), client.ready["conversation_id"]
        client.ask(target.question, ask_id)
        frames = client.answer(ask_id)
    for after in {0, 1, len(frames) // 2, len(frames) - 1}:
        with target.visit() as client:
            client.resume(conversation_id, ask_id, after)
            assert client.answer(ask_id, after) == frames[after:]


@check
def an_answer_in_flight_goes_on_after_a_reconnect(target: Target) -> None:
    ask_id = fresh()
    with target.visit() as client:
        conversation_id = client.ready["conversation_id"]
        client.ask(target.question, ask_id)
        frames = [client.receive()]
    with target.visit() as client:
        client.resume(conversation_id, ask_id, 1)
        whole([*frames, *client.answer(ask_id, 1)])


@check
def what_there_is_not_cannot_be_resumed(target: Target) -> None:
    with target.visit() as client:
        ask_id = fresh()
        client.resume(str(uuid4()), ask_id, 0)
        error = client.error()
        assert (error["code"], error["id"]) == ("cannot_resume", ask_id)
        client.alive()


@check
def another_visitors_answer_cannot_be_resumed(target: Target) -> None:
    with target.visit() as client:
        ask_id, conversation_id = fresh(), client.ready["conversation_id"]
        client.ask(target.question, ask_id)
        client.answer(ask_id)
    with target.visit("visitor-2") as stranger:
        stranger.resume(conversation_id, ask_id, 0)
        assert stranger.error()["code"] == "cannot_resume"
        stranger.ask(target.question, ask_id, conversation_id=conversation_id)
        assert stranger.error()["code"] == "bad_frame"
