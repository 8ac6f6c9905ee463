"""What is wrong with a request, as whoever made it is told: a branch of the tree of errors."""

from chat_api.core.errors import ServiceError


class RequestError(ServiceError):
    """The request can't be carried out as it is."""

    code = "bad_request"
    retryable = False


class Unauthenticated(RequestError):
    """A valid token is needed."""

    code = "unauthenticated"


class MissingScope(RequestError):
    """The token does not allow this."""

    code = "missing_scope"


class ForbiddenBot(RequestError):
    """The token is for another bot."""

    code = "forbidden_bot"


class ForbiddenOrigin(RequestError):
    """This website may not use this bot. Add its address to the bot's allowed origins."""

    code = "forbidden_origin"


class UnknownResource(RequestError):
    """There is nothing with this id."""

    code = "unknown"


class UnknownSource(UnknownResource):
    """There is no source with this id."""

    code = "unknown_source"


class UnknownBot(UnknownResource):
    """There is no bot with this id."""

    code = "unknown_bot"


class UnknownJob(UnknownResource):
    """There is no job with this id."""

    code = "unknown_job"


class UnknownConversation(UnknownResource):
    """There is no conversation with this id."""

    code = "unknown_conversation"


class InvalidRequest(RequestError):
    """The request's body or parameters are not valid."""

    code = "invalid_request"


class Conflict(RequestError):
    """The request does not fit how things stand now."""

    code = "conflict"


class TooManyRequests(RequestError):
    """There are too many requests at once. Try again in a moment."""

    code = "too_many_requests"
