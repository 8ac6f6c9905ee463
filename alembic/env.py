"""Runs migrations on the chat database, one at a time over all replicas, and none that holds its readers up for long."""

import os
import re
import time

from alembic.util import CommandError
from psycopg.errors import LockNotAvailable
from sqlalchemy import URL, Engine, create_engine, make_url, pool, text
from sqlalchemy.exc import OperationalError

from alembic import command, context
from chat_api.core.migrations import newer_revisions
from chat_api.core.models import ChatBase
from chat_api.core.settings import load_settings

ONE_AT_A_TIME = 7_204_415_801_362_517  # an advisory lock's key: any number that only migrations use
LOCK_WITHIN_S, TRY_AGAIN_S = 5, 5
"""How long a table's lock is waited for, since whoever asks for the table meanwhile waits behind; and the pause after."""
TRIES = "12"


def address() -> URL:
    """CHAT_DB_URL when given (tests, other tools), else the settings' migrator."""
    given = os.environ.get("CHAT_DB_URL")
    return make_url(given).set(drivername="postgresql+psycopg") if given else load_settings().chat_db_url(migrator=True)


def is_ours_to_compare(_item: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    """False for partitions, which the models don't list one by one."""
    return not (kind == "table" and re.fullmatch(r"(chunks|embeddings)_\d\d", name or ""))


def run() -> None:
    """Does what was asked, again while somebody holds a table; `-x tries=N` says how often. Raises CommandError."""
    engine = create_engine(address(), poolclass=pool.NullPool, connect_args={"connect_timeout": 10})
    tries = max(1, int(context.get_x_argument(as_dictionary=True).get("tries", TRIES)))
    for left in reversed(range(tries)):
        try:
            attempt(engine)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
        else:
            return
        if left:
            say(f"A table is in use: nothing is changed yet; the next of {left} more tries is in {TRY_AGAIN_S} s.")
            time.sleep(TRY_AGAIN_S)
    raise CommandError(
        f"a table was in use for longer than {LOCK_WITHIN_S} s at each of {tries} tries, by a backup perhaps (pg_dump), or"
        " by a transaction that somebody left open. Nothing was changed. End it (see pg_stat_activity) or wait, and"
        " migrate again."
    )


def attempt(engine: Engine) -> None:
    """Everything inside one transaction, so that a failed migration leaves nothing behind."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WITHIN_S}s'")
        if is_upgrade() and (newer := newer_revisions(connection)):
            say(f"The database is at {', '.join(sorted(newer))}, of a newer version than this one: nothing to do.")
            return
        context.configure(connection=connection, target_metadata=ChatBase.metadata, include_object=is_ours_to_compare)
        context.run_migrations()


def is_upgrade() -> bool:
    """Whether the command line says `upgrade`: of a database that a newer version has migrated that asks nothing."""
    said = getattr(context.config.cmd_opts, "cmd", None)
    return bool(said) and said[0] is command.upgrade


def say(line: str) -> None:
    """A line for who watches."""
    print(line, flush=True)  # noqa: T201  # a command's answer


if context.is_offline_mode():
    context.configure(url=address(), target_metadata=ChatBase.metadata, literal_binds=True)
    context.run_migrations()
else:
    run()
