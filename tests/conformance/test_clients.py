"""The judge of clients: the visitor passes by every door, and clients that do what they should not are found out."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from uuid import uuid4

import httpx2
import pytest
from jsonschema import Draft202012Validator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from chat_api.chat.schema import make_schema
from tests.conformance.judge import Judge
from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.conformance.scripted import TOKEN_LIFETIME_S, Frame, serving
from tests.conformance.serve import create_app
from tests.conformance.verdicts import Verdicts
from tests.conformance.visitor import Door, Visitor
from tests.conformance.wrong_clients import WRONG

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
WITHIN_S = 20


@contextmanager
def judging(*scenarios: Scenario, wants_shown: bool = True) -> Iterator[tuple[Verdicts, str]]:
    """A judge of these scenarios, and its address without a scheme."""
    verdicts = Verdicts(scenarios, wants_shown=wants_shown, say=print)
    with serving(create_app(Judge(verdicts))) as port:
        yield verdicts, f"127.0.0.1:{port}"


def until(condition: Callable[[], bool]) -> None:
    """Waits for a verdict."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def tokens(address: str) -> str:
    """Another token."""
    return str(httpx2.get(f"http://{address}/token", trust_env=False).json()["token"])


def play(kind: type[Visitor], address: str, name: str, door: Door = Door.FIRST_FRAME) -> None:
    """Has a client of this kind ask for the scenario, and tell what it shows."""
    visitor = kind(f"ws://{address}/api/chat/ws", lambda: tokens(address), door)
    shown = asdict(visitor.ask(name, stop=name == "a stop"))
    httpx2.post(f"http://{address}/shown/{name}", json=shown, trust_env=False).raise_for_status()
    visitor.close()


class ReadsTheSchema(Visitor):
    """Takes frames of chat.v1 alone, but for those of tomorrow."""

    frames = Draft202012Validator({**make_schema(), "oneOf": [{"$ref": "#/$defs/ServerFrame"}]})

    def receive(self, socket: ClientConnection) -> Frame:
        frame = super().receive(socket)
        if frame["type"] != "mood" and "of" not in frame:
            self.frames.validate(frame)
        return frame


@pytest.mark.parametrize("name", BY_NAME)
def test_the_visitor_passes(name: str) -> None:
    with judging(BY_NAME[name]) as (verdicts, address):
        play(ReadsTheSchema, address, name)
        assert verdicts.finished.wait(WITHIN_S)
        assert [(result.problems, verdicts.of(result)) for result in verdicts.results.values()] == [([], "ok")] * 2


@pytest.mark.parametrize("door", Door)
def test_every_door_is_open(door: Door) -> None:
    with judging(BY_NAME["an expired token"]) as (verdicts, address):
        play(Visitor, address, "an expired token", door)
        assert verdicts.finished.wait(WITHIN_S)
        assert {verdicts.of(result) for result in verdicts.results.values()} == {"ok"}


class AsksAgain(Visitor):
    """Asks again under its id, which is as good as to resume."""

    def again(self) -> Frame:
        return self.question


class BeginsAgain(Visitor):
    """Has the whole answer sent once more."""

    def again(self) -> Frame:
        self.shown = self.fresh()
        return super().again()


class ResumesEarly(Visitor):
    """Notes its place late, and shows what comes twice once."""

    def again(self) -> Frame:
        return {**super().again(), "after": self.shown.seq - 1}


class StopsLate(Visitor):
    """Stops an answer that has ended meanwhile."""

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        super().follow(socket, stop=stop)
        self.send(socket, {"type": "stop", "id": self.question["id"]})


@pytest.mark.parametrize("kind", [AsksAgain, BeginsAgain, ResumesEarly, StopsLate])
@pytest.mark.parametrize("name", ["a restart", "an answer made anew", "an answer that is lost"])
def test_there_is_more_than_one_right_way(kind: type[Visitor], name: str) -> None:
    with judging(BY_NAME[name]) as (verdicts, address):
        play(kind, address, name)
        assert verdicts.finished.wait(WITHIN_S)
        assert verdicts.results[name].problems == []


class StopsAtOnce(Visitor):
    """Sends its stop right behind its question."""

    patience_s = 2.0

    def send(self, socket: ClientConnection, frame: Frame) -> None:
        super().send(socket, frame)
        if frame["type"] == "ask":
            super().send(socket, {"type": "stop", "id": frame["id"]})

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        super().follow(socket, stop=False)


def test_a_stop_may_come_right_behind_its_question() -> None:
    with judging(BY_NAME["a stop"]) as (verdicts, address):
        play(StopsAtOnce, address, "a stop")
        assert verdicts.finished.wait(WITHIN_S)
        assert {verdicts.of(result) for result in verdicts.results.values()} == {"ok"}


class OneId(Visitor):
    """Asks everything under the same id, which is fine for one question in each conversation."""

    patience_s = 5.0

    def first(self) -> Frame:
        self.question["id"] = "1"
        return super().first()


def test_an_id_is_new_in_each_conversation() -> None:
    names = "an answer", "many small pieces", "a long silence", "too many questions"
    with judging(*(BY_NAME[name] for name in names)) as (verdicts, address):
        for name in ("an answer", "many small pieces", "many small pieces", "an answer", "an answer", *names[2:]):
            play(OneId, address, name)
        assert verdicts.finished.wait(WITHIN_S)
        assert {name: result.problems for name, result in verdicts.results.items() if result.problems} == {}


def test_an_id_is_new_in_another_conversation_though_a_lost_answer_has_it() -> None:
    with judging(BY_NAME["a cut connection"], BY_NAME["an answer"]) as (verdicts, address):
        lost = OneId(f"ws://{address}/api/chat/ws", lambda: tokens(address))
        lost.max_attempts = 1
        with suppress(TimeoutError):
            lost.ask("a cut connection")
        play(OneId, address, "an answer")
        assert verdicts.finished.wait(WITHIN_S)
        problems = [result.problems for result in verdicts.results.values()]
        assert problems == [[], ["it asked something else instead"], []]


def test_an_id_is_for_one_question_in_a_conversation() -> None:
    with judging(BY_NAME["an answer"]) as (verdicts, address):
        visitor = OneId(f"ws://{address}/api/chat/ws", lambda: tokens(address))
        visitor.ask("What is there?")
        assert visitor.ask("an answer").error == "bad_frame"
        visitor.close()
        assert verdicts.results["an answer"].problems == ["the id of its question is that of 'What is there?'"]


# --- clients that do what they should not -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name", "problem"), WRONG)
def test_a_wrong_client_is_found_out(kind: type[Visitor], name: str, problem: str) -> None:
    with judging(BY_NAME[name]) as (verdicts, address):
        with suppress(ConnectionClosed, TimeoutError):
            play(kind, address, name)
        until(lambda: problem in str([result.problems for result in verdicts.results.values()]))
        assert "FAIL" in {verdicts.of(result) for result in verdicts.results.values()}


def test_an_early_try_is_found_out_in_another_conversation_too() -> None:
    with judging(BY_NAME["too many questions"]) as (verdicts, address):
        for _ in range(2):
            play(OneId, address, "too many questions")
        assert "s too early" in str(verdicts.results["too many questions"].problems)


# --- at the door -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocols", "headers", "first", "problem"),
    [
        ([], {}, None, "it did not offer the subprotocol chat.v1"),
        (["chat.v1", "bearer.a"], {"Authorization": "Bearer b"}, None, "two different tokens"),
        (["chat.v1"], {}, {"type": "ping"}, "its first frame was not auth but ping"),
        (["chat.v1"], {}, {"type": "auth"}, "no frame of the schema"),
        (["chat.v1"], {}, None, "no auth frame within 5 s"),
    ],
)
def test_who_is_wrong_at_the_door_is_told_so(
    protocols: list[str], headers: dict[str, str], first: Frame | None, problem: str
) -> None:
    with judging(BY_NAME["an answer"]) as (verdicts, address):
        offered = [Subprotocol(protocol) for protocol in protocols] or None
        url = f"ws://{address}/api/chat/ws"
        with connect(url, subprotocols=offered, additional_headers=headers, proxy=None) as socket:
            if first:
                socket.send(json.dumps(first))
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=WITHIN_S)
        assert problem in str(verdicts.connection.problems)


def test_pings_and_renewals_are_answered_and_bad_frames_survived() -> None:
    with judging(BY_NAME["an answer"]) as (verdicts, address):
        visitor = Visitor(f"ws://{address}/api/chat/ws", lambda: tokens(address), Door.HEADER)
        socket = visitor.connect()
        for frame, answer in (
            ({"type": "ping"}, "pong"),
            ({"type": "auth", "token": tokens(address)}, "ready"),
            ({"type": "resume", "id": "yesterday's", "conversation_id": str(uuid4()), "after": 3}, "cannot_resume"),
            ({"type": "stop", "id": "nobody's"}, None),
            ({"type": "ask", "id": "1", "text": "hi", "conversation_id": "mine"}, "bad_frame"),
        ):
            visitor.send(socket, frame)
            if answer:
                received = visitor.receive(socket)
                assert received.get("code", received["type"]) == answer
        visitor.close()
        stop, ask = verdicts.connection.problems
        assert (stop, ask[:38]) == (
            'it stopped "nobody\'s", which it never asked',
            "it sent what is no frame of the schema",
        )


def test_a_token_has_just_been_issued() -> None:
    with judging(BY_NAME["an answer"]) as (_, address):
        payload = tokens(address).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["iat"] == pytest.approx(time.time(), abs=WITHIN_S)
    assert claims["exp"] - claims["iat"] == TOKEN_LIFETIME_S


def test_what_is_shown_has_a_scenario_and_a_text() -> None:
    with judging(BY_NAME["an answer"]) as (verdicts, address):
        for path, shows, status in (("0", {"text": ""}, 404), ("1", {}, 422), ("1", {"text": "From ten."}, 200)):
            assert httpx2.post(f"http://{address}/shown/{path}", json=shows, trust_env=False).status_code == status
        assert verdicts.results["an answer"].problems == ["it shows text 'From ten.' for 'From nine [1].'"]


# --- the command -------------------------------------------------------------------------------------------------------


def test_a_number_asks_for_its_scenario_and_other_words_for_the_list() -> None:
    with judging(BY_NAME["an answer"], wants_shown=False) as (verdicts, address):
        visitor = Visitor(f"ws://{address}/api/chat/ws", lambda: tokens(address))
        assert visitor.ask("What is there?").text == "1. an answer"
        assert visitor.ask("1").text == "From nine [1]."
        visitor.close()
        assert verdicts.finished.wait(WITHIN_S)


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program, and its address without a scheme."""
    words = [sys.executable, "-m", "tests.conformance", "--serve", *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        address = program.stdout.readline().partition("ws://")[2].partition("/")[0]
        yield program, address


def test_the_program_ends_well_once_all_is_played() -> None:
    with command("--only", "an answer", "a cut connection", "--limit", "60") as (program, address):
        visitor = Visitor(f"ws://{address}/api/chat/ws", lambda: tokens(address))
        visitor.ask("a cut connection")
        visitor.ask("an answer")
        listed = httpx2.get(f"http://{address}/", trust_env=False).json()
        said, _ = program.communicate(timeout=60)
        visitor.close()
    assert [one["name"] for one in listed] == ["the connection", "an answer", "a cut connection"]
    assert (listed[0]["verdict"], listed[1]["verdict"]) == ("ok", "waiting")
    assert program.returncode == 0
    assert "it should show 'From nine [1].' and cite [1]" in said
    assert said.splitlines()[-1] == "3 of 3 scenarios passed"


def test_the_program_fails_for_what_was_not_played_in_time() -> None:
    with command("--only", "an answer", "--limit", "1") as (program, _):
        said, _ = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "FAIL   not played, or not told what it shows: an answer" in said
