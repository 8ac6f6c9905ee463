"""The frames of chat.v1: what clients may send, and what they are sent."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from chat_api.core.errors import RequestError

SUBPROTOCOL = "chat.v1"
MAX_FRAME_BYTES = 32 * 1024
MAX_QUESTION_CHARS = 4_000

Frame = dict[str, Any]
FrameId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class BadFrame(RequestError):
    """The frame is not one of chat.v1's."""

    code = "bad_frame"


class TooLong(RequestError):
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
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARS)]
    conversation_id: Annotated[UUID | None, Field(strict=False)] = None
    page_url: Annotated[str | None, StringConstraints(max_length=2_000)] = None


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
    comment: Annotated[str | None, StringConstraints(max_length=2_000)] = None


class Ping(_ClientFrame):
    """Asks for a sign of life."""

    type: Literal["ping"]


ClientFrame = Auth | Ask | Stop | Resume | Feedback | Ping
_client_frame: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])


def parse_frame(text: str) -> ClientFrame:
    """The frame in `text`. Raises TooLong for a long question, BadFrame for anything else that is not one."""
    try:
        return _client_frame.validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        if problem["type"] == "string_too_long" and problem["loc"][-1:] == ("text",):
            raise TooLong from None
        where = ".".join(str(part) for part in problem["loc"])
        raise BadFrame(f"{where}: {problem['msg']}" if where else problem["msg"]) from None


def error_frame(code: str, message: str, ask_id: str | None = None, retry_after: float | None = None) -> Frame:
    """An `error` frame; `id` and `retry_after` (seconds) only where there are any."""
    frame: Frame = {"type": "error", "code": code, "message": message}
    if ask_id is not None:
        frame["id"] = ask_id
    if retry_after is not None:
        frame["retry_after"] = round(retry_after, 1)
    return frame
