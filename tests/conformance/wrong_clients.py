"""Clients that do what they should not, each in one way, and what the judge has to say of it."""

from uuid import uuid4

from websockets.sync.client import ClientConnection

from tests.conformance.client import Shown
from tests.conformance.scripted import Frame, unsigned_token
from tests.conformance.visitor import Visitor


class AsksAnew(Visitor):
    """Asks once more where it should resume, which is paid twice."""

    patience_s = 1.0

    def again(self) -> Frame:
        return {**self.question, "id": f"question-{uuid4()}"}


class AsksElsewhere(Visitor):
    """Asks again under its id, in another conversation."""

    def again(self) -> Frame:
        return {**self.question, "conversation_id": str(uuid4())}


class SkipsAFrame(Visitor):
    """Resumes after a frame that it never had."""

    def again(self) -> Frame:
        return {**super().again(), "after": self.shown.seq + 1}


class ResumesElsewhere(Visitor):
    """Resumes in a conversation that it made up."""

    def again(self) -> Frame:
        return {**super().again(), "conversation_id": str(uuid4())}


class AsksTwice(Visitor):
    """Sends its question twice on one connection."""

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        self.send(socket, self.question)
        super().follow(socket, stop=stop)


class TypesAloud(Visitor):
    """Sends a frame that is none."""

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        self.send(socket, {"type": "typing"})
        super().follow(socket, stop=stop)


class NumbersQuestions(Visitor):
    """Asks under an id that is no string."""

    patience_s = 1.0

    def first(self) -> Frame:
        return {**super().first(), "id": 1}


class NeedsNoPause(Visitor):
    """Comes back at once."""

    def connect(self) -> ClientConnection:
        self.get_token = lambda: unsigned_token(0)
        return super().connect()

    def pause(self, attempt: int) -> None:
        pass


class KeepsItsToken(Visitor):
    """Has one token for ever."""

    max_attempts = 2

    def connect(self) -> ClientConnection:
        self.get_token = lambda: unsigned_token(0)
        return super().connect()


class Unnumbered(Shown):
    """Shows each delta, seen or not."""

    def take(self, frame: Frame) -> None:
        if frame["type"] == "delta":
            self.seq = 0
        super().take(frame)


class ShowsTwice(Visitor):
    """Shows what comes twice twice."""

    def fresh(self) -> Shown:
        return Unnumbered()


class Grown(Shown):
    """Shows whatever it was sent."""

    def take(self, frame: Frame) -> None:
        text = self.text
        super().take(frame)
        self.text = text + self.text if frame["type"] == "sources" else self.text


class KeepsLostWords(Visitor):
    """Goes on where the answer begins again."""

    def fresh(self) -> Shown:
        return Grown()


class Undone(Shown):
    """Shows the deltas for the answer."""

    def take(self, frame: Frame) -> None:
        super().take({**frame, "text": self.text} if frame["type"] == "done" else frame)


class ShowsTheDeltas(Visitor):
    """Goes by the deltas and not by the whole text."""

    def fresh(self) -> Shown:
        return Undone()


class HangsUp(Visitor):
    """Does not wait for the answer."""

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        self.shown.error = "impatient"


class TriesAtOnce(Visitor):
    """Asks again as soon as it is told to wait."""

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        super().follow(socket, stop=stop)
        self.send(socket, {**self.question, "id": f"question-{uuid4()}"})
        self.receive(socket)


class StopsAnother(Visitor):
    """Stops the question before, and leaves when that does not help."""

    patience_s = 1.0

    def connect(self) -> ClientConnection:
        socket = super().connect()
        self.send(socket, {"type": "ask", "id": "before", "text": "What is there?"})
        while self.receive(socket)["type"] != "done":
            pass
        return socket

    def send(self, socket: ClientConnection, frame: Frame) -> None:
        super().send(socket, {**frame, "id": "before"} if frame["type"] == "stop" else frame)

    def receive(self, socket: ClientConnection) -> Frame:
        try:
            return super().receive(socket)
        except TimeoutError:
            self.close()
            raise


class GivesUp(Visitor):
    """Takes what cannot be resumed for the end."""

    def follow(self, socket: ClientConnection, *, stop: bool) -> None:
        while not self.shown.error:
            self.shown.take(self.receive(socket))


WRONG: list[tuple[type[Visitor], str, str]] = [
    (AsksAnew, "a cut connection", "it asked again under another id"),
    (AsksElsewhere, "a cut connection", "it asked again in another conversation"),
    (SkipsAFrame, "a cut connection", "it resumed after 3, and the last seq it was sent is 2"),
    (ResumesElsewhere, "a restart", "it resumed in another conversation"),
    (AsksTwice, "a long silence", "it asked again while the answer was on its way"),
    (TypesAloud, "a cut connection", "it sent what is no frame of the schema"),
    (NumbersQuestions, "a cut connection", "it sent what is no frame of the schema"),
    (NeedsNoPause, "a restart", "after it was asked for patience"),
    (KeepsItsToken, "an expired token", "it brought the token that was refused with 4401 again"),
    (ShowsTwice, "an error after frames that came twice", "it shows text 'From From nini' for 'From ni'"),
    (KeepsLostWords, "an answer made anew", "it shows text 'Lost wordsFrom nine.' for 'From nine.'"),
    (ShowsTheDeltas, "the last frame has the whole text", "it shows text 'From' for 'From nine to five.'"),
    (HangsUp, "a long silence", "it hung up in the middle of its answer"),
    (TriesAtOnce, "too many questions", "s too early"),
    (StopsAnother, "a stop", "it hung up in the middle of its answer"),
    (GivesUp, "an answer that is lost", "it shows error 'cannot_resume' for None"),
]
"""The client, a scenario, and part of the problem."""
