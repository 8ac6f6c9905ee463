"""The tree of errors: each class has a stable code, a default sentence (its docstring) and says if a retry can help.

The branch of what is wrong with a request is in refusals.py.
"""

from typing import ClassVar


class ServiceError(Exception):
    """Something went wrong on our side. Try again in a moment."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = True
    http_status: int | None = None
    """What a website answered, where that is the trouble."""

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.retry_after = retry_after
        super().__init__(self.message)


class LocalModelMissing(ServiceError):
    """EMBEDDING_PROVIDER=local needs two packages that are not installed: pip install onnxruntime tokenizers"""

    code = "local_model_missing"
    retryable = False


class Held(ServiceError):
    """Other work holds this for a moment, and nothing was changed. Do the same again in a few seconds."""

    code = "held"


class DependencyError(ServiceError):
    """A service we depend on does not answer. Nothing is lost; try again in a moment."""

    code = "unavailable"


class DatabaseUnavailable(DependencyError):
    """The database does not answer. Nothing is lost; try again in a moment."""

    code = "database_unavailable"


class StorageUnavailable(DependencyError):
    """The file storage does not answer. Training goes on by itself when it does."""

    code = "storage_unavailable"


class EmbeddingUnavailable(DependencyError):
    """The embedding provider does not answer. Training goes on by itself when it does."""

    code = "embedding_unavailable"


class EmbeddingThrottled(EmbeddingUnavailable):
    """The embedding provider asks us to slow down. Training goes on by itself in a moment."""

    code = "embedding_throttled"


class ProviderUnavailable(DependencyError):
    """The language model does not answer right now. Please ask again in a moment."""

    code = "provider_unavailable"


class ProviderRejected(ServiceError):
    """The language model refused this question."""

    code = "provider_rejected"
    retryable = False


class TrainingError(ServiceError):
    """The source could not be trained."""

    code = "training_failed"
    retryable = False


class SourceDeleted(TrainingError):
    """The source was deleted while it was in training."""

    code = "source_deleted"


class Cancelled(TrainingError):
    """The training was cancelled."""

    code = "cancelled"


class InvalidUrl(TrainingError):
    """The address is not a valid http or https URL. Correct it and train again."""

    code = "invalid_url"


class BlockedAddress(TrainingError):
    """The address leads to a private or reserved network and is never fetched."""

    code = "blocked_address"


class BlockedByRobots(TrainingError):
    """The website's robots.txt does not allow this page to be read."""

    code = "blocked_by_robots"


class Forbidden(TrainingError):
    """The page needs a login (it answered 401 or 403). Make it public or upload its text."""

    code = "forbidden"


class NotFound(TrainingError):
    """The page or file does not exist. Check the address or upload the file again."""

    code = "not_found"


class TooManyRedirects(TrainingError):
    """The page redirects too often. Give the address it ends at."""

    code = "too_many_redirects"


class TooLarge(TrainingError):
    """The page or file is larger than allowed. Split it or raise the limit."""

    code = "too_large"


class TooManyPages(TrainingError):
    """The website has more pages than are read of it. Raise max_pages, or narrow include and exclude."""

    code = "too_many_pages"


class FetchTimeout(TrainingError):
    """The server took too long to answer. It is tried again by itself."""

    code = "timeout"
    retryable = True


class FetchFailed(TrainingError):
    """The server could not be reached or answered with an error. It is tried again by itself."""

    code = "fetch_failed"
    retryable = True


class BadResponse(TrainingError):
    """The server refused the request or sent something that can't be read. Check that the page opens in a browser."""

    code = "bad_response"


class UnknownHost(TrainingError):
    """There is no website of this name. Check the address for a typing mistake."""

    code = "unknown_host"


class UnsupportedType(TrainingError):
    """This type of file can't be read. Use a web page, PDF, an office document, EPUB, CSV, Markdown or plain text."""

    code = "unsupported_type"


class EncryptedDocument(TrainingError):
    """The document is protected by a password. Upload it without one."""

    code = "encrypted_document"


class MalformedDocument(TrainingError):
    """The document is damaged and can't be read. Save it again and upload it anew."""

    code = "malformed_document"


class NoText(TrainingError):
    """There is no text to learn from: an empty page, or a scan without a text layer."""

    code = "no_text"


class NeedsRendering(TrainingError):
    """The page is empty until its JavaScript runs. Set `render` for this source, or give its text as a text source."""

    code = "needs_rendering"


class ParserTimeout(TrainingError):
    """Reading the document took too long. Split it or save it in a simpler form."""

    code = "parser_timeout"


class ParserOutOfMemory(TrainingError):
    """Reading the document took too much memory. Split it or save it in a simpler form."""

    code = "parser_out_of_memory"


class ParserCrashed(TrainingError):
    """The document made its reader crash. Save it again in another form and upload it anew."""

    code = "parser_crashed"


class EmbeddingRejected(TrainingError):
    """The embedding provider refused this text."""

    code = "embedding_rejected"


class EmbeddingMisconfigured(EmbeddingRejected):
    """The embedding provider does not accept our key, model or dimensions. Its settings need to be corrected."""

    code = "embedding_misconfigured"


class QuotaExceeded(TrainingError):
    """The organisation's limit is used up. Raise it or wait for the next period."""

    code = "quota_exceeded"


class RemovalsHeld(TrainingError):
    """Much of what this source held is gone from its website. The old answers stay until the new ones are released."""

    code = "removals_held"


class QuestionsLost(TrainingError):
    """The new version would lose answers to your test questions. The old answers stay until the new ones are released."""

    code = "test_questions_failed"


class CrashedRepeatedly(TrainingError):
    """Training this source ended its worker several times; it is set aside until it is queued again."""

    code = "crashed_repeatedly"


def training_errors() -> list[type[ServiceError]]:
    """All errors that can end on a training job and its dashboard row, by code (documented in training_flow.md)."""
    found: list[type[ServiceError]] = [*TrainingError.__subclasses__(), *DependencyError.__subclasses__()]
    for cls in found:
        found.extend(cls.__subclasses__())
    return sorted([ServiceError, *found], key=lambda cls: cls.code)
