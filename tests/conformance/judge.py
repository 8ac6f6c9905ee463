"""Plays the scenarios to a client of chat.v1, and judges what it sends."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import WebSocket, WebSocketDisconnect

from chat_api.chat.client_frames import SUBPROTOCOL
from tests.conformance.door import Refused, read_frame, token_of
from tests.conformance.scenarios import Scenario
from tests.conformance.scripted import HOLD_S, Delta, Done, Error, Frame, ScriptedChat, Sources, Step
from tests.conformance.verdicts import Result, Verdicts

WITHIN_S = 120.0
"""For a whole scenario."""
MOMENT_S = 0.1
"""The least time between a close that asks for patience and the next connection."""
PATIENCE_CODES = {1012, 1013}
RETRIES_WITHIN_S = 10.0
SETTLE_S = 0.5
"""After an answer's last frame, for what a client should not send."""


@dataclass
class Run:
    """A question under way. `lost`: when and with which code its connection ended, until its client is back for it."""

    result: Result
    asked: Frame
    plays: deque[Sequence[Step]]
    refusals: deque[int]
    began: float = field(default_factory=time.monotonic)
    socket: WebSocket | None = None
    lost: tuple[float, int | None] | None = None
    over: bool = False
    not_before: float = 0.0

    @property
    def question(self) -> str:
        """What was asked."""
        return str(self.asked["text"]).strip()

    def blame(self, problem: str) -> None:
        """Notes what its client did wrong."""
        self.result.problems.append(problem)


Taken = tuple[Run, int] | str
"""The run that goes on, and after which seq; or the code of an error."""


class Judge(ScriptedChat):
    """The server that a client under check is pointed at."""

    def __init__(self, verdicts: Verdicts) -> None:
        super().__init__()
        self.verdicts = verdicts
        names = [result.scenario.name for result in verdicts.results.values() if result.scenario.plays]
        self.bot = {"name": "chat.v1", "welcome_message": "Ask for a scenario.", "sample_questions": names}
        self.bot["disclaimer"] = "It judges what the client sends."
        self._runs: dict[str, Run] = {}
        self._latest: Run | None = None
        self._refused_tokens: set[str] = set()

    def _blame(self, problem: str) -> None:
        """Notes a problem with the question under way, else with the connection."""
        if self._latest and self._latest.result.seconds is None:
            self._latest.blame(problem)
            return
        self.verdicts.connection.problems.append(problem)
        self.verdicts.tell(self.verdicts.connection)

    def _finish(self, run: Run, problem: str | None = None) -> None:
        run.over = True
        if problem:
            run.blame(problem)
        run.result.seconds = time.monotonic() - run.began
        self.verdicts.tell(run.result)

    # --- the connection ------------------------------------------------------------------------------------------------

    async def admit(self, socket: WebSocket) -> bool:
        """Judges when the client comes and what it brings; turns it away when the scenario says so."""
        run = self._latest
        since = time.monotonic() - run.lost[0] if run and run.lost and run.lost[1] in PATIENCE_CODES else MOMENT_S
        if since < MOMENT_S:
            self._blame(f"it came back {since:.2f} s after it was asked for patience")
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        try:
            socket.state.token = await self._good_token(socket)
        except Refused as refused:
            self._blame(str(refused))
            await socket.close(refused.code)
            return False
        if run and run.lost and run.refusals:
            code = run.refusals.popleft()
            run.lost = (time.monotonic(), code)
            await socket.close(code)
            return False
        await self.greet(socket)
        if self.verdicts.connection.seconds is None:
            self.verdicts.connection.seconds = 0.0
            self.verdicts.tell(self.verdicts.connection)
        return True

    async def _good_token(self, socket: WebSocket) -> str:
        token = await token_of(socket)
        if token in self._refused_tokens:
            raise Refused(4401, "it brought the token that was refused with 4401 again")
        return token

    async def receive(self, socket: WebSocket) -> Frame | None:
        """The next frame that asks, resumes, stops or rates. Pings and renewals are answered; others are a problem."""
        while True:
            try:
                frame = read_frame(await socket.receive())
            except WebSocketDisconnect:
                self._left(socket)
                return None
            if isinstance(frame, str):
                self._blame(frame)
                await socket.send_json({"type": "error", "code": "bad_frame", "message": frame})
            elif frame["type"] == "ping":
                await socket.send_json({"type": "pong"})
            elif frame["type"] == "auth":
                socket.state.token = frame["token"]
                await self.greet(socket)
            elif frame["type"] != "stop" or self._ends_an_answer(frame["id"]):
                return frame

    def _ends_an_answer(self, stopped: str) -> bool:
        """Whether the question is under way. To stop one that is over may be late, and is no problem."""
        run = self._runs.get(stopped)
        if run is None:
            self._blame(f"it stopped {stopped!r}, which it never asked")
        return run is not None and not run.over

    def _left(self, socket: WebSocket) -> None:
        run = self._latest
        if run and run.socket is socket and not run.over and run.lost is None:
            self._finish(run, "it hung up in the middle of its answer")

    async def end(self, socket: WebSocket, turn: str, code: int | None) -> None:
        """Notes that the connection was lost, and ends it."""
        self._runs[turn].lost = (time.monotonic(), code)
        if code == 4401:
            self._refused_tokens.add(socket.state.token)
        await super().end(socket, turn, code)

    # --- questions -----------------------------------------------------------------------------------------------------

    async def answer(self, socket: WebSocket, frame: Frame, stopped: asyncio.Event) -> None:
        """Judges the frame, replays what was sent already, and plays on."""
        turn = frame["id"]
        frame["conversation_id"] = frame.get("conversation_id") or socket.state.conversation_id
        taken = self._take_ask(frame) if frame["type"] == "ask" else self._take_resume(frame)
        if isinstance(taken, str):
            await socket.send_json({"type": "error", "id": turn, "code": taken, "message": "See the judge's verdict."})
            return
        run, after = taken
        for missed in self.sent.get(turn, [])[after:]:
            await socket.send_json(missed)
        if run.over:
            return
        run.lost, run.socket = None, socket
        steps = run.plays.popleft()
        try:
            await self.play(socket, turn, steps, stopped)
        except TimeoutError:
            self._finish(run, f"no stop came within {HOLD_S} s")
            return
        if run.lost is None:
            self._settle(run, steps[-1])

    def _settle(self, run: Run, last: Step) -> None:
        wait = last.more.get("retry_after", 0.0) if isinstance(last, Error) else 0.0
        run.over, run.not_before = True, time.monotonic() + wait
        asyncio.get_running_loop().call_later(wait + SETTLE_S, self._finish, run)

    def _begin(self, frame: Frame, result: Result) -> tuple[Run, int]:
        result.clear()
        self.sent.pop(frame["id"], None)
        run = Run(result, frame, deque(result.scenario.plays), deque(result.scenario.refusals))
        self._runs[frame["id"]] = self._latest = run
        asyncio.get_running_loop().call_later(WITHIN_S, self._expire, run)
        return run, 0

    def _expire(self, run: Run) -> None:
        if not run.over:
            self._finish(run, f"it did not come to its end within {WITHIN_S:.0f} s")

    def _found(self, question: str) -> Result:
        """The scenario that is asked for; of any other question, one that tells which there are."""
        listed = "\n".join(f"{number}. {name}" for number, name in enumerate(self.verdicts.results) if number)
        unjudged = Scenario("", "", ([Sources([]), Delta(listed), Done()],), {})
        return self.verdicts.find(question) or Result(unjudged)

    def _take_ask(self, frame: Frame) -> Taken:
        question, run, known = frame["text"].strip(), self._latest, self._known(frame)
        if known and known.question != question:
            return self._mistaken(frame, known)
        if run and run.over and run.plays and run.question == question:
            return self._retried(run, frame)
        if known:
            return self._asked_again(known, frame)
        if run and not run.over:
            if run.lost is None:
                return "busy"
            again = run.question == question
            self._finish(run, "it asked again under another id" if again else "it asked something else instead")
            if again:
                return "internal"
        return self._begin(frame, self._found(question))

    def _known(self, frame: Frame) -> Run | None:
        """The run of this id. In another conversation the id is new, unless the run still waits and its question is asked again."""
        run = self._runs.get(frame["id"])
        if run is None or frame["conversation_id"] == run.asked["conversation_id"]:
            return run
        return None if run.over or run.question != frame["text"].strip() else run

    def _mistaken(self, frame: Frame, known: Run) -> Taken:
        result = self._found(frame["text"].strip())
        result.problems.append(f"the id of its question is that of {known.question!r}")
        self.verdicts.tell(result)
        return "bad_frame"

    def _asked_again(self, run: Run, frame: Frame) -> Taken:
        if run.lost is None and not run.over:
            run.blame("it asked again while the answer was on its way")
            return "busy"
        if frame["conversation_id"] != run.asked["conversation_id"]:
            run.blame("it asked again in another conversation")
        return run, 0

    def _retried(self, run: Run, frame: Frame) -> Taken:
        """Another try after an error that said when; much later it is the scenario once more."""
        now = time.monotonic()
        if now > run.not_before + RETRIES_WITHIN_S:
            return self._begin(frame, run.result)
        if now < run.not_before:
            run.blame(f"it asked again {run.not_before - now:.1f} s too early")
        return self._begin(frame, Result(Scenario("", "", (run.plays.popleft(),), {})))

    def _take_resume(self, frame: Frame) -> Taken:
        run, after = self._runs.get(frame["id"]), frame["after"]
        if run is None or run.over:
            return (run, after) if run else "cannot_resume"
        if run.lost is None:
            run.blame("it resumed while the answer was on its way")
            return "busy"
        if frame["conversation_id"] != run.asked["conversation_id"]:
            run.blame("it resumed in another conversation")
        last = len(self.sent.get(frame["id"], []))
        if after > last:
            run.blame(f"it resumed after {after}, and the last seq it was sent is {last}")
        if not run.result.scenario.resumable:
            self.sent.pop(frame["id"], None)
            return "cannot_resume"
        return run, after
