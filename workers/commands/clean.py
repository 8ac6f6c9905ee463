"""Removes at once what the sweeper would remove bit by bit: data of deleted sources and of generations nobody reads."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, text

from chat_api.core.database import of_org
from workers.sweeper import GIVE_UP_BUILDS, collect_discarded

AT_ONCE = 20_000
DISCARDED = text(
    "SELECT org_id, count(*) AS number FROM generations WHERE state = 'discarded' GROUP BY org_id ORDER BY org_id"
)
CHUNKS = text("""
    SELECT count(*) FROM generations JOIN chunks USING (org_id, bot_id, source_id, generation)
    WHERE org_id = :org_id AND state = 'discarded'
""")


@dataclass(frozen=True, slots=True)
class Rubbish:
    """What nobody can read any more."""

    generations: int
    chunks: int


def count_rubbish(chat: Engine) -> Rubbish:
    """What there is to remove, builds of runs that are over included."""
    with chat.begin() as connection:
        connection.execute(GIVE_UP_BUILDS)
        generations = {row.org_id: row.number for row in connection.execute(DISCARDED)}
    chunks = 0
    for org_id in generations:
        with of_org(chat, org_id).connect() as connection:
            chunks += connection.execute(CHUNKS, {"org_id": org_id}).scalar_one()
    return Rubbish(sum(generations.values()), chunks)


def clean(chat: Engine, removed: Callable[[int], None]) -> None:
    """Removes it all, 20,000 rows in a transaction; `removed` is told how many generations are left after each."""
    while True:
        with chat.begin() as connection:
            if collect_discarded(connection, AT_ONCE) is None:
                return
        with chat.connect() as connection:
            removed(connection.execute(text("SELECT count(*) FROM generations WHERE state = 'discarded'")).scalar_one())
