"""The frames that chat.v1's clients send, and what is wrong with those that are none."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import from_json

from chat_api.core.refusals import RequestError
from chat_api.core.storable import is_storable

SUBPROTOCOL = "chat.v1"
MAX_FRAME_BYTES = 32 * 1024
MAX_QUESTION_CHARS = 4_000
MAX_ID_CHARS = 64
MAX_URL_CHARS = 2_000


def _require_storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("it has a NUL or half a character in it")
    return text


def _cut(text: str) -> str:
    return text[:MAX_URL_CHARS]


Frame = dict[str, Any]
Storable = AfterValidator(_require_storable)
FrameId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS), Storable]


class BadFrame(RequestError):
    """The frame is not one of chat.v1's."""

    code = "bad_frame"

    def __init__(self, message: str | None = None, ask_id: str | None = None) -> None:
        """`ask_id`: the question that the frame was about, where that can be told."""
        super().__init__(message)
        self.ask_id = ask_id


class TooLong(BadFrame):
    """The question is too long: 4,000 characters are allowed."""

    code = "too_long"


class Busy(RequestError):
    """An answer is on its way; stop it or wait for its end."""

    code = "busy"


class CannotResume(RequestError):
    """There is nothing to resume; ask again with the same id."""

    code = "cannot_resume"


class _ClientFrame(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class Auth(_ClientFrame):
    """Brings a token: first, or to renew it."""

    type: Literal["auth"]
    token: str


class Ask(_ClientFrame):
    """A question. Sent again with the same id it gets the same answer."""

    type: Literal["ask"]
    id: FrameId
    text: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARS), Storable
    ]
    conversation_id: Annotated[UUID | None, Field(strict=False)] = None
    page_url: Annotated[str, AfterValidator(_cut), Storable] | None = None


class Stop(_ClientFrame):
    """Ends the answer."""

    type: Literal["stop"]
    id: FrameId


class Resume(_ClientFrame):
    """Asks for the frames after `after`."""

    type: Literal["resume"]
    id: FrameId
    conversation_id: Annotated[UUID, Field(strict=False)]
    after: int = Field(ge=0)


class Feedback(_ClientFrame):
    """What the visitor thinks of an answer."""

    type: Literal["feedback"]
    message_id: Annotated[UUID, Field(strict=False)]
    value: Literal["up", "down"]
    comment: Annotated[str, StringConstraints(max_length=2_000), Storable] | None = None


class Ping(_ClientFrame):
    """Asks for a sign of life."""

    type: Literal["ping"]


ClientFrame = Auth | Ask | Stop | Resume | Feedback | Ping
_client_frame: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])


def parse_frame(raw: str) -> ClientFrame:
    """The frame in `raw`. Raises TooLong for a long question, BadFrame for anything else that is not one."""
    try:
        return _client_frame.validate_json(raw)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if problem["type"] == "string_too_long" and problem["loc"] == ("ask", "text"):
        raise TooLong(ask_id=_id_in(raw))
    where = ".".join(str(part) for part in problem["loc"])
    raise BadFrame(f"{where}: {problem['msg']}" if where else problem["msg"], _id_in(raw))


def _id_in(raw: str) -> str | None:
    """The id in a bad frame, so that its sender knows which one it was."""
    try:
        parsed = from_json(raw)
    except ValueError:
        return None
    found = parsed.get("id") if isinstance(parsed, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= MAX_ID_CHARS else None
