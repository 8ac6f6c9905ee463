"""Logs: one format for all, on every handler, and no secret in it in whatever way it was logged."""

import io
import json
import logging
import logging.handlers
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from chat_api.core.redaction import MASK
from chat_api.core.settings import Settings
from chat_api.core.telemetry import (
    LOG_FILES_KEPT,
    SharedLogFile,
    accept_request_id,
    bind_request_id,
    configure_logging,
    current_request_id,
)
from tests.chat_api.forge import Forge

DB_PASSWORD = 'pa55/"quoted" wörd'
REDIS_PASSWORD = "redis%2Fcanary"
API_KEY = "sk-proj-CanaryKey_0123456789"
STORAGE_KEY = "c4n4ry+storage/key=="
TOKEN = Forge().token()
LOGGERS = ["chat_api.anything", "uvicorn.error", "uvicorn", "rq.worker", "sqlalchemy.engine", "openai", "py.warnings"]


class Terminal(io.StringIO):
    """A stream that says to be a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


Configure = Callable[..., io.StringIO]


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    """Gives the test run its own logging back."""
    root = logging.getLogger()
    names = ["uvicorn", "uvicorn.error", "uvicorn.access"]
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)
    logging.captureWarnings(False)
    for name in names:
        logger = logging.getLogger(name)
        logger.propagate, logger.filters[:] = True, []
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def secretive(offline: Callable[..., Settings], tmp_path: Path) -> Settings:
    """Settings full of secrets, with a log file."""
    return offline(
        log_level="DEBUG",
        log_file=str(tmp_path / "logs" / "app.log"),
        python_chat_db_password=DB_PASSWORD,
        dashboard_db_password=DB_PASSWORD,
        redis_url=f"redis://user:{REDIS_PASSWORD}@127.0.0.1:1/0",
        openai_api_key=API_KEY,
        access_key_id="key",
        secret_access_key=STORAGE_KEY,
    )


@pytest.fixture
def everywhere(secretive: Settings, logs_as_they_were: None) -> Callable[[], dict[str, str]]:
    """Logging to a terminal and to the file; what was written so far."""
    terminal = Terminal()
    configure_logging(secretive, stream=terminal)
    return lambda: {"terminal": terminal.getvalue(), "file": Path(str(secretive.log_file)).read_text()}


def raised(error: Exception) -> Exception:
    """An exception with a traceback and a cause."""
    hidden = "-".join(["local", "canary"])
    assert hidden
    error.__cause__ = ValueError(f"because of {error}")
    try:
        raise error
    except type(error) as caught:
        return caught


class Holder:
    """An object whose repr tells what it holds."""

    def __init__(self, held: str) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"Holder({self.held!r})"


def _exception(logger: Any, secret: str) -> None:
    logger.error("failed", exc_info=raised(RuntimeError(f"could not use {secret} there")))


def _in_context(logger: Any, secret: str) -> None:
    with structlog.contextvars.bound_contextvars(it=secret):
        logger.info("got")


WAYS: dict[str, Callable[[Any, str], None]] = {
    "the event": lambda logger, secret: logger.info(secret),
    "an argument": lambda logger, secret: logger.info("got %s", secret),
    "a quoted argument": lambda logger, secret: logger.warning("got %r", secret),
    "an argument in a list": lambda logger, secret: logger.warning("got %s", [secret]),
    "an object": lambda logger, secret: logger.error("got %s", Holder(secret)),
    "an exception as argument": lambda logger, secret: logger.error("got %s", raised(ValueError(secret))),
    "an exception": _exception,
    "a stack": lambda logger, secret: logger.error("got %s", secret, stack_info=True),
    "a bad format": lambda logger, secret: logger.info("%d", secret),
}

STRUCTURED: dict[str, Callable[[Any, str], None]] = {
    "a value": lambda logger, secret: logger.info("got", it=secret),
    "a long value": lambda logger, secret: logger.info("got", it=f"x{' ' * 5000}{secret}"),
    "a name": lambda logger, secret: logger.info("got", **{secret: 1}),
    "inside": lambda logger, secret: logger.info("got", it={"a": [{"b": (secret, {secret})}], secret: 1}),
    "bytes": lambda logger, secret: logger.info("got", it=secret.encode()),
    "an object": lambda logger, secret: logger.info("got", it=Holder(secret)),
    "an exception": lambda logger, secret: logger.error("got", error=raised(ValueError(secret))),
    "exc_info": lambda logger, secret: logger.error("got", exc_info=raised(KeyError(secret))),
    "bound": lambda logger, secret: logger.bind(it=secret).info("got"),
    "bound to the context": _in_context,
    "by its name": lambda logger, secret: logger.info("got", password="x" + secret, access_token="y" + secret),
}


SECRETS = [TOKEN, API_KEY, DB_PASSWORD, STORAGE_KEY, REDIS_PASSWORD, "redis/canary"]


def spellings(secret: str) -> set[str]:
    """How a secret may look in a log."""
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], ascii(secret)[1:-1]}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", WAYS)
def test_secret_logged_by_a_library_is_masked(way: str, secret: str, everywhere: Callable[[], dict[str, str]]) -> None:
    for name in LOGGERS:
        WAYS[way](logging.getLogger(name), secret)
    for place, text in everywhere().items():
        assert not any(spelling in text for spelling in spellings(secret)), place


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", STRUCTURED)
def test_secret_logged_by_us_is_masked(way: str, secret: str, everywhere: Callable[[], dict[str, str]]) -> None:
    STRUCTURED[way](structlog.get_logger("chat_api.tests"), secret)
    for place, text in everywhere().items():
        assert MASK in text, place
        assert not any(spelling in text for spelling in spellings(secret)), place


def test_bad_format_is_not_printed_to_stderr(
    everywhere: Callable[[], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("anything").info("%d", TOKEN)
    assert TOKEN not in capsys.readouterr().err


def test_warnings_are_logged_and_masked(everywhere: Callable[[], dict[str, str]]) -> None:
    warnings.warn(f"deprecated: {API_KEY}", stacklevel=1)
    text = everywhere()["file"]
    assert "deprecated" in text
    assert API_KEY not in text


def test_uvicorns_lines_with_a_query_are_dropped(everywhere: Callable[[], dict[str, str]]) -> None:
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" [accepted]', "127.0.0.1:1", "/ws?%74oken=canary")
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "1", "GET", "/?%74oken=canary", "1.1", 200)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 1)
    for text in everywhere().values():
        assert "canary" not in text
        assert "Started server process [1]" in text


def test_json_lines_elsewhere(offline: Callable[..., Settings], logs_as_they_were: None) -> None:
    stream = io.StringIO()
    configure_logging(offline(), stream=stream)
    bind_request_id("request-1")
    structlog.get_logger("chat_api.tests").info("trained", chunks=3)
    logging.getLogger("rq.worker").warning("done %s", "it")
    structlog.get_logger("chat_api.tests").debug("too fine")
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (ours["event"], ours["chunks"], ours["level"], ours["logger"]) == ("trained", 3, "info", "chat_api.tests")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("done it", "warning", "rq.worker")
    assert ours["request_id"] == theirs["request_id"] == "request-1"
    assert ours["timestamp"] <= theirs["timestamp"]


def test_readable_on_a_terminal_and_json_in_the_file(everywhere: Callable[[], dict[str, str]]) -> None:
    structlog.get_logger("chat_api.tests").info("trained", chunks=3)
    written = everywhere()
    assert "trained" in written["terminal"]
    assert not written["terminal"].startswith("{")
    assert json.loads(written["file"])["chunks"] == 3


def test_exceptions_come_with_their_traceback_and_no_local_variables(everywhere: Callable[[], dict[str, str]]) -> None:
    structlog.get_logger("chat_api.tests").error("failed", exc_info=raised(RuntimeError("of 12 letters")))
    for text in everywhere().values():
        assert "RuntimeError: of 12 letters" in text
        assert "in raised" in text
        assert "local-canary" not in text


def test_log_file_is_rotated_at_midnight_and_14_are_kept(
    secretive: Settings, everywhere: Callable[[], dict[str, str]]
) -> None:
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, logging.handlers.TimedRotatingFileHandler)]
    assert handler.when == "MIDNIGHT"
    folder = Path(str(secretive.log_file)).parent
    for day in range(1, 21):
        (folder / f"app.log.2020-01-{day:02}").write_text("old")
    handler.rolloverAt = int(time.time()) - 1
    structlog.get_logger("chat_api.tests").info("after midnight")
    assert len(list(folder.glob("app.log.*"))) == 14
    assert "after midnight" in everywhere()["file"]


def test_log_file_that_can_not_be_written(
    offline: Callable[..., Settings], tmp_path: Path, logs_as_they_were: None
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        configure_logging(offline(log_file=str(tmp_path / "file" / "app.log")), stream=io.StringIO())


def test_request_ids() -> None:
    assert accept_request_id("abcd-1234") == "abcd-1234"
    assert accept_request_id(None) != accept_request_id(None)
    for bad in ("short", "x" * 65, "white space", "new-line-\n", "ünïcödé-id"):
        assert accept_request_id(bad) != bad
    assert current_request_id() is None
    bind_request_id("abcd-1234")
    assert current_request_id() == "abcd-1234"
    bind_request_id(None)
    assert current_request_id() is None


def test_importing_telemetry_configures_nothing() -> None:
    code = "import logging, chat_api.core.telemetry; print(logging.getLogger().handlers, logging.raiseExceptions)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[] True"


def test_processes_that_share_a_log_file_lose_nothing_at_midnight(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    handlers = [SharedLogFile(path, when="midnight", backupCount=LOG_FILES_KEPT, encoding="utf-8") for _ in range(3)]
    for handler in handlers:
        handler.emit(logging.makeLogRecord({"msg": "before"}))
        handler.rolloverAt = 0
    for handler in handlers:
        handler.emit(logging.makeLogRecord({"msg": "after"}))
        handler.close()
    [rotated] = [file for file in tmp_path.iterdir() if file.suffix not in {".log", ".lock"}]
    assert rotated.read_text() == "before\n" * 3
    assert path.read_text() == "after\n" * 3
