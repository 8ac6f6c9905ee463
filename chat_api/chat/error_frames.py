"""Errors as `error` frames, in the words that a visitor may read."""

from chat_api.chat.client_frames import BadFrame, Frame
from chat_api.core.errors import (
    EmbeddingRejected,
    EmbeddingUnavailable,
    ProviderRejected,
    ProviderUnavailable,
    QuotaExceeded,
    ServiceError,
)
from chat_api.core.refusals import RequestError, UnknownResource


def error_frame(code: str, message: str, ask_id: str | None = None, retry_after: float | None = None) -> Frame:
    """An `error` frame; `id` and `retry_after` (seconds) only where there are any."""
    frame: Frame = {"type": "error", "code": code, "message": message}
    if ask_id is not None:
        frame["id"] = ask_id
    if retry_after is not None:
        frame["retry_after"] = round(retry_after, 1)
    return frame


def error_of(error: ServiceError, ask_id: str | None = None) -> Frame:
    """The error's frame, as a visitor may read it."""
    shown = BadFrame(error.message) if isinstance(error, UnknownResource) else for_visitors(error)
    return error_frame(shown.code, shown.message, ask_id, error.retry_after)


def for_visitors(error: ServiceError) -> ServiceError:
    """The error as a visitor may read it: what is wrong inside stays in the log."""
    match error:
        case RequestError() | ProviderUnavailable() | ProviderRejected():
            return error
        case EmbeddingUnavailable():
            return ProviderUnavailable()
        case EmbeddingRejected() | QuotaExceeded():
            return ProviderRejected()
    return ServiceError()
