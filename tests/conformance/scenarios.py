"""What a client of chat.v1 is put through: scripts, and what it shows at their end. A scenario's name is its question."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.conformance.client import VECTORS
from tests.conformance.scripted import Close, Delta, Done, Error, Frame, Pause, Raw, Sources, Step, UntilStop

RETRY_AFTER_S = 2.0
SILENCE_S = 3.0


@dataclass(frozen=True)
class Scenario:
    """`plays`: the first answers the question, each other one a client that has come back."""

    name: str
    owes: str
    plays: tuple[Sequence[Step], ...]
    shows: Frame
    """Fields of client.Shown; none where a client may choose what it shows."""
    refusals: tuple[int, ...] = ()
    """The codes with which those who come back are closed before they are let in."""
    resumable: bool = True


CONNECTION = Scenario(
    "the connection", "offers chat.v1, brings one token in time, and sends frames of the schema alone", (), {}
)
_FROM, _NINE, _DONE = Delta("From "), Delta("nine."), Done()
_SHOWS: Frame = {"text": "From nine.", "citations": [], "finish_reason": "stop", "error": None}
_NONE = Sources([])
_PIECES = [*(Delta(f"{number} ") for number in range(1, 1_000)), Delta("thousand.")]
_RETRY = Error("rate_limited", {"retry_after": RETRY_AFTER_S})

SCENARIOS = (
    *(
        Scenario(
            vector["name"],
            "shows what vectors.json says",
            ([Raw(frame) for frame in vector["frames"]],),
            {key: value for key, value in vector["shows"].items() if key != "sources"},
        )
        for vector in VECTORS
        if vector["frames"][-1]["type"] in {"done", "error"}
    ),
    Scenario(
        "many small pieces",
        "takes a thousand deltas at once",
        ([_NONE, *_PIECES, _DONE],),
        {**_SHOWS, "text": "".join(piece.text for piece in _PIECES)},
    ),
    Scenario(
        "a long silence",
        "waits: neither asks again nor hangs up",
        ([Pause(SILENCE_S), _NONE, _FROM, _NINE, _DONE],),
        _SHOWS,
    ),
    Scenario(
        "a cut connection",
        "comes back and resumes after the last seq it has",
        ([_NONE, _FROM, Close()], [_NINE, _DONE]),
        _SHOWS,
    ),
    Scenario(
        "a cut before the first word",
        "comes back and resumes, or asks again under the same id",
        ([Close()], [_NONE, _FROM, _NINE, _DONE]),
        _SHOWS,
    ),
    Scenario(
        "a restart",
        "comes back after a moment whenever it is closed with 1012, and resumes",
        ([_NONE, _FROM, Close(1012)], [Delta("nine "), Close(1012)], [Delta("to five."), _DONE]),
        {**_SHOWS, "text": "From nine to five."},
    ),
    Scenario(
        "an answer made anew",
        "forgets what it has when the resumed answer begins again",
        ([_NONE, Delta("Lost words"), Close(1012)], [_NONE, _FROM, _NINE, Error("provider_unavailable")]),
        {**_SHOWS, "finish_reason": None, "error": "provider_unavailable"},
    ),
    Scenario(
        "an answer that is lost",
        "asks again under the same id when it cannot resume",
        ([_NONE, Delta("Lost words"), Close()], [_NONE, _FROM, _NINE, _DONE]),
        _SHOWS,
        resumable=False,
    ),
    Scenario(
        "an overloaded server",
        "tries again after a moment when it is closed with 1013 at the door",
        ([_NONE, _FROM, Close(1012)], [_NINE, _DONE]),
        _SHOWS,
        refusals=(1013,),
    ),
    Scenario(
        "an expired token",
        "comes back with another token after 4401, and resumes",
        ([_NONE, _FROM, Close(4401)], [_NINE, _DONE]),
        _SHOWS,
    ),
    Scenario(
        "too many questions",
        f"does not ask again for the {RETRY_AFTER_S:.0f} s of retry_after",
        ([_RETRY], [_NONE, _FROM, _NINE, _DONE]),
        {},
    ),
    Scenario(
        "a stop",
        "sends stop when its visitor stops the answer",
        ([_NONE, Delta("It is a long"), UntilStop(), Done(finish_reason="stopped")],),
        {**_SHOWS, "text": "It is a long", "finish_reason": "stopped"},
    ),
)
