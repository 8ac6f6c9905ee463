"""The operator's word: what the brakes hold back may go."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, text

from chat_api.core.database import of_org
from chat_api.core.releases import HOLD_BOT, HOLD_SOURCE, LOOK, MOVE, POINT, SUCCEED, UNREADABLE
from workers.reconcile.burial import bury
from workers.reconcile.verdicts import Place

AT_ONCE = 1_000
HELD = text("""
    SELECT org_id, bot_id, source_id FROM sources
    WHERE (source_id = :named_id OR bot_id = :named_id) AND removal_held_at IS NOT NULL AND deleted_at IS NULL
    ORDER BY source_id, bot_id
""")
PARKED = text("""
    SELECT org_id, bot_id, source_id, max(generation) AS generation FROM generations
    WHERE source_id = :named_id AND state = 'parked' GROUP BY org_id, bot_id, source_id
""")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What became of what was held: sources removed, generations released, and those of another space, which can't be."""

    removed: int
    released: int
    unreadable: int


def allow_removals(chat: Engine, named_id: UUID) -> Allowed:
    """Removes the source if its removal is held, and lets its parked generation go live.

    A bot's id stands for all its sources whose removal is held. Their parked generations stay: each has its own diff.
    """
    values = {"named_id": named_id}
    with chat.connect() as connection:
        held = [Place(*row) for row in connection.execute(HELD, values)]
        parked = connection.execute(PARKED, values).all()
    batches = (held[first : first + AT_ONCE] for first in range(0, len(held), AT_ONCE))
    removed = [place for batch in batches for place in bury(chat, batch, marked=True)]
    released = [_release(chat, row) for row in parked if Place(*row[:3]) not in removed]
    return Allowed(len(removed), released.count("released"), released.count("unreadable"))


def _release(chat: Engine, parked: Row[Any]) -> Literal["released", "unreadable", "gone"]:
    """Has the parked generation answer, unless it was embedded with another model than the bot reads.

    It is gone when the source was deleted, or has a newer generation, since it was found.
    """
    values = {**parked._asdict(), "pinned_version": None}
    with of_org(chat, parked.org_id).connect() as connection, connection.begin() as transaction:
        if not _still_parked(connection, values):
            return "gone"
        for statement in (MOVE, POINT):
            connection.execute(statement, values)
        space_id = connection.execute(HOLD_BOT, values).scalar_one_or_none()
        if connection.execute(UNREADABLE, {**values, "space_id": space_id}).scalar_one():
            transaction.rollback()
            return "unreadable"
    return "released"


def _still_parked(connection: Connection, values: dict[str, Any]) -> bool:
    """Holds the source; whether its generation is parked, whose run then has succeeded."""
    if connection.execute(HOLD_SOURCE, values).one_or_none() is None:
        return False
    found = connection.execute(LOOK, values).one_or_none()
    if found is None or found.state != "parked":
        return False
    connection.execute(SUCCEED, {**values, "job_id": found.job_id})
    return True
