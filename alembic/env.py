"""Runs migrations on the chat database, one at a time over all replicas."""

import os
import re

from sqlalchemy import URL, create_engine, make_url, pool, text

from alembic import context
from chat_api.core.models import ChatBase
from chat_api.core.settings import load_settings

ONE_AT_A_TIME = 7_204_415_801_362_517  # an advisory lock's key: any number that only migrations use


def address() -> URL:
    """CHAT_DB_URL when given (tests, other tools), else the settings' migrator."""
    given = os.environ.get("CHAT_DB_URL")
    return make_url(given).set(drivername="postgresql+psycopg") if given else load_settings().chat_db_url(migrator=True)


def is_ours_to_compare(_item: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    """False for partitions, which the models don't list one by one."""
    return not (kind == "table" and re.fullmatch(r"(chunks|embeddings)_\d\d", name or ""))


def run() -> None:
    """Upgrades inside one transaction, so that a failed migration leaves nothing behind."""
    engine = create_engine(address(), poolclass=pool.NullPool, connect_args={"connect_timeout": 10})
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
        context.configure(connection=connection, target_metadata=ChatBase.metadata, include_object=is_ours_to_compare)
        context.run_migrations()


if context.is_offline_mode():
    context.configure(url=address(), target_metadata=ChatBase.metadata, literal_binds=True)
    context.run_migrations()
else:
    run()
