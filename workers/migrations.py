"""Keeps workers from a chat database that lacks migrations they need: whatever is due would fail there, and for good."""

import threading
import time

import structlog
from sqlalchemy import Engine

from chat_api.core.database import DATABASE_DOWN
from chat_api.core.migrations import pending_migration

LOOK_AGAIN_S = 1.0
SAY_AGAIN_S = 30.0
log = structlog.get_logger(__name__)


class MigrationsMissingError(Exception):
    """The chat database lacks migrations that this version's workers need; nothing may be claimed there."""


def wait_for_migrations(chat: Engine, ended: threading.Event) -> None:
    """Returns once the database has them, or `ended` is set; one that is away may lack them, and is waited for."""
    said_at = -SAY_AGAIN_S
    while not ended.is_set():
        try:
            check_migrations(chat)
        except (MigrationsMissingError, *DATABASE_DOWN) as error:
            if time.monotonic() - said_at >= SAY_AGAIN_S:
                said_at = time.monotonic()
                _say(error)
            ended.wait(LOOK_AGAIN_S)
        else:
            return


def check_migrations(chat: Engine) -> None:
    """Raises MigrationsMissingError naming the newest one where some are missing, and what a database raises."""
    with chat.connect() as connection:
        if pending := pending_migration(connection):
            raise MigrationsMissingError(f"run the migrations: {pending} is missing")


def _say(error: Exception) -> None:
    known = isinstance(error, MigrationsMissingError)
    log.warning("migrations_awaited", problem=str(error) if known else f"no answer ({type(error).__name__})")
