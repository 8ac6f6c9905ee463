"""Whether the process's login to the chat database may do more than its work: past row-level security, or to the schema."""

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.pool import NullPool

from chat_api.core.database import DATABASE_DOWN, bounded
from chat_api.core.settings import Settings

log = structlog.get_logger(__name__)

POWERS = text("""
    SELECT rolname AS name, rolsuper AS is_superuser, rolbypassrls AS bypasses,
           EXISTS (SELECT FROM pg_class WHERE relnamespace = CAST(current_schema() AS regnamespace)
                   AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'MEMBER')) AS owns
    FROM pg_roles WHERE rolname = current_user
""")


class PowerfulLoginError(Exception):
    """The login to the chat database may do more than it should."""


def login_problem(connection: Connection) -> str | None:
    """Why the connection's login is none to run API or workers with, in a sentence; None for one that is."""
    login = connection.execute(POWERS).one()
    if login.is_superuser:
        what = "is a superuser"
    elif login.bypasses:
        what = "bypasses row-level security"
    elif login.owns:
        what = "owns the tables"
    else:
        return None
    return (
        f"PYTHON_CHAT_DB_USERNAME: {login.name} {what}, so that nothing but the statements keeps orgs apart. Use a login"
        " of deploy/sql/roles.sql, or set ALLOW_POWERFUL_DB_LOGIN=true."
    )


def must_be_modest(settings: Settings) -> bool:
    """Whether a login with a problem is refused: in production, unless told otherwise."""
    return settings.in_production and not settings.allow_powerful_db_login


def check_login(settings: Settings, engine: Engine | None = None) -> None:
    """Raises PowerfulLoginError where the login `must_be_modest` and is not; elsewhere that is a warning.

    A database that is away, or does not answer, is none of its business: `/readyz` asks again, and so does every worker
    process.
    """
    engine = engine or bounded(settings.chat_db_url(), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            problem = login_problem(connection)
    except DATABASE_DOWN:
        return
    if problem and must_be_modest(settings):
        raise PowerfulLoginError(problem)
    if problem:
        log.warning("powerful_db_login", problem=problem)
