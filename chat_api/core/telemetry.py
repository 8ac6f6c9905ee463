"""Logs of both sides: readable on a terminal, JSON elsewhere, never a secret; and the request id that joins them."""

import fcntl
import logging
import os
import re
import secrets
import sys
import time
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from chat_api.core.redaction import make_redactor, redact_field, secret_values
from chat_api.core.settings import Settings

LOG_FILES_KEPT = 14
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
# They write a line per request or frame, with addresses and bodies in it; what matters of it is in our own lines.
_CHATTY = (
    "asyncio",
    "botocore",
    "boto3",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "openai",
    "s3transfer",
    "urllib3",
    "websockets",
)


def accept_request_id(offered: str | None) -> str:
    """The caller's request id when it is well-formed (8-64 of A-Z a-z 0-9 . _ -), else a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)


def bind_request_id(request_id: str | None) -> None:
    """Puts the request id into every log line of this context; None (a run nobody asked for) removes it."""
    if request_id:
        structlog.contextvars.bind_contextvars(request_id=request_id)
    else:
        structlog.contextvars.unbind_contextvars("request_id")


def current_request_id() -> str | None:
    """The request id bound to this context, or None."""
    found = structlog.contextvars.get_contextvars().get("request_id")
    return found if isinstance(found, str) else None


def configure_logging(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Sends structlog's and everybody else's logs through one redacting format to stderr and LOG_FILE.

    Called once by each process at its start. `stream` replaces stderr. Raises OSError when LOG_FILE can't be written.
    """
    redactor = _Redactor(settings)
    handlers = [_console(stream or sys.stderr, redactor)]
    if settings.log_file:
        handlers.append(_file(Path(settings.log_file), redactor))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(settings.log_level)
    _rein_in_libraries()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


class _Redactor:
    """The processor that masks secrets in every value of an event, after exceptions have become text."""

    def __init__(self, settings: Settings) -> None:
        self._redact = make_redactor(secret_values(settings))

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {self._redact(name): redact_field(name, value, self._redact) for name, value in event.items()}


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(redactor: _Redactor, renderer: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            # Before the renderer: on a terminal it would show the local variables, and that is where secrets live.
            structlog.processors.format_exc_info,
            redactor,
            renderer,
        ],
    )


def _console(stream: TextIO, redactor: _Redactor) -> logging.Handler:
    renderer = structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(redactor, renderer))
    return handler


class SharedLogFile(TimedRotatingFileHandler):
    """A file that several processes log to: the first one after midnight renames it, the others follow."""

    def doRollover(self) -> None:  # noqa: N802  # the library's name
        """Renames the file, unless another process has; under a lock, since a second renaming would lose a day."""
        with Path(self.baseFilename).with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.stream and self._is_renamed(self.stream):
                self.stream.close()
                self.stream = self._open()
                self.rolloverAt = self.computeRollover(int(time.time()))
            else:
                super().doRollover()

    def _is_renamed(self, stream: TextIO) -> bool:
        try:
            return not os.path.samestat(os.fstat(stream.fileno()), os.stat(self.baseFilename))  # noqa: PTH116
        except FileNotFoundError:
            return True


def _file(path: Path, redactor: _Redactor) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = SharedLogFile(path, when="midnight", backupCount=LOG_FILES_KEPT, encoding="utf-8")
    handler.setFormatter(_formatter(redactor, structlog.processors.JSONRenderer()))
    return handler


def _rein_in_libraries() -> None:
    logging.captureWarnings(True)
    # A line that can't be formatted would otherwise be printed raw to stderr, past all redaction.
    logging.raiseExceptions = False
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)  # LOG_LEVEL decides
        logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    logging.getLogger("uvicorn.error").addFilter(_no_websocket_lines)


def _no_websocket_lines(record: logging.LogRecord) -> bool:
    """Drops uvicorn's line per WebSocket: it has the raw query, which may carry a token; ours says the rest."""
    return '"WebSocket %s"' not in str(record.msg)
